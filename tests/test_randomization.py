"""Domain randomization: independent draws, exact values, a log that replays, no drift."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from randomizable import Randomizable, spec, uniform

from agents.state import load_state, save_state
from envs import make_vec
from envs.resumable import Resumable
from envs.robotics.parameters import ParameterError
from sim2real.randomization import DomainRandomization, randomized, replay
from sim2real.spec import Spec, SpecError

MASS = uniform("body.cube.mass", 0.5, 2.0, operation="scale")
FRICTION = uniform("body.cube.friction", -0.3, 0.3, operation="add")
TABLES = {
    "body.cube.mass": MASS,
    "body.cube.friction": FRICTION,
    "body.ball.mass": uniform("body.ball.mass", 0.1, 0.2, when="startup"),
    "world.gravity": uniform("world.gravity", [0, 0, -11], [0, 0, -9], when="interval", every=3),
    "body.table.friction": uniform("body.table.friction", 0.4, 1.0, when="step"),
    "action.noise": uniform("action.noise", 0.1, 0.2),
    "body.cube.texture": 'path = "body.cube.texture"; '
    'distribution = {kind = "texture", kinds = ["flat", "noise"]}',
    "action.latency": 'path = "action.latency"; '
    'distribution = {kind = "integers", low = 0, high = 3}; when = "interval"; every = 4',
}
paths = st.lists(st.sampled_from(list(TABLES)), unique=True, min_size=1)


def wrapped(tables: Spec | list[str], **options: Any) -> DomainRandomization:
    env = Randomizable()
    made = tables if isinstance(tables, Spec) else spec(*tables)
    return DomainRandomization(env, made, **options)


def episode(env: gym.Env[Any, Any], steps: int, **reset: Any) -> list[Any]:
    """What a reset and that many steps give, infos included, as far as the episode goes."""
    played: list[Any] = [env.reset(**reset)]
    rng = np.random.default_rng(0)
    for _ in range(steps):
        played.append(env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)))
        if played[-1][2] or played[-1][3]:
            break
    return played


def draws(played: list[Any], path: str) -> list[Any]:
    """What was drawn of that parameter, step by step."""
    return [step[-1].get("domain", {}).get(path) for step in played]


def assert_same(first: Any, second: Any) -> None:
    """Equal to the last bit, whatever is nested in it."""
    if isinstance(first, (tuple, list)):
        assert len(first) == len(second)
        for ours, theirs in zip(first, second, strict=True):
            assert_same(ours, theirs)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    else:
        np.testing.assert_array_equal(first, second)


@settings(max_examples=40, deadline=None)
@given(one=st.sampled_from(list(TABLES)), others=paths, seed=st.integers(0, 2**31 - 1))
def test_adding_a_parameter_shifts_no_other(one: str, others: list[str], seed: int) -> None:
    alone, among = wrapped([TABLES[one]]), wrapped([TABLES[p] for p in {*others, one}])
    for k in range(3):
        reset = {"seed": seed} if k == 0 else {}
        first, second = episode(alone, 13, **reset), episode(among, 13, **reset)
        assert draws(first, one) == draws(second, one)
        assert draws(first, one)[0] is not None


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=3, max_size=3),
    seed=st.integers(0, 2**31 - 1),
)
def test_the_length_of_episodes_shifts_nothing(lengths: list[int], seed: int) -> None:
    """Neither the draws of a later episode, nor the simulator's own random numbers in it."""
    env, other = wrapped(list(TABLES.values())), wrapped(list(TABLES.values()))
    env.reset(seed=seed)
    other.reset(seed=seed)
    for length in lengths:
        episode(env, length)
        episode(other, 12 - length)
    assert_same(episode(env, 12), episode(other, 12))


def test_episodes_differ_and_seeds_differ() -> None:
    env = wrapped(list(TABLES.values()))
    first, second = episode(env, 9, seed=1), episode(env, 9)
    third = episode(env, 9, seed=2)
    for path in TABLES:
        values = [str(draws(played, path)) for played in (first, second, third)]
        assert len(set(values)) == (1 if path == "body.ball.mass" else 3), path
    assert_same(episode(env, 9, seed=1), first)


def test_an_unseeded_environment_draws_differently_every_time() -> None:
    values = {wrapped([MASS]).reset()[1]["domain"]["body.cube.mass"] for _ in range(3)}
    assert len(values) == 3


def test_the_first_episode_is_the_environments_own() -> None:
    """A spec that changes nothing changes nothing: not the seed, not the actions."""
    bare, env = Randomizable(), wrapped([])
    for ours, theirs in zip(episode(env, 9, seed=4), episode(bare, 9, seed=4), strict=True):
        assert_same(ours[:-1], theirs[:-1])


def test_when_is_kept_to() -> None:
    env = wrapped(list(TABLES.values()))
    for _ in range(2):
        played = episode(env, 9)
        for path, every in {
            "world.gravity": 3,
            "action.latency": 4,
            "body.table.friction": 1,
        }.items():
            assert all(
                (value is not None) == (max(step - 1, 0) % every == 0 and step != 1)
                for step, value in enumerate(draws(played, path))
            ), path
        for path in ("body.cube.mass", "body.ball.mass", "action.noise"):
            values = draws(played, path)
            assert values[0] is not None
            assert values[1:] == [None] * 9
    seeds = [wrapped([TABLES["body.ball.mass"]], seed=seed).startup for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_nothing_drifts() -> None:
    """Each episode's values are of the nominal ones: 1,000 episodes later within the same range."""
    env = wrapped([MASS, FRICTION])
    masses, frictions = [], []
    for k in range(1000):
        domain = env.reset(seed=0 if k == 0 else None)[1]["domain"]
        masses.append(domain["body.cube.mass"])
        frictions.append(domain["body.cube.friction"])
        assert env.unwrapped.values["body.cube.mass"] == masses[-1]  # type: ignore[attr-defined]
    for values, low, high in ((masses, 0.05, 0.2), (frictions, 0.5, 1.1)):
        late = np.array(values[-300:])
        assert low <= late.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < late.max() <= high
    # The 1,000th episode is that of an environment that has seen no other.
    assert env.episode == 999
    line = {"seed": 0, "episode": 999, "values": {}, "changes": []}
    fresh = wrapped([MASS, FRICTION])
    fresh.reset(options={"replay": line})
    assert fresh.unwrapped.state.tolist() == env.unwrapped.state.tolist()  # type: ignore[attr-defined]


def test_exact_values() -> None:
    env = wrapped(list(TABLES.values()))
    drawn = env.reset(seed=3)[1]["domain"]
    exact = {
        "body.cube.mass": np.float64(0.123),
        "world.gravity": np.array([0.0, 0.0, -3.0]),
        "camera.front.target": (0.1, 0.2, 0.3),  # which the spec does not draw
        "action.noise": 0,
    }
    played = episode(env, 9, seed=3, options={"domain": exact})
    wanted = {
        "body.cube.mass": 0.123,
        "world.gravity": [0.0, 0.0, -3.0],
        "camera.front.target": [0.1, 0.2, 0.3],
        "action.noise": 0,
    }
    domain = played[0][1]["domain"]
    assert domain == drawn | wanted
    assert draws(played, "world.gravity")[1:] == [None] * 9  # it stays as it was asked for
    inner: Any = env.unwrapped
    assert {path: inner.values.get(path) for path in wanted if path in inner.values} == {
        path: value for path, value in wanted.items() if path in inner.values
    }
    assert inner.options is None
    # For one episode: then all is drawn again, and what is not drawn is nominal.
    assert env.reset(seed=3)[1]["domain"] == drawn
    assert inner.values["camera.front.target"] == [0.4, 0.0, 0.0]
    env.reset(options={"domain": {}, "other": 1})
    assert inner.options == {"other": 1}


@pytest.mark.parametrize(
    ("exact", "message"),
    [
        ({"body.cube.mas": 0.1}, "no parameter 'body.cube.mas'; nearest: body.cube.mass"),
        ({"body.cube.mass": -1.0}, "body.cube.mass lies in 0.0001 to 1000, not -1.0"),
        ({"body.cube.mass": "a"}, "body.cube.mass is a number, not 'a'"),
        ({"light.0.specular": 0.1}, "no parameter 'light.0.specular'"),
        ({"action.latency": 1.5}, "action.latency is an integer, not 1.5"),
        ({"body.cube.texture": {"kind": "plaid"}}, "body.cube.texture: a texture's kind is one of"),
    ],
)
def test_all_or_none(exact: dict[str, Any], message: str) -> None:
    env, twin = wrapped(list(TABLES.values())), wrapped(list(TABLES.values()))
    episode(env, 5, seed=3)
    episode(twin, 5, seed=3)
    before = dict(env.unwrapped.values)  # type: ignore[attr-defined]
    with pytest.raises(ParameterError) as error:
        env.reset(seed=8, options={"domain": {"body.cube.friction": 0.5, **exact}})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert env.unwrapped.values == before  # type: ignore[attr-defined]
    action = np.ones(2, np.float32)
    assert_same(env.step(action), twin.step(action))
    assert_same(episode(env, 5), episode(twin, 5))


@settings(max_examples=20, deadline=None)
@given(chosen=paths, seed=st.integers(0, 2**31 - 1), steps=st.lists(st.integers(0, 9), max_size=4))
def test_a_line_of_the_log_is_the_whole_episode(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[str], seed: int, steps: list[int]
) -> None:
    log = tmp_path_factory.mktemp("log") / "draws.jsonl"
    env = wrapped([TABLES[path] for path in chosen], log=log)
    played = [episode(env, 5, seed=seed, options={"domain": {"body.ball.friction": 0.7}})]
    played += [episode(env, n) for n in steps]
    env.close()
    env.close()  # twice is fine, and writes nothing again
    lines = log.read_text().splitlines()
    assert len(lines) == len(played)
    # Any of them, in an environment that has never seen it, whose spec is another.
    other = wrapped([FRICTION, uniform("body.ball.friction", 0.1, 0.2, when="step")])
    for line, steps_of_it in reversed(list(zip(lines, played, strict=True))):
        again = list(replay(other, line))
        observation, info = steps_of_it[0]
        assert_same(again[0], (observation, 0.0, False, False, info))
        assert_same(again[1:], steps_of_it[1:])


def test_what_a_line_says(tmp_path: Path) -> None:
    env = wrapped([MASS, TABLES["world.gravity"]], log=tmp_path / "log.jsonl")
    played = episode(env, 100, seed=6)
    assert played[-1][2]
    line = json.loads((tmp_path / "log.jsonl").read_text())  # once it has ended
    assert line["how"] == "ended"
    assert (line["spec"], line["seed"], line["episode"]) == ("test", 6, 0)
    assert line["steps"] == len(line["actions"]) == len(played) - 1
    assert line["return"] == pytest.approx(sum(step[1] for step in played[1:]))
    assert line["values"] == played[0][1]["domain"]
    assert line["changes"][0] == [3, played[4][-1]["domain"]]
    env.reset()
    env.close()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(text)["how"] for text in lines] == ["ended", "left"]


def test_a_step_that_fails_is_in_the_log(tmp_path: Path) -> None:
    env = wrapped([MASS], log=tmp_path / "log.jsonl")
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    with pytest.raises(IndexError):
        env.step(np.zeros(0, np.float32))
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert (line["how"], line["steps"]) == ("failed", 2)
    with pytest.raises(IndexError):
        list(replay(wrapped([MASS]), line))


def test_a_log_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        wrapped([MASS], log=tmp_path / "absent" / "log.jsonl")


class Lives(gym.Wrapper[Any, Any, Any, Any]):
    goes_on = False


def test_a_game_with_lives_is_refused() -> None:
    with pytest.raises(SpecError, match="games go on through a reset cannot"):
        DomainRandomization(Lives(Randomizable()), spec(MASS))


def test_values_change_before_the_simulator_resets() -> None:
    """Those that are not live are set in time for its reset."""
    env = Randomizable(not_live="body.cube.mass")
    seen: list[Any] = []
    inner_reset: Callable[..., Any] = env.reset

    def reset(**options: Any) -> Any:
        seen.append(env.values["body.cube.mass"])
        return inner_reset(**options)

    env.reset = reset  # type: ignore[method-assign]
    wrapper = DomainRandomization(env, spec(MASS))
    drawn = [wrapper.reset()[1]["domain"]["body.cube.mass"] for _ in range(3)]
    assert drawn == seen


def arrived(domain: dict[str, Any], actions: np.ndarray) -> np.ndarray:
    """What reaches the environment when these are sent."""
    env = wrapped([])
    env.reset(seed=0, options={"domain": domain})
    for action in actions:
        env.step(action)
    found = env.unwrapped.actions  # type: ignore[attr-defined]
    assert all(action.dtype == np.float32 for action in found)
    return np.array(found)


def test_actions_come_as_late_as_asked() -> None:
    sent = np.random.default_rng(0).uniform(-1, 1, (9, 2)).astype(np.float32)
    for latency in (0, 1, 3, 12):
        came = arrived({"action.latency": latency}, sent)
        late = np.concatenate([np.zeros((latency, 2), np.float32), sent])[:9]
        np.testing.assert_array_equal(came, late)


def test_latency_may_change_in_the_middle() -> None:
    """What is acted on is what was sent that many steps ago, whatever the latency was then."""
    env = wrapped([TABLES["action.latency"]])
    env.reset(seed=0)
    sent = np.random.default_rng(0).uniform(-1, 1, (30, 2)).astype(np.float32)
    for k, action in enumerate(sent):
        env.step(action)
        latency = env.in_force["action.latency"]
        assert isinstance(latency, int)
        expected = sent[k - latency] if k >= latency else np.zeros(2)
        np.testing.assert_array_equal(env.unwrapped.actions[-1], expected)  # type: ignore[attr-defined]
    assert len({draw for draw in draws(episode(env, 30), "action.latency") if draw is not None}) > 1


def test_noise_on_actions_keeps_their_bounds() -> None:
    still = np.zeros((500, 2), np.float32)
    assert np.std(arrived({"action.noise": 0.2}, still)) == pytest.approx(0.2, rel=0.1)
    edge = arrived({"action.noise": 0.2}, still + 1)
    assert edge.max() == 1.0
    assert 0.4 < (edge < 1).mean() < 0.6


# In vector environments, and through what is saved of a run.

HALFCHEETAH = Path(__file__).parents[1] / "sim2real" / "specs" / "halfcheetah.toml"
warned = pytest.mark.filterwarnings("ignore:.*is out of date.*")


def play(envs: Any, steps: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    low, high = envs.action_space.low, envs.action_space.high
    return [envs.step(rng.uniform(low, high).astype(np.float32)) for _ in range(steps)]


def timed() -> Spec:
    """HalfCheetah's spec with draws at startup, at intervals and at every step too."""
    extra = spec(
        uniform("joint.rootz.damping", 0.0, 5.0, when="interval", every=7),
        uniform("joint.rootx.friction", 0.0, 2.0, when="step"),
        uniform("joint.rootx.armature", 0.0, 2.0, when="startup"),
    )
    return Spec("timed", Spec.load(HALFCHEETAH).entries + extra.entries)


@warned
def test_vector_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process and in several: the same draws, each sub-environment its own."""
    monkeypatch.chdir(tmp_path)
    played: dict[str, Any] = {}
    for way in ("sync", "async"):
        log = tmp_path / f"{way}.jsonl"
        wrap = randomized(timed(), log, seed=1)
        envs: Any = make_vec(
            "HalfCheetah-v4",
            2,
            5,
            way,
            wrap=wrap,
            max_episode_steps=20,
        )
        _, infos = envs.reset()
        assert len(set(infos["domain"]["body.torso.mass"])) == 2
        assert len(set(infos["domain"]["joint.rootx.armature"])) == 2
        assert infos["domain"]["world.gravity"].shape[0] == 2
        played[way] = [infos, *play(envs, 47, 0)]
        envs.close()
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert len(lines) == 6  # two ended and one left, of each
        assert len({line["seed"] for line in lines}) == 6
    masses = [
        [step[-1]["domain"]["body.torso.mass"] for step in played[way][1:] if step[3].any()]
        for way in played
    ]
    assert len(masses[0]) == 2
    assert_same(*masses)
    assert_same(*([step[:4] for step in played[way][1:]] for way in played))


@warned
def test_a_resumed_run_goes_on_in_its_domains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrap = randomized(timed(), seed=1)
    made: dict[str, Any] = {"max_episode_steps": 40, "wrap": wrap}
    envs: Any = make_vec("HalfCheetah-v4", 2, seed=5, **made)
    envs.reset()
    play(envs, 40 + 31, seed=0)
    save_state(tmp_path / "state", {"environments": list(envs.call("snapshot"))})
    expected = play(envs, 100, seed=1)
    again: Any = make_vec("HalfCheetah-v4", 2, seed=99, **made)
    again.call("restore", load_state(tmp_path / "state")["environments"])
    assert_same([step[:4] for step in play(again, 100, seed=1)], [step[:4] for step in expected])


def test_a_wrapped_environment_can_be_wrapped_on() -> None:
    env = Resumable(DomainRandomization(Randomizable(), spec(MASS)), 0, 0)
    played = episode(env, 5)
    assert env.get_wrapper_attr("domain_spec").name == "test"
    again = Resumable(DomainRandomization(Randomizable(), spec(MASS)), 0, 0)
    assert_same(episode(again, 5), played)


def test_an_own_vectorized_form_cannot_be_wrapped() -> None:
    with pytest.raises(ValueError, match="cannot be wrapped"):
        make_vec("CartPole-v1", 2, 0, "vector_entry_point", wrap=randomized(spec(MASS)))
