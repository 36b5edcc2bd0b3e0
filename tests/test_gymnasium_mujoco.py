"""Parameters of Gymnasium's MuJoCo environments: each works, and nothing of it is left behind."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from envs.robotics.parameters import Parameter, ParameterError
from sim2real.gymnasium_mujoco import GymnasiumMujoco, changeable
from sim2real.randomization import DomainRandomization
from sim2real.spec import Spec, SpecError

pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date.*")

CHEETAH = "HalfCheetah-v4"


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes its log into the working directory."""
    monkeypatch.chdir(tmp_path)


def make(env_id: str = CHEETAH, **options: Any) -> tuple[Any, GymnasiumMujoco]:
    env: Any = gym.make(env_id, **options)
    found = changeable(env)
    assert found is not None
    return env, found


def constants(model: Any) -> dict[str, np.ndarray]:
    """Every array of a model."""
    parts = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    arrays = {name: part.copy() for name, part in parts.items() if isinstance(part, np.ndarray)}
    return arrays | {"inertia": np.array(model.stat.meaninertia), "g": model.opt.gravity.copy()}


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {name for name in before if not np.array_equal(before[name], after[name])}


def trajectory(env: Any, steps: int = 40) -> np.ndarray:
    """[5 steps, observation]: dropped on its feet, back, head, tail, and folded on its knees."""
    env.reset(seed=0)
    inner = env.unwrapped
    found = []
    for start in (0.0, np.pi, np.pi / 2, -np.pi / 2, 1.0):
        rng, position = np.random.default_rng(0), inner.init_qpos.copy()
        position[1:3] = 0.3, start
        if start == 1.0:
            position[3:] = inner.model.jnt_range[3:, 1]
        inner.set_state(position, rng.normal(0, 1, inner.model.nv))
        found += [env.step(rng.uniform(-1, 1, env.action_space.shape))[0] for _ in range(steps)]
    return np.array(found)


def another(parameter: Parameter) -> list[Any]:
    """Values that are clearly others than the nominal one, in both directions if there are two."""
    if parameter.path.endswith("position"):
        return [(np.array(parameter.nominal) + 0.2).tolist()]
    if parameter.path.endswith("direction"):
        return [[0.5, 0.5, -0.7]]
    if parameter.path == "world.gravity":
        return [[0.0, 0.0, -11.0], [1.0, 0.0, -9.81]]
    if parameter.kind in ("vector", "colour"):
        nominal: Any = parameter.nominal
        return [[part / 2 for part in nominal]] if np.max(nominal) > 0.2 else [[0.9, 0.5, 0.3]]
    if parameter.path.endswith(".on"):
        return [1 - parameter.nominal]  # type: ignore[operator]
    number = float(parameter.nominal)  # type: ignore[arg-type]
    values = [2 * number, 0.5 * number] if number else [0.2 * min(parameter.high, 5.0)]
    if parameter.kind == "integer":
        values = [round(value) for value in values]
    return [v for v in values if parameter.low <= v <= parameter.high and v != parameter.nominal]


def test_every_parameter_of_halfcheetah_does_something() -> None:
    """Whatever changes no trajectory and no pixel is no parameter; nothing is left behind."""
    env, found = make(render_mode="rgb_array", width=64, height=64, camera_id=0)
    nominal, model = trajectory(env), env.unwrapped.model
    before, picture = constants(model), env.render()
    frames_skipped = env.unwrapped.frame_skip
    idle = []
    parameters = found.parameters()
    assert len(parameters) > 80
    for path, parameter in parameters.items():
        values = another(parameter)
        assert values, path
        for value in values:
            found.set_parameters({path: value})
            moved = trajectory(env)
            same_motion = np.array_equal(moved, nominal)
            if (same_motion and not parameter.visual) or (parameter.visual and not same_motion):
                idle.append((path, value))
            if parameter.visual and np.array_equal(env.render(), picture):
                idle.append((path, value))
            found.set_parameters({path: parameter.nominal})
        assert changed(before, constants(model)) == set(), path
    assert idle == []
    assert env.unwrapped.frame_skip == frames_skipped
    np.testing.assert_array_equal(trajectory(env), nominal)
    env.close()


def test_mass_and_inertia_go_together_and_constants_follow() -> None:
    env, found = make()
    model, i = env.unwrapped.model, env.unwrapped.model.body("bthigh").id
    mass, tensor = model.body_mass[i], model.body_inertia[i].copy()
    found.set_parameters({"body.bthigh.mass": 2.0 * mass, "body.bthigh.inertia": 1.5})
    np.testing.assert_allclose(model.body_mass[i], 2 * mass, rtol=1e-12)
    np.testing.assert_allclose(model.body_inertia[i], 3 * tensor, rtol=1e-12)
    # What MuJoCo derives is what it would derive for a model that was compiled with them.
    file = Path(gym.__file__).parent / "envs" / "mujoco" / "assets" / "half_cheetah.xml"
    compiled = mujoco.MjModel.from_xml_path(str(file))
    compiled.body_mass[i], compiled.body_inertia[i] = 2 * mass, 3 * tensor
    mujoco.mj_setConst(compiled, mujoco.MjData(compiled))
    for name in ("body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0"):
        np.testing.assert_allclose(getattr(model, name), getattr(compiled, name), rtol=1e-9)
    assert model.stat.meaninertia == pytest.approx(compiled.stat.meaninertia)
    assert model.body_subtreemass[1] == pytest.approx(14 + mass)


def test_changing_a_mass_in_the_middle_of_an_episode_keeps_the_state() -> None:
    env, found = make()
    env.reset(seed=0)
    for _ in range(10):
        env.step(env.action_space.high)
    data = env.unwrapped.data
    before = data.qpos.copy(), data.qvel.copy(), data.time
    found.set_parameters({"body.torso.mass": 9.0, "light.0.direction": [1.0, 0.0, -1.0]})
    np.testing.assert_array_equal(data.qpos, before[0])
    np.testing.assert_array_equal(data.qvel, before[1])
    assert data.time == before[2]


def test_friction_is_one_factor_because_the_larger_of_two_counts() -> None:
    env, found = make()
    model = env.unwrapped.model
    found.set_parameters({"world.friction": 0.5, "geom.ffoot.friction": 0.8})
    assert model.geom("floor").friction[0] == pytest.approx(0.2)
    assert model.geom("ffoot").friction[0] == pytest.approx(0.4)
    # Less than the floor has would change nothing: it is refused, not ignored.
    with pytest.raises(ParameterError, match=r"geom\.ffoot\.friction lies in 0\.4 to 10, not 0\.3"):
        found.set_parameters({"geom.ffoot.friction": 0.3})


def test_all_or_none() -> None:
    env, found = make()
    before = constants(env.unwrapped.model)
    with pytest.raises(
        ParameterError, match=r"no parameter 'body\.torso\.mas'; nearest: body\.tor"
    ):
        found.set_parameters({"body.torso.mass": 7.0, "body.torso.mas": 7.0})
    assert changed(before, constants(env.unwrapped.model)) == set()


def test_a_thousand_episodes_leave_nothing_behind() -> None:
    """Randomized again and again, the model goes back to nominal to the last bit."""
    env, found = make(max_episode_steps=2)
    before, nominal = constants(env.unwrapped.model), trajectory(env)
    wrapped = DomainRandomization(env, "halfcheetah")
    for k in range(1000):
        domain = wrapped.reset(seed=0 if k == 0 else None)[1]["domain"]
        assert env.unwrapped.model.body("torso").mass[0] == domain["body.torso.mass"]
        assert 0.7 <= domain["body.torso.mass"] / 6.25020920502092 <= 1.4286
    # A second wrapper takes the model's nominal values, not what the first has drawn last.
    again = DomainRandomization(env, Spec("nothing", ()))
    assert again.parameters["body.torso.mass"].nominal == 6.25020920502092
    again.reset(options={"domain": {p: x.nominal for p, x in found.parameters().items()}})
    assert changed(before, constants(env.unwrapped.model)) == set()
    np.testing.assert_array_equal(trajectory(env), nominal)


def test_the_order_of_changes_does_not_matter() -> None:
    one, first = make()
    two, second = make()
    values = {"body.torso.mass": 9.0, "body.torso.inertia": 2.0, "joint.bfoot.armature": 0.3}
    first.set_parameters(values)
    for path, value in reversed(values.items()):
        second.set_parameters({path: value})
    assert changed(constants(one.unwrapped.model), constants(two.unwrapped.model)) == set()


@pytest.mark.parametrize("env_id", ["Ant-v5", "InvertedPendulum-v5", "Humanoid-v5", "Reacher-v5"])
def test_other_models(env_id: str) -> None:
    """Free joints, unnamed parts, servos: setting what is nominal changes nothing."""
    env, found = make(env_id)
    before = constants(env.unwrapped.model)
    found.set_parameters({path: x.nominal for path, x in found.parameters().items()})
    assert changed(before, constants(env.unwrapped.model)) == set()
    env.close()


def test_what_cannot_be_changed_says_why() -> None:
    text = '[[parameter]]\npath = "light.0.position"\n'
    text += 'distribution = {kind = "box", size = [1, 1, 1]}'
    with pytest.raises(SpecError, match=r"light\.0\.position cannot be changed here: it shines"):
        DomainRandomization(gym.make(CHEETAH), Spec.parse(text))
    assert changeable(gym.make("Pendulum-v1")) is None
    _, found = make()
    assert "camera_id=0" in found.unsupported["camera.track.fov"]


def test_grey_is_grey_on_a_geom_with_a_material() -> None:
    """MuJoCo takes exactly this colour to mean that the material's own shows."""
    env, found = make(render_mode="rgb_array", width=64, height=64)
    pictures = []
    for colour in ([0.5, 0.5, 0.5], [0.5, 0.5, 0.52], [0.8, 0.9, 0.8]):
        env.reset(seed=0)
        found.set_parameters({"geom.floor.colour": colour})
        pictures.append(env.render().astype(int))
    assert np.abs(pictures[0] - pictures[1]).mean() < 2 < np.abs(pictures[0] - pictures[2]).mean()
    env.close()
