"""How much of what a policy can do is left where the dynamics are not those it learned in.

    shift        parameters of the dynamics, by a factor or to a value, for all of an episode
    score        the share of episodes that end in success, where the environment tells, or else
                 the mean return
    retention    score under the shift / score without it

All is played by the deterministic policy. Episode i has the same seed under every shift, so that
retentions' intervals are bootstraps over pairs of episodes; shares have Wilson's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from agents import Agent
from agents.evaluation import EVALUATION_SEED
from envs import make_env
from sim2real.randomization import DomainRandomization
from sim2real.spec import Spec
from sim2real.transfer import Interval, bootstrap, itself, wilson


@dataclass(frozen=True)
class Shift:
    """A change of the dynamics: of which kind, how much, and the tables of a spec that make it."""

    kind: str  # "nominal", "mass", "friction", "latency" or "engine"
    amount: float
    tables: tuple[dict[str, Any], ...] = ()
    env_id: str | None = None  # where it is another environment


@dataclass(frozen=True)
class Episodes:
    """What a policy did, episode by episode."""

    returns: np.ndarray  # float64 [N]
    successes: np.ndarray | None  # bool [N]; None where the environment does not tell

    @property
    def scores(self) -> np.ndarray:
        """float64 [N], whose mean is the score."""
        return self.returns if self.successes is None else self.successes.astype(np.float64)

    def score(self) -> Interval:
        """With its 95% interval."""
        if self.successes is not None:
            return wilson(int(self.successes.sum()), len(self.successes))
        return bootstrap(itself, [self.returns])


def grid(
    env_id: str,
    masses: Sequence[float] = (0.5, 0.75, 1.5, 2.0),
    frictions: Sequence[float] = (0.25, 0.5, 1.5, 2.0),
    latencies: Sequence[int] = (1, 2, 3),
) -> list[Shift]:
    """The shifts that make sense in an environment, after the nominal one.

    Masses and frictions are factors, latencies steps that an action comes late. A robot on a table
    is also tried in the other engine.
    """
    engine, _, rest = env_id.rpartition("/")
    is_robot = engine in ("bullet", "mujoco")
    mass, friction = (
        ("robot.mass", "robot.friction") if is_robot else ("body.*.mass", "world.friction")
    )
    shifts = [Shift("nominal", 0.0)]
    shifts += [Shift("mass", x, (_constant(mass, "scale", x),)) for x in masses]
    shifts += [Shift("friction", x, (_constant(friction, "scale", x),)) for x in frictions]
    shifts += [Shift("latency", n, (_constant("action.latency", "set", n),)) for n in latencies]
    if is_robot:
        other = "mujoco" if engine == "bullet" else "bullet"
        shifts.append(Shift("engine", 0.0, env_id=f"{other}/{rest}"))
    return shifts


def _constant(path: str, operation: str, value: float) -> dict[str, Any]:
    return {
        "path": path,
        "operation": operation,
        "distribution": {"kind": "constant", "value": value},
    }


def shifted(env_id: str, shift: Shift, **kwargs: Any) -> gym.Env[Any, Any]:
    """The environment under a shift; SpecError if it has no such parameter."""
    env = make_env(shift.env_id or env_id, **kwargs)
    name = f"{shift.kind} {shift.amount:g}"
    return DomainRandomization(env, Spec.from_tables({"parameter": list(shift.tables)}, name))


def play(agent: Agent, env: gym.Env[Any, Any], seeds: Iterable[int]) -> Episodes:
    """One episode a seed."""
    returns, successes = [], []
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        state, first, total, done = None, np.ones(1, bool), 0.0, False
        while not done:
            action, state = agent.predict(observation, state, first, deterministic=True)
            observation, reward, terminated, truncated, info = env.step(action)
            total, done, first = total + float(reward), terminated or truncated, np.zeros(1, bool)
        returns.append(total)
        successes.append(info.get("is_success"))
    told = None if None in successes else np.array(successes, bool)
    return Episodes(np.array(returns), told)


def evaluate(
    agent: Agent, env_id: str, shift: Shift, episodes: int, seed: int = EVALUATION_SEED
) -> Episodes:
    """Episodes with the seeds from ``seed`` on."""
    env = shifted(env_id, shift)
    try:
        return play(agent, env, range(seed, seed + episodes))
    finally:
        env.close()


def retention(nominal: Episodes, other: Episodes) -> Interval:
    """The score of ``other`` as a share of the nominal one, of the same seeds.

    ValueError unless the nominal score is positive: of nothing, no share can be left.
    """
    if not nominal.scores.mean() > 0:
        raise ValueError(f"a score of {nominal.scores.mean():g} has no share that is left")
    return bootstrap(lambda n, o: o / np.maximum(n, 1e-9), [nominal.scores, other.scores])
