"""Jittered pictures: what moves, what stays, and what colours do."""

import torch

from sim2real.jitter import jitter

POSITIONS = torch.arange(12.0).view(4, 3)


def marked() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures with one bright pixel each, and where it is."""
    rows, columns = torch.tensor([10, 11, 12, 13]), torch.tensor([8, 16, 20, 9])
    pictures = torch.full((4, 3, 32, 32), 10, dtype=torch.uint8)
    pictures[torch.arange(4), :, rows, columns] = torch.tensor([50, 100, 150], dtype=torch.uint8)
    return pictures, (torch.stack([columns, rows], 1)[:, None] + 0.5) / 32


def test_places_move_with_the_pictures_and_positions_stay() -> None:
    pictures, places = marked()
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(20):
        moved, positions, where = jitter((pictures, POSITIONS, places), generator, 3, 0.0, 0.0)
        assert torch.equal(positions, POSITIONS)
        for picture, (u, v), before in zip(
            moved, where[:, 0].tolist(), places[:, 0].tolist(), strict=True
        ):
            assert picture[:, int(32 * v), int(32 * u)].tolist() == [50, 100, 150]
            assert (picture == 10).sum() == 3 * (32 * 32 - 1)
            seen.add((round(32 * (u - before[0])), round(32 * (v - before[1]))))
    assert {abs(part) for by in seen for part in by} == {0, 1, 2, 3}
    assert min(min(by) for by in seen) == -3


def test_edges_are_drawn_out() -> None:
    columns = torch.arange(32, dtype=torch.uint8).expand(1, 3, 32, 32)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        (moved, _, where) = jitter(
            (columns, POSITIONS[:1], torch.zeros(1, 1, 2)), generator, 3, 0.0, 0.0
        )
        by = round(32 * where[0, 0, 0].item())
        expected = (torch.arange(32) - by).clamp(0, 31)
        assert torch.equal(moved[0, 0, 0], expected.to(torch.uint8))


def test_channels_change_places_and_strengths() -> None:
    pictures, places = marked()
    generator = torch.Generator().manual_seed(0)
    orders, factors = set(), []
    for _ in range(40):
        changed, _, where = jitter((pictures, POSITIONS, places), generator, 0, 0.3, 0.0)
        assert torch.equal(where, places)
        for picture, (u, v) in zip(changed, places[:, 0].tolist(), strict=True):
            pixel = picture[:, int(32 * v), int(32 * u)].float()
            # Of each channel: the one it was, told by how much brighter its pixel is.
            ratio = pixel / picture[:, 0, 0].float()
            was = (ratio[:, None] - torch.tensor([5.0, 10.0, 15.0])).abs().argmin(1)
            orders.add(tuple(was.tolist()))
            factors += (pixel / torch.tensor([50.0, 100.0, 150.0])[was]).tolist()
    assert len(orders) == 6
    assert 0.69 < min(factors) < 0.75
    assert 1.25 < max(factors) < 1.31


def test_without_jitter_nothing_changes() -> None:
    pictures, places = marked()
    batch = (pictures, POSITIONS, places)
    same = jitter(batch, torch.Generator(), 0, 0.0, 0.0)
    assert all(a is b for a, b in zip(same, batch, strict=True))


def test_bright_pixels_do_not_wrap_around() -> None:
    white = torch.full((8, 3, 4, 4), 250, dtype=torch.uint8)
    changed, *_ = jitter((white, white, white), torch.Generator().manual_seed(0), 0, 0.3, 0.0)
    assert changed.min() >= 0.69 * 250


def test_blots_of_all_sizes_darken_what_lies_under_them() -> None:
    pictures = torch.full((64, 3, 32, 32), 200, dtype=torch.uint8)
    batch = (pictures, torch.zeros(64, 3), torch.rand(64, 1, 2))
    changed, positions, places = jitter(batch, torch.Generator().manual_seed(0), 0, 0.0, 0.7)
    assert positions is batch[1]
    assert places is batch[2]
    assert torch.equal(changed[:, 0], changed[:, 2])  # of every channel the same share
    assert changed.min() < 0.4 * 200
    assert changed.min() >= int(0.3 * 200)
    shares = (changed[:, 0] < 200).float().mean((1, 2))
    assert (shares == 0).any()  # none in some
    assert shares[shares > 0].min() < 0.02
    assert shares.max() > 0.1
    # Within a picture, a blot is as dark in its middle as at its edge.
    assert max(len(picture.unique()) for picture in changed) == 3  # where blots meet, the darker
