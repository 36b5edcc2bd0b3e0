"""Domain randomization around any Gymnasium environment, from a spec, with every draw on record.

    env = DomainRandomization(gym.make("HalfCheetah-v4"), "halfcheetah", log=Path("draws.jsonl"))
    observation, info = env.reset(seed=0)
    info["domain"]  # {"body.torso.mass": 7.1, …}
    env.reset(options={"domain": {"body.torso.mass": 9.0}})  # this value, the others drawn
    for observation, reward, terminated, truncated, info in replay(env, line_of_the_log):
        env.render()

Every draw changes the nominal value, so nothing drifts, and comes from a random stream of its own
(see ``streams``), so that neither another parameter nor the length of an episode shifts it.
"""

import json
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from envs.robotics.parameters import Parameter, Value, check, scene_parameters
from sim2real.binding import Bound, bind
from sim2real.effects import Effects
from sim2real.spec import Spec, SpecError
from sim2real.streams import episode_seed, stream


class DomainRandomization(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Draws a domain for every episode.

    ``info["domain"]`` has every randomized value at a reset, and at a step those that changed.

    Args:
        env: a robot environment, a Gymnasium MuJoCo environment, or any other, of which only
            actions and observations can be changed (see ``effects``).
        spec: a spec, its file, or the name of one that comes with this package.
        log: a file to which a line of JSON is appended for every episode when it ends: seed,
            episode, values, changes, actions.
        seed: of what is drawn at startup, once for this environment's whole life. Sub-environments
            of a vector environment have one each (see ``randomized``).

    Raises SpecError if the spec cannot be meant, or not for this environment.

    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        spec: Spec | Path | str,
        log: Path | None = None,
        seed: int = 0,
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, spec=spec, log=log, seed=seed)
        gym.Wrapper.__init__(self, env)
        if env.has_wrapper_attr("goes_on"):
            raise SpecError("an environment whose games go on through a reset cannot be randomized")
        self.domain_spec = Spec.load(spec)
        self.log = None if log is None else Path(log)
        if self.log is not None:
            self._append("")  # a folder that is not there is said now
        self.effects = Effects(env)
        self.inside = _inside(env)
        inner = {} if self.inside is None else self.inside.parameters()
        self.parameters: dict[str, Parameter] = inner | self.effects.parameters
        self.unsupported = _unsupported(self.inside) | self.effects.unsupported
        self.bound = bind(self.domain_spec, self.parameters, self.unsupported)
        self.startup = {
            bound.path: bound.draw(stream(seed, 0, bound.path))
            for bound in self.bound
            if bound.entry.when == "startup"
        }
        self.in_force: dict[str, Value] = {}
        self.seed: int | None = None
        self.episode = self.steps = 0
        self.timed: list[Bound] = []  # what is drawn during the episode that is under way
        self.planned: dict[int, dict[str, Value]] = {}  # step -> what changes there in a replay
        self.record: dict[str, Any] | None = None  # of the episode that is under way

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in a domain of its own.

        ``options["domain"]`` maps paths to exact values for this episode, of any parameters;
        ``options["replay"]`` is a line of the log whose episode is had again. Raises
        ParameterError, and then changes nothing, if a value cannot be set.
        """
        options = dict(options or {})
        exact = {path: plain(value) for path, value in options.pop("domain", {}).items()}
        line = options.pop("replay", None)
        if line is not None:
            seed, episode, values = line["seed"], line["episode"], line["values"] | exact
            check(self.parameters, values)
            timed: list[Bound] = []
        else:
            seed, episode = self.next_episode(seed)
            check(self.parameters, exact)
            drawn = {b.path: self._draw(b, seed, episode, 0) for b in self.bound}
            values = {**drawn, **exact}
            timed = [b for b in self.bound if b.entry.every and b.path not in exact]
        self._set({path: self.parameters[path].nominal for path in self.in_force} | values)
        self._end()
        self.seed, self.episode, self.timed, self.steps = seed, episode, timed, 0
        self.planned = {} if line is None else dict(line["changes"])
        self.effects.begin(seed, episode)
        if self.log is not None:
            self.record = {"values": values, "changes": [], "actions": [], "return": 0.0}
        observation, info = self.env.reset(
            seed=episode_seed(seed, episode), options=options or None
        )
        return self.effects.observe(observation), info | {"domain": dict(values)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        changes = self._due()
        if changes:
            self._set(changes)
        record = self.record
        if record is not None:
            record["actions"].append(np.array(action))
            if changes:
                record["changes"].append([self.steps, changes])
        self.steps += 1
        try:
            observation, reward, terminated, truncated, info = self.env.step(
                self.effects.act(action)
            )
        except Exception:
            self._end("failed")  # of all episodes this is the one to replay
            raise
        if record is not None:
            record["return"] += float(reward)
            if terminated or truncated:
                self._end("ended")
        if changes:
            info = info | {"domain": changes}
        return self.effects.observe(observation), reward, terminated, truncated, info

    def close(self) -> None:
        self._end()
        super().close()

    def next_episode(self, seed: int | None) -> tuple[int, int]:
        """Seed and number of what ``reset(seed)`` begins: a new seed's first, or the next one."""
        if seed is not None:
            return int(seed), 0
        if self.seed is None:
            return int(np.random.default_rng().integers(2**31)), 0
        return self.seed, self.episode + 1

    def _draw(self, bound: Bound, seed: int, episode: int, count: int) -> Value:
        if bound.entry.when == "startup":
            return self.startup[bound.path]
        return bound.draw(stream(seed, episode, bound.path, count))

    def _due(self) -> dict[str, Value]:
        """What changes before the next step; the reset has drawn for the first."""
        if not self.steps:
            return {}
        assert self.seed is not None
        due = {
            bound.path: self._draw(bound, self.seed, self.episode, self.steps // bound.entry.every)
            for bound in self.timed
            if self.steps % bound.entry.every == 0
        }
        return due | self.planned.get(self.steps, {})

    def _set(self, values: Mapping[str, Value]) -> None:
        """Sets what is not in force yet; all or none."""
        new = {p: v for p, v in values.items() if self.in_force.get(p, _NEVER) != v}
        effects = {path: new.pop(path) for path in self.effects.parameters if path in new}
        if new:
            assert self.inside is not None
            self.inside.set_parameters(new)
        self.effects.set(effects)
        self.in_force.update(values)

    def _end(self, how: str = "left") -> None:
        """Writes the episode's line, once."""
        record, self.record = self.record, None
        if record is None:
            return
        actions = record["actions"]
        line = {
            "env": None if self.env.spec is None else self.env.spec.id,
            "spec": self.domain_spec.name,
            "seed": self.seed,
            "episode": self.episode,
            "steps": len(actions),
            "return": record["return"],
            "how": how,
            "values": record["values"],
            "changes": record["changes"],
            "dtype": str(actions[0].dtype) if actions else None,
            "actions": [action.tolist() for action in actions],
        }
        self._append(json.dumps(line) + "\n")

    def _append(self, text: str) -> None:
        """In one write, so that processes can share a file."""
        assert self.log is not None
        file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)


_NEVER = object()


def plain(value: Any) -> Any:
    """A parameter's value as JSON has it, of numpy's numbers and arrays and of tuples too."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def replay(
    env: gym.Env[Any, Any], line: str | Mapping[str, Any]
) -> Iterator[tuple[Any, float, bool, bool, dict[str, Any]]]:
    """The episode of a line of the log again, bit for bit: what its reset gave, then every step.

    Args:
        env: with a DomainRandomization in it, around the environment that wrote the line; the
            spec may be another.
        line: of the log.

    """
    episode = json.loads(line) if isinstance(line, str) else line
    observation, info = env.reset(seed=episode["seed"], options={"replay": episode})
    yield observation, 0.0, False, False, info
    for action in episode["actions"]:
        observation, reward, *ends, info = env.step(np.array(action, episode["dtype"]))
        yield observation, float(reward), *ends, info


class randomized:
    """For ``envs.make_vec(…, wrap=randomized(spec))``: every sub-environment with its own startup.

    Args:
        spec, log: as for DomainRandomization.
        seed: of the run.

    """

    def __init__(self, spec: Spec | Path | str, log: Path | None = None, seed: int = 0) -> None:
        self.spec, self.log, self.seed = Spec.load(spec), log, seed

    def __call__(self, env: gym.Env[Any, Any], index: int) -> DomainRandomization:
        seed = int(stream(self.seed, index, "startup").integers(2**31))
        return DomainRandomization(env, self.spec, self.log, seed)


def _inside(env: gym.Env[Any, Any]) -> Any:
    """What offers ``parameters`` and ``set_parameters``; None where nothing does."""
    inner: Any = env.unwrapped
    if hasattr(inner, "set_parameters"):
        return inner
    if type(getattr(inner, "model", None)).__module__.startswith("mujoco"):
        from sim2real.gymnasium_mujoco import changeable  # only here: it imports the engine

        return changeable(env)
    return None


def _unsupported(inside: Any) -> dict[str, str]:
    """Path -> why the environment, which has such a thing, cannot change it."""
    found: dict[str, str] = dict(getattr(inside, "unsupported", {}))
    engine = getattr(inside, "engine", None)
    if engine is not None:
        for path in scene_parameters(engine.scene):
            for pattern, reason in engine.unsupported.items():
                if fnmatchcase(path, pattern):
                    found[path] = reason
    return found
