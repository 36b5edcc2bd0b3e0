"""Running moments against NumPy's over the whole stream."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.normalizer import RunningNormalizer
from agents.state import load_state, save_state


def stream(n: int = 500) -> np.ndarray:
    """Columns of very different location and scale."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)) * [1.0, 1e-3, 50.0] + [0.0, 10.0, -1e3]


@pytest.mark.parametrize("cuts", [[], [1], [1, 2, 3, 250], list(range(1, 500))])
def test_moments_do_not_depend_on_the_batches(cuts: list[int]) -> None:
    data = stream()
    normalizer = RunningNormalizer(3)
    for batch in np.split(data, cuts):
        normalizer.update(batch)
    np.testing.assert_allclose(normalizer.mean, data.mean(0), rtol=1e-10)
    np.testing.assert_allclose(normalizer.variance, data.var(0), rtol=1e-10)
    assert normalizer.count == 500


def test_an_empty_batch_changes_nothing() -> None:
    normalizer = RunningNormalizer(3)
    normalizer.update(stream())
    normalizer.update(np.zeros((0, 3)))
    np.testing.assert_allclose(normalizer.mean, stream().mean(0), rtol=1e-10)


def test_output_is_standardized_and_clipped() -> None:
    data = stream()
    normalizer = RunningNormalizer(3, clip=2.5)
    normalizer.update(data)
    out = normalizer(torch.tensor(data, dtype=torch.float32))
    expected = ((data - data.mean(0)) / np.sqrt(data.var(0) + 1e-8)).clip(-2.5, 2.5)
    assert (np.abs(expected) == 2.5).any()  # some values are clipped
    # Rounding 10 to float32 is 5e-7 off, which is 5e-4 of the second column's deviation.
    np.testing.assert_allclose(out[:, [0, 2]], expected[:, [0, 2]], atol=2e-5)
    np.testing.assert_allclose(out[:, 1], expected[:, 1], atol=2e-3)


def test_fresh_normalizer_is_the_identity() -> None:
    x = torch.tensor([[0.5, -3.0, 20.0]])
    expected = torch.tensor([[0.5, -3.0, 10.0]])  # but for the clipping
    torch.testing.assert_close(RunningNormalizer(3)(x), expected)


def test_restored_normalizer_goes_on_identically(tmp_path: Path) -> None:
    first, second = RunningNormalizer(3), RunningNormalizer(3)
    first.update(stream()[:100])
    save_state(tmp_path, first.state_dict())
    second.load_state_dict(load_state(tmp_path))
    x = torch.ones(2, 3)
    assert torch.equal(first(x), second(x))
    for normalizer in (first, second):
        normalizer.update(stream()[100:])
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.variance, second.variance)
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("name", ["mean", "variance"])
def test_refuses_another_size(name: str) -> None:
    normalizer = RunningNormalizer(3)
    state = {**normalizer.state_dict(), name: np.ones(4)}
    with pytest.raises(ValueError, match="size"):
        normalizer.load_state_dict(state)


@pytest.mark.parametrize(
    "change",
    [
        {"count": float("inf")},
        {"mean": np.array([0.0, np.inf, 0.0])},
        {"variance": np.array([1.0, 1.0, -1.0])},
    ],
)
def test_refuses_statistics_that_make_no_sense(change: dict[str, Any]) -> None:
    normalizer = RunningNormalizer(3)
    with pytest.raises(ValueError, match="infinite or negative"):
        normalizer.load_state_dict(normalizer.state_dict() | change)
