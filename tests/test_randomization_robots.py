"""The robot environments randomized: each parameter of each engine works, and leaves nothing."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agents.state import load_state, save_state
from envs import make_env, make_vec
from envs.robotics.parameters import Parameter, ParameterError
from sim2real.randomization import DomainRandomization, randomized, replay
from sim2real.spec import Spec, SpecError

ENGINES = ("bullet", "mujoco")
UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
TILTED = np.array([0.3, 0.2, 0.1, np.sqrt(1 - 0.14)])


def another(parameter: Parameter) -> list[Any]:
    """Values that are clearly others than the nominal one, in both directions if there are two."""
    nominal: Any = parameter.nominal
    if parameter.kind == "texture":
        return [
            {"kind": "checker", "first": [1.0, 0.2, 0.9], "second": [0.1, 0.8, 0.1], "cells": 6}
        ]
    if parameter.path == "world.gravity":
        return [[0.0, 0.0, -5.0], [1.0, 0.0, -9.81]]
    if parameter.kind == "vector":
        return [np.add(nominal, [0.15, -0.2, 0.1]).tolist()]
    if parameter.kind == "colour":
        return [[0.5, 0.9, 0.3]]
    if parameter.kind == "integer":
        return [1 - nominal] if parameter.high == 1 else [nominal + 7]
    values = [2 * nominal, nominal / 2] if nominal else [min(parameter.high, 1.0) / 2]
    return [value for value in values if parameter.low <= value <= parameter.high]


def grasp(env: Any, steps: int = 22) -> np.ndarray:
    """[steps, numbers]: an object is grasped and lifted while the arm wanders, then thrown down."""
    env.reset(seed=1)
    engine = env.unwrapped.engine
    engine.place("object", engine.tool()[0], UPRIGHT)
    found = []
    for k in range(steps):
        if k == steps - 6:  # off the table, on its corner
            engine.place("object", np.array([0.6, 0.0, -0.35]), TILTED)
        wander = [0.4 * np.sin(k / 3), 0.4 * np.cos(k / 4)]
        action = np.array([*wander, -0.8 if k < 12 else 0.7, 1.0 if k < 3 else -1.0])
        observation = env.step(action)[0]["observation"]
        found.append([*observation, *np.concatenate(engine.joints())])
    return np.array(found)


def picture(env: Any) -> np.ndarray:
    env.reset(seed=1)
    rgb: np.ndarray = env.unwrapped.engine.rgb("main", 96, 96).copy()
    return rgb


@pytest.mark.parametrize("engine", ENGINES)
def test_every_parameter_does_something(engine: str) -> None:
    """What changes no trajectory and no pixel is no parameter; nothing of any is left behind."""
    env = make_env(f"{engine}/PandaGrasp-v0")
    inner: Any = env.unwrapped
    nominal, before = grasp(env), picture(env)
    idle = []
    for path, parameter in inner.parameters().items():
        for value in another(parameter):
            inner.set_parameters({path: value})
            same = np.array_equal(
                picture(env) if parameter.visual else grasp(env),
                before if parameter.visual else nominal,
            )
            idle += [(path, value)] if same else []
            inner.set_parameters({path: parameter.nominal})
        if parameter.visual:
            assert np.array_equal(picture(env), before), path
    assert idle == []
    np.testing.assert_array_equal(grasp(env), nominal)
    # What is only seen moves nothing.
    seen = {p: another(x)[0] for p, x in inner.parameters().items() if x.visual}
    inner.set_parameters(seen)
    np.testing.assert_array_equal(grasp(env), nominal)
    env.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_every_parameter_of_the_localiser_does_something(engine: str) -> None:
    env = make_env(f"{engine}/TableLocalise-v0", image_size=64)
    inner: Any = env.unwrapped
    # All lights are on and not too bright together, and the sky is in the picture too.
    crowd = {"task.distractors": 10, "camera.main.fov": 100.0}
    crowd |= {path: 1 for path in inner.parameters() if path.endswith(".on")}
    crowd |= {path: 0.1 for path in inner.parameters() if path.endswith(".ambient")}
    inner.set_parameters(crowd)
    before = env.reset(seed=1)[0].copy()
    shown = {path for path in inner.parameters() if path.startswith("body.distractor")}
    idle = []
    for path, parameter in inner.parameters().items():
        value = {"task.distractors": 4}.get(path, another(parameter)[0])
        value = {"on": 0, "ambient": 0.6, "specular": 1.0}.get(path.split(".")[-1], value)
        inner.set_parameters({path: value})
        if np.array_equal(env.reset(seed=1)[0], before):
            idle.append(path)
        inner.set_parameters({path: parameter.nominal} | crowd)
    # Ten of the twenty are hidden; nothing else is without effect.
    assert set(idle) <= shown
    assert len(idle) <= 10
    with pytest.raises(
        ParameterError, match=r"body\.object\.mass cannot be changed: nothing moves"
    ):
        inner.set_parameters({"body.object.mass": 0.2})
    text = '[[parameter]]\npath = "joint.*.gain"\ndistribution = {kind = "constant", value = 20.0}'
    with pytest.raises(SpecError, match=r"joint1\.gain cannot be changed here: nothing moves"):
        DomainRandomization(env, Spec.parse(text))
    env.close()


def test_what_an_engine_lacks_is_refused_with_its_reason() -> None:
    env = make_env("bullet/PandaReach-v0")
    with pytest.raises(SpecError, match=r"panda_joint1\.armature cannot be changed here: PyBullet"):
        DomainRandomization(env, "panda_joints_mujoco")
    env.close()


def specs(engine: str, task: str) -> Spec:
    """All that comes with the package for such an environment."""
    if task == "TableLocalise":
        return Spec.load(f"localise_{engine}")
    names = ["panda_dynamics"]
    names += ["panda_joints_mujoco"] if engine == "mujoco" else []
    names += [] if task == "PandaReach" else ["panda_objects"]
    entries = [entry for name in names for entry in Spec.load(name).entries]
    return Spec(" + ".join(names), tuple(entries))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", ["PandaReach", "PandaPush", "PandaGrasp", "TableLocalise"])
def test_an_episode_replays_whatever_came_before(engine: str, task: str, tmp_path: Path) -> None:
    """The shipped specs fit, and a line of the log is the same episode in a new environment."""
    made: dict[str, Any] = {"image_size": 48} if task == "TableLocalise" else {}
    env = make_env(f"{engine}/{task}-v0", **made)
    log = tmp_path / "log.jsonl"
    wrapped = DomainRandomization(env, specs(engine, task), log)
    wrapped.action_space.seed(0)
    for k in range(3):
        played: list[Any] = [wrapped.reset(seed=7 if k == 0 else None)]
        for _ in range(1 if task == "TableLocalise" else 12):
            played.append(wrapped.step(wrapped.action_space.sample()))
    wrapped.close()
    fresh = DomainRandomization(make_env(f"{engine}/{task}-v0", **made), Spec("nothing", ()))
    again = list(replay(fresh, log.read_text().splitlines()[-1]))
    assert len(again) == len(played)
    for first, second in zip(again, played, strict=True):
        ours, theirs = first[0], second[0]
        for key in ours if isinstance(ours, dict) else [...]:
            np.testing.assert_array_equal(ours[key], theirs[key])
    assert [step[1] for step in again[1:]] == [step[1] for step in played[1:]]
    fresh.close()


def test_a_resumed_run_of_robots(tmp_path: Path) -> None:
    """In a vector environment, saved in the middle of episodes: it goes on in the same domains."""
    wrap = randomized(specs("bullet", "PandaPush"))
    made: dict[str, Any] = {"max_episode_steps": 8, "wrap": wrap}

    def play(envs: Any, steps: int, seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        actions = rng.uniform(-1, 1, (steps, *envs.action_space.shape)).astype(np.float32)
        return [envs.step(action)[0]["observation"].copy() for action in actions]

    envs: Any = make_vec("bullet/PandaPush-v0", 2, seed=1, **made)
    envs.reset()
    play(envs, 13, 0)
    save_state(tmp_path / "state", {"environments": list(envs.call("snapshot"))})
    expected = play(envs, 15, 1)
    envs.close()
    again: Any = make_vec("bullet/PandaPush-v0", 2, seed=9, **made)
    again.call("restore", load_state(tmp_path / "state")["environments"])
    np.testing.assert_array_equal(play(again, 15, 1), expected)
    again.close()


def test_the_camera_keeps_the_object_in_sight() -> None:
    """Of what is drawn for the localiser, less than one object in fifty is out of the picture."""
    env = DomainRandomization(
        make_env("bullet/TableLocalise-v0", image_size=48),
        Spec.load("localise_bullet").without("textures", "distractors", "lights", "noise"),
    )
    inner: Any = env.unwrapped
    number = [body.name for body in inner.scene.bodies].index("object") + 1
    seen = []
    for k in range(100):
        env.reset(seed=0 if k == 0 else None)
        seen.append((inner.engine.render("main", 48, 48).segmentation == number).sum())
    assert np.mean(np.array(seen) > 0.5 * np.median(seen)) > 0.98
    env.close()


def test_pictures_of_any_environment_are_degraded() -> None:
    """Noise as strong as asked, blur, compression; the environment's own picture is left alone."""
    env = DomainRandomization(make_env("bullet/TableLocalise-v0", image_size=64), Spec("none", ()))
    clean = env.reset(seed=0)[0].astype(float)
    pictures = {}
    for path, value in {"image.noise": 8.0, "image.blur": 2.0, "image.compression": 60}.items():
        observation, _ = env.reset(seed=0, options={"domain": {path: value}})
        assert (observation.shape, observation.dtype) == (clean.shape, np.uint8)
        pictures[path] = observation.astype(float)
    inside = (clean > 40) & (clean < 215)
    assert 7.5 < (pictures["image.noise"] - clean)[inside].std() < 8.5
    # Squared, as a blurred step is as high as before. Of one, 1 / (2 sqrt(pi) 2) = 0.14 is left.
    steps = [np.square(np.diff(x, axis=1)).mean() for x in (pictures["image.blur"], clean)]
    assert steps[0] < 0.25 * steps[1]
    assert 0.5 < np.abs(pictures["image.compression"] - clean).mean() < 8
    np.testing.assert_array_equal(env.reset(seed=0)[0], clean)
    env.close()


def test_the_state_is_noisy_and_the_goal_is_not() -> None:
    """Goals are what rewards are computed from; they stay exact."""
    env: gym.Env[Any, Any] = make_env("mujoco/PandaReach-v0")
    wrapped = DomainRandomization(env, Spec("none", ()))
    clean, _ = wrapped.reset(seed=0)
    noisy, _ = wrapped.reset(seed=0, options={"domain": {"observation.noise": 0.01}})
    assert 0.001 < np.std(noisy["observation"] - clean["observation"]) < 0.03
    for key in ("achieved_goal", "desired_goal"):
        np.testing.assert_array_equal(noisy[key], clean[key])
    env.close()
