"""Random streams that no other draw can shift: one for every (seed, episode, name, count)."""

import hashlib
from functools import lru_cache

import numpy as np


def stream(seed: int, episode: int, name: str, count: int = 0) -> np.random.Generator:
    """A generator of its own for the ``count``-th draw of ``name`` in that episode.

    Nothing else enters: not which other names draw, nor how long earlier episodes were.
    """
    return np.random.default_rng([seed, episode, _number(name), count])


def episode_seed(seed: int, episode: int) -> int:
    """What the simulator inside is seeded with; the first episode's is ``seed`` itself.

    Later episodes are seeded too, so that their start does not depend on how long the earlier ones
    were, and each can be had without them.
    """
    return seed if episode == 0 else int(stream(seed, episode, "reset").integers(2**31))


@lru_cache(maxsize=4096)
def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
