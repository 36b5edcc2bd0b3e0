"""Replay of pictures against a plain list of whole transitions."""

import itertools
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agents.observations import NUMBERS, PIXELS, Picture
from agents.replay import Batch, ReplayBuffer
from agents.state import load_state, save_state

ACTIONS = Discrete(5)


class Films:
    """Episodes of random frames in ``n_envs`` sub-environments, and the naive buffer of them.

    Args:
        kind: "grey", "one" (grey, without a dimension for the stack), "colour" or "dict".
        stack: frames of an observation.
        lengths: draws the number of steps of an episode.
        values: distinct grey values: with 2 of them, many frames are alike by chance.
        zeros: whether a reset pads its stack with black, and not with the first frame.

    """

    def __init__(
        self,
        kind: str,
        stack: int,
        n_envs: int,
        capacity: int,
        lengths: Any,
        values: int = 256,
        zeros: bool = False,
        seed: int = 0,
    ) -> None:
        self.kind, self.stack, self.n_envs, self.capacity = kind, stack, n_envs, capacity
        self.lengths, self.values, self.zeros = lengths, values, zeros
        self.rng = np.random.default_rng(seed)
        self.frame = (2, 3, 3) if kind == "colour" else (2, 3)
        shape = self.frame if kind == "one" else (stack, *self.frame)
        camera = Box(0, 255, shape, np.uint8)
        self.space = Dict(joints=Box(-1, 1, (2,)), camera=camera) if kind == "dict" else camera
        self.buffer = self.make()
        self.naive: list[dict[str, Any]] = []  # the last transitions, the oldest first
        self.now = [self.reset() for _ in range(n_envs)]
        self.left = [int(lengths(self.rng)) for _ in range(n_envs)]

    def make(self, seed: int = 0) -> ReplayBuffer:
        return ReplayBuffer(self.capacity, self.space, ACTIONS, seed, n_envs=self.n_envs)

    def new_frame(self) -> np.ndarray:
        return self.rng.integers(self.values, size=self.frame, dtype=np.uint8)

    def reset(self) -> dict[str, np.ndarray]:
        frame = self.new_frame()
        past = np.zeros_like(frame) if self.zeros else frame
        return self.observation([past] * (self.stack - 1) + [frame])

    def observation(self, frames: list[np.ndarray]) -> dict[str, np.ndarray]:
        joints = self.rng.uniform(-1, 1, 2).astype(np.float32)
        return {"camera": np.stack(frames), "joints": joints}

    def successor(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.observation([*observation["camera"][1:], self.new_frame()])

    def columns(self, observations: list[dict[str, np.ndarray]]) -> Any:
        """As an environment of this kind gives them."""
        cameras = np.array([o["camera"] for o in observations], np.uint8)
        cameras = cameras.reshape(-1, self.stack, *self.frame)
        if self.kind == "dict":
            joints = np.array([o["joints"] for o in observations], np.float32).reshape(-1, 2)
            return {"joints": joints, "camera": cameras}
        return cameras[:, 0] if self.kind == "one" else cameras

    def step(self, envs: list[int] | None = None) -> None:
        """One step of some sub-environments, or of all, into both buffers."""
        stepping = list(range(self.n_envs)) if envs is None else envs
        rows = []
        for env in stepping:
            self.left[env] -= 1
            done = self.left[env] <= 0
            terminated = done and bool(self.rng.integers(2))
            row: dict[str, Any] = {"before": self.now[env], "after": self.successor(self.now[env])}
            row |= {"terminated": terminated, "truncated": done and not terminated}
            row |= {"action": int(self.rng.integers(5)), "reward": float(self.rng.integers(99))}
            rows.append(row)
            self.now[env] = row["after"]
            if done:
                self.now[env], self.left[env] = self.reset(), int(self.lengths(self.rng))
        scalars = {
            name: np.array([row[name] for row in rows])
            for name in ("action", "reward", "terminated", "truncated")
        }
        before, after = (self.columns([row[name] for row in rows]) for name in ("before", "after"))
        flags = scalars["terminated"], scalars["truncated"]
        which = None if envs is None else np.array(envs, int)
        self.buffer.add(before, scalars["action"], scalars["reward"], after, *flags, envs=which)
        self.naive = [*self.naive, *rows][-self.capacity :]

    def newest(self) -> tuple[Batch, list[dict[str, Any]]]:
        """All that the buffer holds, and as many of the naive one's last transitions."""
        buffer = self.buffer
        assert buffer.size <= len(self.naive)
        indices = (buffer.position - buffer.size + np.arange(buffer.size)) % self.capacity
        return buffer.gather(indices), self.naive[len(self.naive) - buffer.size :]

    def assert_same(self) -> None:
        if self.buffer.size == 0:
            assert not self.naive
            return
        batch, rows = self.newest()
        features = {"before": batch.observations, "after": batch.next_observations}
        for name, ours in features.items():
            assert isinstance(ours, dict)
            assert list(ours) == [NUMBERS, "camera" if self.kind == "dict" else PIXELS]
            numbers, pictures = ours.values()
            assert pictures.dtype == torch.uint8
            cameras = np.stack([row[name]["camera"] for row in rows])
            if self.kind == "colour":  # [B, stack, H, W, C] -> [B, stack * C, H, W]
                cameras = cameras.transpose(0, 1, 4, 2, 3).reshape(len(rows), -1, 2, 3)
            np.testing.assert_array_equal(pictures, cameras)
            joints = np.stack([row[name]["joints"] for row in rows])
            np.testing.assert_array_equal(numbers, joints if self.kind == "dict" else joints[:, :0])
        scalars = [batch.actions[:, 0], batch.rewards, batch.terminated, batch.truncated]
        expected = [
            [row[name] for row in rows] for name in ("action", "reward", "terminated", "truncated")
        ]
        np.testing.assert_array_equal(torch.stack(scalars), np.array(expected, np.float32))


def uniform(low: int, high: int) -> Any:
    return lambda rng: rng.integers(low, high + 1)


# -- the naive buffer --------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_equals_a_list_of_whole_transitions(data: st.DataObject) -> None:
    """Nothing is ever wrong, however short the episodes and whoever steps; little is missing."""
    kind = data.draw(st.sampled_from(["grey", "one", "colour", "dict"]))
    n_envs = data.draw(st.integers(1, 4))
    films = Films(
        kind,
        1 if kind == "one" else data.draw(st.integers(1, 4)),
        n_envs,
        data.draw(st.integers(n_envs, 20) | st.integers(100, 300)),
        uniform(1, data.draw(st.sampled_from([1, 2, 5, 20]))),
        values=data.draw(st.sampled_from([1, 2, 256])),
        zeros=data.draw(st.booleans()),
        seed=data.draw(st.integers(0, 99)),
    )
    everyone = list(range(n_envs))
    some = st.lists(st.sampled_from(everyone), unique=True)
    for _ in range(data.draw(st.integers(1, 5))):
        envs = data.draw(st.none() | some)
        for _ in range(data.draw(st.sampled_from([1, 2, 20, 200]))):
            films.step(envs)
        films.assert_same()


@pytest.mark.parametrize("kind", ["grey", "one", "colour", "dict"])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_long_episodes_fill_it_to_the_last_row(kind: str, n_envs: int) -> None:
    films = Films(kind, 1 if kind == "one" else 4, n_envs, 500, uniform(40, 60))
    for step in range(5 * 500 // n_envs):
        films.step()
        assert films.buffer.size == len(films.naive) == min((step + 1) * n_envs, 500)
        if step % 100 == 0:
            films.assert_same()
    films.assert_same()


@pytest.mark.parametrize(("zeros", "frames"), [(False, 2), (True, 3)])
def test_episodes_of_one_step_leave_room_for_half_of_it(zeros: bool, frames: int) -> None:
    """Such an episode has one frame more than it has steps, or two with a black one before."""
    films = Films("grey", 4, 1, 500, uniform(1, 1), zeros=zeros)
    for _ in range(2_000):
        films.step()
    assert 500 // frames <= films.buffer.size < 500
    films.assert_same()


def test_samples_only_what_is_whole() -> None:
    """With episodes of one step half of the table shows frames that are no longer there."""
    films = Films("grey", 4, 1, 200, uniform(1, 1))
    for step in itertools.count():
        films.step()
        if step >= 1_000:
            break
    _, rows = films.newest()
    assert len(rows) < 200
    known = {row["before"]["camera"].tobytes() for row in rows}
    batch = films.buffer.sample(2_000)
    assert isinstance(batch.observations, dict)
    assert {np.asarray(o).tobytes() for o in batch.observations[PIXELS]} == known


@pytest.mark.parametrize("kind", ["grey", "dict"])
def test_an_environment_that_stood_still(kind: str) -> None:
    """When it steps again, the frames it showed before have long been overwritten."""
    films = Films(kind, 3, 2, 20, uniform(50, 60))
    films.step()
    for _ in range(100):
        films.step([0])
    for _ in range(10):
        films.step()
        films.assert_same()
    assert films.buffer.size == 20


@pytest.mark.parametrize("stack", [1, 4])
def test_every_frame_is_stored_once(stack: int) -> None:
    """T + 1 for an episode of T steps, its padded first stack included."""
    films = Films("grey", stack, 1, 1_000, uniform(300, 300))
    (ring,) = films.buffer.pictures.values()
    for episode in (1, 2):
        for _ in range(300):
            films.step()
        assert ring.written == 301 * episode


@pytest.mark.parametrize("zeros", [False, True])
def test_frames_that_look_alike_are_told_apart(zeros: bool) -> None:
    """A frozen screen: every frame has a place of its own, lest time be lost."""
    films = Films("grey", 4, 2, 100, uniform(7, 30), values=1, zeros=zeros)
    for _ in range(300):
        films.step()
    films.assert_same()


def test_stacks_that_do_not_move_on_by_one_frame() -> None:
    """An environment may do as it likes: here every stack is made of new frames."""
    films = Films("grey", 3, 2, 50, uniform(3, 9))

    def new_stack(observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return films.observation([films.new_frame() for _ in range(3)])

    films.successor = new_stack  # type: ignore[method-assign]
    for _ in range(200):
        films.step()
        films.assert_same()
    assert films.buffer.size > 10


# -- memory ------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of main memory that this process has ever held at once."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_memory_of_a_million_atari_transitions() -> None:
    for capacity in (20_000, 1_000_000):  # the small one spares us the swap if it is claimed
        before = resident()
        space = Box(0, 255, (4, 84, 84), np.uint8)
        buffer = ReplayBuffer(capacity, space, Discrete(6), seed=0, n_envs=8)
        (ring,) = buffer.pictures.values()
        arrays: list[Tensor] = [buffer.rows, ring.frames, ring.numbers]
        total = sum(array.nbytes for array in arrays)
        assert capacity * 84 * 84 < total
        assert resident() - before < total / 10  # claimed only as it is written
    assert total <= 7.5e9


# -- state -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["grey", "colour", "dict"])
@pytest.mark.parametrize("steps", [0, 13, 200])  # empty; in part; wrapped around
def test_restored_buffer_goes_on_identically(tmp_path: Path, kind: str, steps: int) -> None:
    films = Films(kind, 4, 3, 70, uniform(1, 20))
    for _ in range(steps):
        films.step()
    save_state(tmp_path, films.buffer.state_dict())
    original, films.buffer = films.buffer, films.make(seed=9)
    films.buffer.load_state_dict(load_state(tmp_path))
    assert films.buffer.size == original.size
    if steps:
        films.assert_same()
        for ours, theirs in zip(original.sample(20), films.buffer.sample(20), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    (ring,), (saved) = films.buffer.pictures.values(), original.pictures.values()
    assert ring.written == next(iter(saved)).written
    for _ in range(100):  # in the middle of episodes
        films.step()
    films.assert_same()


def test_restored_buffer_knows_what_is_lost(tmp_path: Path) -> None:
    films = Films("grey", 2, 1, 200, uniform(1, 1))
    for _ in range(700):
        films.step()
    size = films.buffer.size
    assert size < 200
    save_state(tmp_path, films.buffer.state_dict())
    films.buffer = films.make()
    films.buffer.load_state_dict(load_state(tmp_path))
    assert films.buffer.size == size
    films.assert_same()


def test_a_restored_episode_goes_on_without_storing_its_frame_again(tmp_path: Path) -> None:
    films = Films("grey", 4, 1, 500, uniform(300, 300))
    for step in range(300):
        films.step()
        if step == 150:
            save_state(tmp_path, films.buffer.state_dict())
            films.buffer = films.make()
            films.buffer.load_state_dict(load_state(tmp_path))
    (ring,) = films.buffer.pictures.values()
    assert ring.written == 301


def filled(capacity: int = 40, steps: int = 30, stack: int = 2, n_envs: int = 2) -> ReplayBuffer:
    films = Films("grey", stack, n_envs, capacity, uniform(5, 9))
    for _ in range(steps):
        films.step()
    return films.buffer


def edited(state: dict[str, Any], name: str, index: Any, value: int) -> dict[str, Any]:
    """The state with one number of its picture changed."""
    (ring,) = state["pictures"]
    array = ring[name].copy() if isinstance(ring[name], np.ndarray) else ring[name].clone()
    array[index] = value
    return {**state, "pictures": [{**ring, name: array}]}


def test_refuses_pictures_that_do_not_fit() -> None:
    state = filled().state_dict()
    (ring,) = state["pictures"]
    written = ring["written"]

    def refuse(state: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"fit|zip"):
            filled(steps=0).load_state_dict(state)

    filled(steps=0).load_state_dict(state)  # as it is, it fits
    refuse({**state, "pictures": []})
    refuse({**state, "pictures": [ring, ring]})
    for change in (
        {"frames": ring["frames"][:-1]},
        {"frames": ring["frames"][:, :-1]},
        {"frames": torch.zeros(10_000, 6, dtype=torch.uint8)},
        {"numbers": ring["numbers"][:-1]},
        {"numbers": ring["numbers"][:, :1]},
        {"numbers": ring["numbers"][:, :, :1]},
        {"numbers": torch.zeros(41, 2, 2, dtype=torch.int64)},
        {"current": ring["current"][:1]},
        {"current": ring["current"][:, :1]},
        {"written": 3},
    ):
        refuse({**state, "pictures": [{**ring, **change}]})
    for index in ((0, 0, 0), (-1, 1, -1)):
        refuse(edited(state, "numbers", index, -1))
        refuse(edited(state, "numbers", index, written))
    refuse(edited(state, "current", (0, 0), written))
    refuse(filled(stack=3).state_dict())
    refuse(filled(n_envs=1).state_dict())
    refuse(filled(capacity=60).state_dict())


@pytest.mark.parametrize("index", [(0, 0), (1, 1)])
def test_refuses_numbers_of_episodes_that_make_no_sense(index: tuple[int, int]) -> None:
    """-1 means that no episode is under way, and only as a whole row."""
    state = filled().state_dict()
    with pytest.raises(ValueError, match="fit"):
        filled(steps=0).load_state_dict(edited(state, "current", index, -7))


# -- channels ----------------------------------------------------------------------------------


def test_channels_are_frame_by_frame() -> None:
    """Stacked colour pictures: the channels of the first frame, then those of the second."""
    frames = torch.arange(2 * 2 * 4 * 5 * 3, dtype=torch.uint8).reshape(2, 2, 4, 5, 3)
    channels = Picture(2, (4, 5, 3)).to_channels(frames)
    assert channels.shape == (2, 6, 4, 5)
    for frame, colour in itertools.product(range(2), range(3)):
        assert torch.equal(channels[:, 3 * frame + colour], frames[:, frame, :, :, colour])
