"""Vector environments from any Gymnasium id."""

import atexit
import signal
import time
from collections.abc import Callable
from typing import Any, Literal, get_args

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from envs.make import make_env, register_plugins
from envs.resumable import Resumable, ResumableVector

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Vectorization = Literal["sync", "async", "vector_entry_point"]
# What to put around sub-environment number i, such as sim2real's ``randomized``.
Wrap = Callable[[gym.Env[Any, Any], int], gym.Env[Any, Any]]


def make_vec(
    env_id: str,
    n_envs: int,
    seed: int | None = None,
    vectorization: Vectorization = "sync",
    wrap: Wrap | None = None,
    **kwargs: Any,
) -> VectorEnv[Any, Any, Any]:
    """``n_envs`` copies of ``env_id``, which reset themselves.

    Args:
        env_id: any registered Gymnasium id.
        n_envs: number of sub-environments.
        seed: for training: each sub-environment draws its episodes' seeds from a stream of its
            own and can be saved (see Resumable). None, for evaluation: plain environments, to be
            seeded by ``reset(seed=...)``.
        vectorization: one after the other in this process (resets in the same step); a process
            each (the same); or the environment's own vectorized form (whichever way that resets).
        wrap: puts something around each sub-environment, given its number; what it is resets by
            the seed alone, as all that is saved. An own vectorized form cannot be wrapped.
        kwargs: for ``gymnasium.make``, e.g. ``render_mode``.

    """
    if vectorization == "vector_entry_point":
        if wrap is not None:
            raise ValueError(f"{env_id}'s own vectorized form cannot be wrapped: use sync or async")
        register_plugins(env_id)
        own = gym.make_vec(env_id, n_envs, vectorization, **kwargs)
        return own if seed is None else ResumableVector(own, seed)

    def constructor(index: int) -> Callable[[], gym.Env[Any, Any]]:
        def construct() -> gym.Env[Any, Any]:
            if vectorization == "async":
                for number in SIGNALS:  # they are for the process that saves
                    signal.signal(number, signal.SIG_IGN)
            if seed is None:
                env = make_env(env_id, **kwargs)
                return env if wrap is None else wrap(env, index)
            return make_resumable(env_id, seed, index, wrap, **kwargs)

        return construct

    constructors = [constructor(i) for i in range(n_envs)]
    if vectorization == "async":
        # One environment is made here too, to learn its spaces: the signal handlers are put back.
        handlers = [signal.getsignal(number) for number in SIGNALS]
        try:
            made = AsyncVectorEnv(
                constructors,
                # A forked process hangs at its first picture if its parent has drawn one.
                context="forkserver" if env_id.startswith("mujoco/") else None,
                autoreset_mode=AutoresetMode.SAME_STEP,
            )
        finally:
            for number, handler in zip(SIGNALS, handlers, strict=True):
                signal.signal(number, handler)
        atexit.register(_kill, made.processes)  # multiprocessing would send SIGTERM, and wait
        return made
    return SyncVectorEnv(constructors, autoreset_mode=AutoresetMode.SAME_STEP)


def _kill(processes: list[Any]) -> None:
    for process in processes:
        process.kill()


def make_resumable(
    env_id: str, seed: int, index: int, wrap: Wrap | None = None, **kwargs: Any
) -> Resumable:
    """Sub-environment ``index`` of a training run: seeded from its own stream, can be saved."""
    env = make_env(env_id, training=True, **kwargs)
    return Resumable(env if wrap is None else wrap(env, index), seed, index)


def vectorizations(env_id: str) -> list[Vectorization]:
    """The ways in which ``env_id`` can be vectorized here."""
    register_plugins(env_id)
    ways: list[Vectorization] = list(get_args(Vectorization))
    # Only Gymnasium's numpy CartPole qualifies: the others need JAX and keep their state there.
    entry_point = str(gym.spec(env_id).vector_entry_point)
    return ways if "classic_control" in entry_point else ways[:2]


def measure_vectorization(
    env_id: str, n_envs: int, seconds: float = 0.5
) -> dict[Vectorization, float]:
    """Environment steps a second of each way, with random actions."""
    rates: dict[Vectorization, float] = {}
    for way in vectorizations(env_id):
        envs = make_vec(env_id, n_envs, seed=0, vectorization=way)
        envs.reset()
        envs.action_space.seed(0)
        actions = [envs.action_space.sample() for _ in range(16)]
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            envs.step(actions[steps % 16])
            steps += 1
        rates[way] = n_envs * steps / (time.perf_counter() - start)
        envs.close()
    return rates
