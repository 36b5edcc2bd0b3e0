"""Adam against PyTorch's."""

import pytest
import torch

from agents.optimizer import Adam


def loss_of(parameters: list[torch.Tensor]) -> torch.Tensor:
    return sum(((p - 1).square() * (p + 2).cos() + p).sum() for p in parameters)  # type: ignore


def make(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (4,), ()]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


@pytest.mark.parity
def test_fifty_steps_are_those_of_torch() -> None:
    ours, theirs = make(), make()
    adam, reference = Adam(ours, 0.02), torch.optim.Adam(theirs, lr=0.02)
    for _ in range(50):
        adam.minimize(loss_of(ours))
        reference.zero_grad()
        loss_of(theirs).backward()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_moves_nothing_but_its_parameters() -> None:
    moved, fixed = make(), make(1)
    before = [p.detach().clone() for p in fixed]
    Adam(moved, 0.1).minimize(loss_of([a * b for a, b in zip(moved, fixed, strict=True)]))
    for now, then in zip(fixed, before, strict=True):
        assert torch.equal(now, then)
        assert now.grad is None


def test_state_continues_the_same_path_and_must_fit() -> None:
    one, other = make(), make()
    first = Adam(one, 0.1)
    first.minimize(loss_of(one))
    second = Adam(other, 0.1)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        for mine, theirs in zip(other, one, strict=True):
            mine.copy_(theirs)
    first.minimize(loss_of(one))
    second.minimize(loss_of(other))
    for mine, theirs in zip(other, one, strict=True):
        assert torch.equal(mine, theirs)
    with pytest.raises(ValueError, match="is not of"):
        Adam([torch.zeros(2), torch.zeros(4), torch.zeros(())], 0.1).load_state_dict(
            first.state_dict()
        )
