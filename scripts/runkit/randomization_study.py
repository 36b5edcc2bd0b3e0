"""What a randomization does to an environment: its parameters in words, pictures, draws, motion."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from statistics import NormalDist
from typing import Any

import cv2
import gymnasium as gym
import numpy as np

from runkit.scripted import actions

from envs.robotics.parameters import Parameter, Value
from envs.robotics.textures import Texture
from sim2real import distributions as d
from sim2real.binding import Bound
from sim2real.randomization import DomainRandomization
from sim2real.spec import Entry, Spec
from sim2real.streams import stream

# Id -> the specs that are taken where none is asked for; all that match.
DEFAULTS = (
    ("HalfCheetah-v*", "halfcheetah"),
    ("bullet/TableLocalise-v*", "localise_bullet"),
    ("mujoco/TableLocalise-v*", "localise_mujoco"),
    ("*/Panda*", "panda_dynamics"),
    ("mujoco/Panda*", "panda_joints_mujoco"),
    ("*/PandaPush-v*", "panda_objects"),
    ("*/PandaGrasp-v*", "panda_objects"),
)
DRAWS = 600  # of each entry, shared between the parameters that it matches
BINS = 24
STEPS = 100  # of a motion at most
WIDTH = 240  # of a picture, in pixels


def load(env_id: str, names: Iterable[str]) -> Spec:
    """The named specs (or files) as one; those of ``DEFAULTS`` if none is named."""
    chosen = tuple(names) or tuple(s for pattern, s in DEFAULTS if fnmatchcase(env_id, pattern))
    specs = [Spec.load(name) for name in chosen]
    entries = tuple(entry for spec in specs for entry in spec.entries)
    return Spec(" + ".join(spec.name for spec in specs) or "no spec", entries)


@dataclass(frozen=True)
class Row:
    """One entry of the spec, and those of the parameters it draws that have one nominal value."""

    name: str  # a path, or a pattern and how many it stands for
    bound: tuple[Bound, ...]

    @property
    def entry(self) -> Entry:
        return self.bound[0].entry

    @property
    def parameter(self) -> Parameter:
        return self.bound[0].parameter

    @property
    def seen(self) -> bool:
        """Whether it shows in a picture at once."""
        return self.parameter.visual or self.parameter.path.startswith("task.")

    def ends(self) -> tuple[Value, Value] | None:
        """The least and the greatest value; the 1st and 99th percentiles where there is no end."""
        if self.parameter.kind == "texture":
            return None
        low, high = self.bound[0].reach()
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            drawn = np.array([draw(self.bound[0], i) for i in range(200)])
            values = [
                np.asarray(self.bound[0].value(x)) for x in np.quantile(drawn, (0.01, 0.99), 0)
            ]
            low, high = np.minimum(*values), np.maximum(*values)
        whole = self.parameter.kind == "integer"
        least, greatest = (np.rint(v).astype(int) if whole else v for v in (low, high))
        return least.tolist(), greatest.tolist()


def rows(env: DomainRandomization) -> list[Row]:
    """What is randomized, in the spec's order."""
    alike: dict[tuple[int, str], list[Bound]] = {}
    for bound in env.bound:
        alike.setdefault((id(bound.entry), value_text(bound.parameter.nominal)), []).append(bound)
    return [Row(pattern([b.path for b in group]), tuple(group)) for group in alike.values()]


def others(env: DomainRandomization) -> list[tuple[str, Parameter]]:
    """What could be randomized and is not: names as in ``Row``, and a parameter of each."""
    drawn = {bound.path for bound in env.bound}
    alike: dict[tuple[Any, ...], list[Parameter]] = {}
    for path, p in env.parameters.items():
        if path not in drawn:
            kind = path.split(".")[0], path.rsplit(".", 1)[-1], value_text(p.nominal)
            alike.setdefault(kind, []).append(p)
    return [(pattern([p.path for p in group]), group[0]) for group in alike.values()]


def refused(env: DomainRandomization) -> list[tuple[str, str]]:
    """What the environment has and cannot change, by reason."""
    alike: dict[str, list[str]] = {}
    for path, reason in env.unsupported.items():
        alike.setdefault(reason, []).append(path)
    return [(pattern(paths), reason) for reason, paths in alike.items()]


def pattern(paths: list[str]) -> str:
    """One path, or what several have in common and how many they are."""
    if len(paths) == 1:
        return paths[0]
    head = _common(paths)
    tail = _common([path[len(head) :][::-1] for path in paths])[::-1]
    if len(paths) <= 3:
        middles = (path[len(head) : len(path) - len(tail)] for path in paths)
        return f"{head}{{{','.join(middles)}}}{tail}"
    return f"{head}*{tail} ({len(paths)})"


def _common(texts: list[str]) -> str:
    """What all begin with."""
    columns = zip(*texts, strict=False)
    same = (len(set(column)) == 1 for column in columns)
    return texts[0][: next((i for i, alike in enumerate(same) if not alike), min(map(len, texts)))]


def value_text(value: Any) -> str:
    """A value in a few characters."""
    if isinstance(value, dict):
        texture = Texture.from_dict(value)
        colours = (texture.first,) if texture.kind == "flat" else (texture.first, texture.second)
        return " ".join([texture.kind, *map(colour_text, colours)])
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_text, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def colour_text(colour: Iterable[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def range_text(row: Row) -> str:
    """What can come out."""
    if row.parameter.kind == "texture":
        return "any colours"
    low, high = row.bound[0].reach()
    return f"{value_text(low.tolist())} to {value_text(high.tolist())}"


def distribution_text(distribution: d.Distribution) -> str:
    kind = next(name for name, cls in d.KINDS.items() if type(distribution) is cls)
    parts = [
        f"{field.name} {value_text(value)}"
        for field in fields(distribution)  # type: ignore[arg-type]
        if (value := getattr(distribution, field.name)) not in (None, field.default)
    ]
    return f"{kind}: {', '.join(parts)}"


def timing_text(entry: Entry) -> str:
    return f"every {entry.every} steps" if entry.when == "interval" else entry.when


# --- Draws --------------------------------------------------------------------------------------


def draw(bound: Bound, episode: int, seed: int = 0) -> Any:
    """What the spec draws there in an episode, before it meets the nominal value."""
    return bound.entry.distribution.sample(stream(seed, episode, bound.path))


def draws(row: Row, seed: int = 0) -> list[Any]:
    """``DRAWS`` of them, of all the row's parameters."""
    episodes = -(-DRAWS // len(row.bound))
    return [draw(bound, i, seed) for i in range(episodes) for bound in row.bound]


def cumulative(distribution: d.Distribution, x: np.ndarray, element: int) -> np.ndarray:
    """The share of draws up to ``x``, of one element, by the distribution's formula."""

    def part(value: Any) -> float:
        return float(np.ravel(value)[element] if np.ndim(value) else value)

    if isinstance(distribution, (d.Uniform, d.LogUniform, d.Box)):
        low, high = (part(end) for end in distribution.support())
        if low == high:
            return (x >= low) * 1.0
        if isinstance(distribution, d.LogUniform):
            x, low, high = np.log(np.maximum(x, low)), np.log(low), np.log(high)
        return np.clip((x - low) / (high - low), 0, 1)
    if isinstance(distribution, d.Normal):
        normal = NormalDist(part(distribution.mean), part(distribution.std))
        return np.array([normal.cdf(v) for v in x])
    if isinstance(distribution, d.TruncatedNormal):
        normal = NormalDist(distribution.mean, distribution.std)
        low, high = distribution.low, distribution.high
        shares = np.array([normal.cdf(v) for v in np.clip(x, low, high)])
        return np.asarray((shares - normal.cdf(low)) / (normal.cdf(high) - normal.cdf(low)))
    if isinstance(distribution, d.Sphere):
        outer, inner = distribution.radius**3, distribution.inner**3
        balls = [_ball(x, radius) for radius in (distribution.radius, distribution.inner)]
        return np.asarray((outer * balls[0] - inner * balls[1]) / (outer - inner))
    if isinstance(distribution, d.Integers):
        count = distribution.high - distribution.low + 1
        return np.asarray(np.clip((np.floor(x) - distribution.low + 1) / count, 0, 1))
    values = getattr(distribution, "values", None) or [distribution.value]  # type: ignore[attr-defined]
    weights = np.array(getattr(distribution, "weights", None) or [1.0] * len(values), float)
    below = np.array([part(value) for value in values])[:, None] <= x
    return np.asarray(weights / weights.sum() @ below)


def _ball(x: np.ndarray, radius: float) -> np.ndarray:
    """The share of a ball's volume on the near side of a plane."""
    if radius == 0:
        return (x >= 0) * 1.0
    t = np.clip(x / radius, -1, 1)
    return 0.5 + 0.75 * t - 0.25 * t**3


@dataclass(frozen=True)
class Histogram:
    """Shares of draws in bins from ``low`` to ``high``, what they should be, and how far the
    cumulative shares are apart at most (Kolmogorov and Smirnov's D).
    """

    low: float
    high: float
    shares: list[float]
    expected: list[float]
    distance: float
    count: int
    whole: bool  # a bin is a whole number


def histograms(row: Row, seed: int = 0) -> list[Histogram]:
    """One for each element."""
    drawn = np.array(draws(row, seed), float).reshape(-1, row.entry.distribution.dimension)
    return [_histogram(row.entry.distribution, drawn[:, i], i) for i in range(drawn.shape[1])]


def _histogram(distribution: d.Distribution, drawn: np.ndarray, element: int) -> Histogram:
    low, high = float(drawn.min()), float(drawn.max())
    ends = [float(np.ravel(end)[element]) for end in distribution.support()]
    if np.isfinite(ends).all():
        low, high = ends
    whole = distribution.integral and high - low < 60
    if whole or high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 1 + (round(high - low) if whole else BINS))
    counts, _ = np.histogram(drawn, edges)
    outer = edges.copy()
    outer[0] -= 1e-9 * max(1.0, abs(low))  # a heap at the least value is in the first bin
    expected = np.diff(cumulative(distribution, outer, element))
    sorted_ = np.sort(drawn)
    after = np.searchsorted(sorted_, sorted_, side="right") / len(drawn)
    distance = np.abs(after - cumulative(distribution, sorted_, element)).max()
    shares = (counts / len(drawn)).tolist()
    return Histogram(low, high, shares, expected.tolist(), float(distance), len(drawn), whole)


# --- Pictures -----------------------------------------------------------------------------------


def nominal(env: DomainRandomization) -> dict[str, Value]:
    return {bound.path: bound.parameter.nominal for bound in env.bound}


class Camera:
    """Pictures of episodes' first moments: what is observed if that is a picture, else rendered."""

    def __init__(self, env: DomainRandomization) -> None:
        self.env = env
        if hasattr(env.unwrapped, "render_size"):
            env.unwrapped.render_size = (WIDTH, WIDTH * 3 // 4)

    def picture(self, domain: Mapping[str, Value] | None = None, seed: int = 0) -> np.ndarray:
        """uint8 [H, W, 3]. Raises RuntimeError where the environment cannot draw itself."""
        options = None if domain is None else {"domain": dict(domain)}
        observation, _ = self.env.reset(seed=seed, options=options)
        parts = observation if isinstance(observation, dict) else {"observation": observation}
        seen = [parts[name] for name in self.env.effects.pictures]
        picture = seen[0] if seen else self.env.render()
        if not isinstance(picture, np.ndarray) or picture.ndim != 3:
            raise RuntimeError("the environment draws no picture")
        if picture.shape[-1] == 1:
            picture = picture.repeat(3, -1)
        if picture.shape[1] > WIDTH:
            size = WIDTH, round(WIDTH * picture.shape[0] / picture.shape[1])
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return picture

    def row(self, row: Row) -> tuple[list[tuple[str, np.ndarray]], str]:
        """Labelled pictures of the least, nominal and greatest value (of textures the nominal and
        two draws), and what else is not nominal; "nothing" if the pictures are all the same.

        Other things than the row's are nominal, unless it then changes nothing: a light may be
        off, and what stands about may be hidden.
        """
        pictures: list[tuple[str, np.ndarray]] = []
        for surroundings, base in self._surroundings():
            pictures = [(label, self.picture(base | v)) for label, v in self._values(row)]
            if any((picture != pictures[0][1]).any() for _, picture in pictures):
                return pictures, surroundings
        return pictures, "nothing"

    def _surroundings(self) -> Iterator[tuple[str, dict[str, Value]]]:
        base = nominal(self.env)
        yield "", base
        full = {p: int(x.high) for p, x in self.env.parameters.items() if p == "task.distractors"}
        if full:
            yield "With as many other things about as there may be.", base | full
        lights = [bound for bound in self.env.bound if bound.path.startswith("light.")]
        for episode in range(4 if lights else 0):
            drawn = {b.path: b.draw(stream(0, episode, b.path)) for b in lights}
            yield "With lights as they are drawn in an episode.", base | drawn

    def _values(self, row: Row) -> list[tuple[str, dict[str, Value]]]:
        middle = {bound.path: bound.parameter.nominal for bound in row.bound}
        if (ends := row.ends()) is None:
            found = [{b.path: b.draw(stream(0, i, b.path)) for b in row.bound} for i in range(2)]
            return [("nominal", middle), ("one draw", found[0]), ("another", found[1])]
        low, high = ({bound.path: end for bound in row.bound} for end in ends)
        text = value_text(row.parameter.nominal)
        return [
            (f"least {value_text(ends[0])}", low),
            (f"nominal {text}", middle),
            (f"greatest {value_text(ends[1])}", high),
        ]


# --- Motion -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Motion:
    """How far from the nominal episode the same actions lead, at each step."""

    low: list[float]
    high: list[float]
    labels: tuple[str, str]


class Stage:
    """Plays the same actions in domains that differ in one row."""

    def __init__(self, env: DomainRandomization) -> None:
        self.env = env
        self.options = {"domain": nominal(env)}
        self.actions = actions(env, STEPS, self.options)
        self.path = self._play({})
        goals = isinstance(env.observation_space, gym.spaces.Dict)
        goals = goals and "achieved_goal" in env.observation_space.spaces  # type: ignore[attr-defined]
        self.what = "what has a goal (m)" if goals else "the observed numbers"
        self.seconds = len(self.actions) * _step_seconds(env)

    def _play(self, domain: Mapping[str, Value]) -> np.ndarray:
        options = {"domain": {**self.options["domain"], **domain}}
        observation, _ = self.env.reset(seed=0, options=options)
        path = [_place(observation)]
        for action in self.actions:
            observation, _, terminated, truncated, _ = self.env.step(action)
            path.append(_place(observation))
            if terminated or truncated:
                break
        return np.array(path)

    def motion(self, row: Row) -> Motion:
        ends = row.ends()
        assert ends is not None, "textures do not move anything"
        apart = []
        for end in ends:
            path = self._play({bound.path: end for bound in row.bound})
            length = min(len(path), len(self.path))
            apart.append(np.linalg.norm(path[:length] - self.path[:length], axis=1).tolist())
        return Motion(apart[0], apart[1], (value_text(ends[0]), value_text(ends[1])))


def _place(observation: Any) -> np.ndarray:
    if isinstance(observation, dict):
        observation = observation.get("achieved_goal", observation.get("observation"))
    return np.ravel(np.asarray(observation, float)).copy()


def _step_seconds(env: gym.Env[Any, Any]) -> float:
    with contextlib.suppress(AttributeError, TypeError):
        return float(env.unwrapped.dt)  # type: ignore[attr-defined]
    rate = env.metadata.get("render_fps") or 1
    return 1.0 / float(rate)
