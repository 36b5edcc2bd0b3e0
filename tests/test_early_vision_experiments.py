"""What LeNet-5's and AlexNet's experiments do to rates and pictures."""

import pytest
import torch

from runkit.papers import alexnet, lenet

from supervised import create
from supervised.vision.diagonal_lm import DiagonalLM


def test_lenet_follows_the_papers_table_of_rates() -> None:
    factor = lenet.schedule(100)
    assert [factor(step) for step in (0, 199, 200)] == pytest.approx([1.0, 1.0, 0.4])
    by_pass = [factor(100 * i + 50) * DiagonalLM.RATES[0] for i in range(25)]
    assert by_pass == pytest.approx([*DiagonalLM.RATES, *[1e-5] * 5])


def test_lenet_moves_by_the_mean_over_a_batch() -> None:
    """The paper's rate, whatever the batch."""
    x, y = torch.rand(8, 1, 32, 32), torch.arange(8)
    fit = lenet.make_fit(create("lenet"), x, y, lenet.Options(batch_size=4), seed=0)
    assert fit.rates == [DiagonalLM.RATES[0]]
    before = [p.detach().clone() for p in fit.model.parameters()]
    fit.run(2)
    assert all((p != b).any() for p, b in zip(fit.model.parameters(), before, strict=True))


def test_lenet_distorts_on_the_papers_background() -> None:
    x = torch.full((16, 1, 32, 32), -0.1)
    (distorted,) = lenet.distort((x,), torch.Generator().manual_seed(0))
    torch.testing.assert_close(distorted, x)


def test_alexnet_sees_pixels_less_the_mean_picture() -> None:
    pictures = torch.randint(256, (50, 3, 32, 40), generator=torch.Generator().manual_seed(0))
    preparation = alexnet.Preparation(pictures.to(torch.uint8))
    assert preparation.size == 28
    centred = preparation.centred(pictures.to(torch.uint8))
    torch.testing.assert_close(centred.mean(0), torch.zeros(3, 32, 40), atol=1e-3, rtol=0)
    assert torch.equal(preparation.middle(pictures), centred[:, :, 2:30, 6:34])


def test_alexnet_augments_by_place_reflection_and_colour() -> None:
    pictures = torch.randint(256, (64, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    preparation = alexnet.Preparation(pictures.to(torch.uint8))
    same = pictures[:1].expand(200, -1, -1, -1)
    targets = torch.arange(200)
    x, y = preparation.augmented((same, targets), torch.Generator().manual_seed(1))
    assert x.shape == (200, 3, 28, 28)
    assert torch.equal(y, targets)
    assert len({tuple(p[:, 0, 0].tolist()) for p in x}) > 190  # colours are of a continuum
    assert x.std().item() == pytest.approx(preparation.centred(same).std().item(), rel=0.1)
