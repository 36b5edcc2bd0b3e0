"""Pictures of transitions in a ring that stores every frame once.

Consecutive stacks share all frames but one, and a transition's successor is the next one's
observation: stored plainly, a million transitions of 4 x 84 x 84 bytes are 56 GB; here, 7.4 GB.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.observations import Picture


class FrameRing:
    """Frames of the transitions of a replay buffer, and which of them each transition shows.

    Every frame ever stored has a number; frame number i lies in row i modulo the ring's length.
    A frame is stored anew unless it is the same, byte for byte, as the one that a stack which
    moves on by one frame would have in its place.

    Args:
        capacity: transitions of the replay buffer. The ring has room for 1/32 more frames: an
            episode needs one frame more than it has steps.
        picture: shape of the stack.
        n_envs: sub-environments that transitions come from.

    """

    def __init__(self, capacity: int, picture: Picture, n_envs: int) -> None:
        self.picture = picture
        length = capacity + capacity // 32 + 4 * n_envs * (picture.stack + 1)
        # NumPy's zeros: unlike torch.zeros they are not written, so the memory is not claimed yet.
        self.frames = torch.from_numpy(np.zeros((length, int(np.prod(picture.frame))), np.uint8))
        # [capacity, 2, stack]: frame numbers of each transition's observation and successor.
        self.numbers = torch.from_numpy(np.zeros((capacity, 2, picture.stack), np.int64))
        # A stack's frames were written in the last ``stack`` calls of ``add``.
        self.reach = n_envs * (picture.stack + 1)
        self.current = np.full((n_envs, picture.stack), -1)  # of each env's observation; -1: none
        self.written = 0

    def add(
        self,
        where: np.ndarray,
        observations: np.ndarray,
        successors: np.ndarray,
        done: np.ndarray,
        envs: np.ndarray | None = None,
    ) -> None:
        """Stores the pictures [k, stack, ...] of k transitions, which lie at rows ``where``.

        ``done`` [k]: the sub-environment's next observation is not this successor.
        """
        numbers = self.numbers.numpy()
        envs = np.arange(len(where)) if envs is None else envs
        idle = np.ones(len(self.current), bool)
        idle[envs] = False
        self.current[idle] = -1  # its frames may be gone when it steps again
        for i, env in enumerate(envs):
            if self.current[env, 0] < 0:  # an episode begins
                self.current[env] = self._store(observations[i])
            ids = self._store(successors[i], observations[i], self.current[env])
            numbers[where[i], 0], numbers[where[i], 1] = self.current[env], ids
            self.current[env] = -1 if done[i] else ids

    def _store(
        self, stack: np.ndarray, before: np.ndarray | None = None, known: np.ndarray | None = None
    ) -> np.ndarray:
        """Numbers [stack] of a stack's frames; ``known`` are those of the stack ``before``."""
        ids = np.empty(len(stack), np.int64)
        frames = self.frames.numpy()
        last = len(stack) - 1
        for j, frame in enumerate(stack):
            if known is None or before is None:
                if j > 0 and np.array_equal(frame, stack[j - 1]):  # padded at the reset
                    ids[j] = ids[j - 1]
                    continue
            elif j < last and np.array_equal(frame, before[j + 1]):
                ids[j] = known[j + 1]
                continue
            frames[self.written % len(frames)] = frame.reshape(-1)
            ids[j] = self.written
            self.written += 1
        return ids

    def lost(self, rows: np.ndarray) -> np.ndarray:
        """Which of the transitions at ``rows`` show a frame that has been overwritten."""
        first: np.ndarray = self.numbers.numpy()[rows].min(axis=(1, 2))
        return first < self.written - len(self.frames)

    def gather(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Observations' and successors' pictures, each [B, C, H, W], in one gather."""
        numbers = self.numbers[torch.from_numpy(rows)].transpose(0, 1)  # [2, B, stack]
        frames = self.frames[(numbers % len(self.frames)).reshape(-1)].to(device)
        before, after = frames.view(2, len(rows), -1)
        return self.picture.to_channels(before), self.picture.to_channels(after)

    def state_dict(self, filled: int) -> dict[str, Any]:
        """What is in use; ``filled``: rows of the replay buffer that were ever written."""
        return {
            "frames": self.frames[: self.written],
            "numbers": self.numbers[:filled],
            "current": self.current,
            "written": self.written,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        frames, numbers, current = state["frames"], state["numbers"], state["current"]
        written = int(state["written"])
        fits = len(frames) == min(written, len(self.frames)) and len(numbers) <= len(self.numbers)
        fits &= frames.shape[1:] == self.frames.shape[1:]
        fits &= numbers.shape[1:] == self.numbers.shape[1:] and current.shape == self.current.shape
        begun = (current >= 0).all(1)
        fits &= bool((begun | (current == -1).all(1)).all())
        fits &= numbers.numel() == 0 or (
            int(numbers.min()) >= 0 and max(int(numbers.max()), int(current.max())) < written
        )
        if not fits:
            raise ValueError(f"pictures of {tuple(frames.shape)} bytes do not fit this replay")
        self.frames[: len(frames)], self.numbers[: len(numbers)] = frames, numbers
        self.current, self.written = np.array(current), written
