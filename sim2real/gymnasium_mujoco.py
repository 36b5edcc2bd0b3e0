"""What of any Gymnasium MuJoCo environment (HalfCheetah-v4, Ant-v5, …) may be changed.

It offers of such an environment what the robot environments have of their own: ``parameters`` and
``set_parameters``. A part without a name is called by its number in the model.

| path | what it is |
|---|---|
| world.gravity | acceleration, m/s² |
| world.friction | a factor on the sliding friction of everything |
| body.NAME.mass | kg; the inertia tensor goes with it |
| body.NAME.inertia | a factor on the tensor, on top of that |
| geom.NAME.friction | sliding friction; between two geoms the larger counts |
| geom.NAME.colour | RGB |
| joint.NAME.damping, armature, friction, stiffness | of each of its degrees of freedom |
| actuator.NAME.gain | a factor on its force, a position servo's spring and damper included |
| light.NAME.colour, ambient, specular, direction, position, on | as the model has them |
| camera.NAME.position, fov | in its body's frame; degrees |
| control.substeps | physics steps to a control step (Gymnasium's frame_skip) |
"""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from envs.robotics.parameters import Kind, Parameter, Value, check

Apply = Callable[[], None]


def changeable(env: gym.Env[Any, Any]) -> "GymnasiumMujoco | None":
    """The parameters of ``env``; the same object every time. None if it is no MuJoCo model."""
    inner = env.unwrapped
    if not isinstance(getattr(inner, "model", None), mujoco.MjModel):
        return None
    if _ATTRIBUTE not in vars(inner):
        setattr(inner, _ATTRIBUTE, GymnasiumMujoco(inner))
    found: GymnasiumMujoco = vars(inner)[_ATTRIBUTE]
    return found


class GymnasiumMujoco:
    """The parameters of one environment. Their nominal values are the model's when it is made.

    unsupported: path -> why that cannot be changed.
    """

    def __init__(self, env: Any) -> None:
        self.env, self.model = env, env.model
        self.unsupported: dict[str, str] = {}
        self._parameters: dict[str, Parameter] = {}
        self._apply: dict[str, Apply] = {}
        self._derived: set[str] = set()  # after which MuJoCo's own constants are recomputed
        self._scratch = mujoco.MjData(self.model)  # because recomputing them overwrites a state
        self._add_world()
        self._add_bodies()
        self._add_geoms()
        self._add_joints()
        self._add_actuators()
        self._add_lights()
        self._add_cameras()
        self._values = {path: p.nominal for path, p in self._parameters.items()}

    def parameters(self) -> dict[str, Parameter]:
        """Path -> parameter."""
        return dict(self._parameters)

    def set_parameters(self, values: Mapping[str, Value]) -> None:
        """All or (ParameterError) none; those not named stay."""
        check(self._parameters, values)
        self._values.update(values)
        for apply in dict.fromkeys(self._apply[path] for path in values):
            apply()
        if self._derived.intersection(values):
            mujoco.mj_setConst(self.model, self._scratch)

    def _add(
        self,
        path: str,
        kind: Kind,
        nominal: Any,
        low: float,
        high: float,
        apply: Apply,
        unit: str = "",
        visual: bool = False,
        derived: bool = False,
    ) -> None:
        nominal = np.asarray(nominal).tolist()
        self._parameters[path] = Parameter(path, kind, nominal, low, high, unit, visual)
        self._apply[path] = apply
        if derived:
            self._derived.add(path)

    def _add_array(
        self, path: str, kind: Kind, rows: np.ndarray, low: float, high: float, **about: Any
    ) -> None:
        """A parameter that stands in the model as it is: ``rows`` is a view of there."""
        nominal = rows if kind in ("vector", "colour") else rows.flat[0]

        def apply() -> None:
            rows[...] = self._values[path]

        exact = np.array(nominal, int if kind == "integer" else float)
        self._add(path, kind, exact, low, high, apply, **about)

    def _add_world(self) -> None:
        self._add_array("world.gravity", "vector", self.model.opt.gravity, -30, 30, unit="m/s²")

        def substeps() -> None:
            self.env.frame_skip = self._values["control.substeps"]

        self._add("control.substeps", "integer", int(self.env.frame_skip), 1, 1000, substeps)

    def _add_bodies(self) -> None:
        model = self.model
        for i in range(1, model.nbody):
            if model.body_mass[i]:
                self._add_body(i, f"body.{_name(model.body(i))}")

    def _add_body(self, i: int, path: str) -> None:
        mass, tensor = float(self.model.body_mass[i]), self.model.body_inertia[i].copy()

        def apply() -> None:
            self.model.body_mass[i] = self._values[f"{path}.mass"]
            share = self._values[f"{path}.mass"] / mass  # type: ignore[operator]
            self.model.body_inertia[i] = tensor * share * self._values[f"{path}.inertia"]

        self._add(f"{path}.mass", "number", mass, 1e-4, 1e4, apply, "kg", derived=True)
        self._add(f"{path}.inertia", "number", 1.0, 0.01, 100, apply, "×", derived=True)

    def _add_geoms(self) -> None:
        model = self.model
        sliding, pairs = model.geom_friction[:, 0].copy(), model.pair_friction[:, :2].copy()
        paths = [f"geom.{_name(model.geom(i))}" for i in range(model.ngeom)]

        def friction() -> None:
            factor = self._values["world.friction"]
            own = [
                self._values.get(f"{p}.friction", s) for p, s in zip(paths, sliding, strict=True)
            ]
            model.geom_friction[:, 0] = np.array(own) * factor
            model.pair_friction[:, :2] = pairs * factor

        self._add("world.friction", "number", 1.0, 0.0, 100, friction, "×")
        for i, path in enumerate(paths):
            partners = sliding[self._touchable(i)]
            if partners.size:
                # Below what all others have, nothing would change: the larger counts.
                low = min(sliding[i], partners.min())
                self._add(f"{path}.friction", "number", sliding[i], low, 10, friction)
            else:
                self.unsupported[f"{path}.friction"] = "it touches nothing"
            if model.geom_group[i] <= 2 and model.geom_rgba[i, 3]:
                self._add_colour(i, f"{path}.colour")
            else:
                self.unsupported[f"{path}.colour"] = "it is not drawn"

    def _touchable(self, i: int) -> np.ndarray:
        """Which geoms a geom can touch by their bit masks, bool [geoms]."""
        model = self.model
        bits = (model.geom_contype & model.geom_conaffinity[i]) | (
            model.geom_conaffinity & model.geom_contype[i]
        )
        able: np.ndarray = (bits != 0) & (model.geom_bodyid != model.geom_bodyid[i])
        return able

    def _add_colour(self, i: int, path: str) -> None:
        model, material = self.model, self.model.geom_matid[i]
        grey = np.full(3, 0.5, np.float32)  # which means: as the material has it
        own = material < 0 or np.any(model.geom_rgba[i, :3] != grey)
        nominal = np.array(model.geom_rgba[i] if own else model.mat_rgba[material], float)[:3]

        def apply() -> None:
            colour = np.array(self._values[path], np.float32)
            # At this very grey the material's own colour would show instead.
            model.geom_rgba[i, :3] = colour + 1e-4 * (material >= 0 and np.all(colour == grey))

        self._add(path, "colour", nominal, 0, 1, apply, visual=True)

    def _add_joints(self) -> None:
        model = self.model
        for i in range(model.njnt):
            path = f"joint.{_name(model.joint(i))}"
            dofs = slice(model.jnt_dofadr[i], model.jnt_dofadr[i] + _DOFS[int(model.jnt_type[i])])
            add = self._add_array
            add(
                f"{path}.damping",
                "number",
                model.dof_damping[dofs],
                0,
                1e4,
                unit="N m s/rad, N s/m",
            )
            armature = model.dof_armature[dofs]
            add(f"{path}.armature", "number", armature, 0, 1e3, unit="kg m², kg", derived=True)
            add(f"{path}.friction", "number", model.dof_frictionloss[dofs], 0, 1e4, unit="N m, N")
            stiffness = model.jnt_stiffness[i : i + 1]
            add(f"{path}.stiffness", "number", stiffness, 0, 1e5, unit="N m/rad, N/m")

    def _add_actuators(self) -> None:
        model = self.model
        for i in range(model.nu):
            path = f"actuator.{_name(model.actuator(i))}.gain"
            if model.actuator_gaintype[i] == mujoco.mjtGain.mjGAIN_FIXED:
                self._add_actuator(i, path)
            else:
                self.unsupported[path] = "its gain is no constant"

    def _add_actuator(self, i: int, path: str) -> None:
        gain, bias = self.model.actuator_gainprm[i].copy(), self.model.actuator_biasprm[i].copy()

        def apply() -> None:
            self.model.actuator_gainprm[i] = gain * self._values[path]
            self.model.actuator_biasprm[i] = bias * self._values[path]

        self._add(path, "number", 1.0, 0.0, 100, apply, "×", derived=True)

    def _add_lights(self) -> None:
        model = self.model
        for i in range(model.nlight):
            path, add = f"light.{_name(model.light(i))}", self._add_array
            add(f"{path}.colour", "colour", model.light_diffuse[i], 0, 1, visual=True)
            add(f"{path}.ambient", "colour", model.light_ambient[i], 0, 1, visual=True)
            add(f"{path}.specular", "colour", model.light_specular[i], 0, 1, visual=True)
            seen: dict[str, Any] = {"visual": True, "derived": True}
            add(f"{path}.direction", "vector", model.light_dir[i], -10, 10, **seen)
            if model.light_type[i] == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL:
                self.unsupported[f"{path}.position"] = "it shines from infinitely far away"
            else:
                add(f"{path}.position", "vector", model.light_pos[i], -100, 100, unit="m", **seen)
            add(f"{path}.on", "integer", model.light_active[i : i + 1], 0, 1, visual=True)

    def _add_cameras(self) -> None:
        model = self.model
        renderer = getattr(self.env, "mujoco_renderer", None)
        for i in range(model.ncam):
            path = f"camera.{_name(model.camera(i))}"
            if getattr(renderer, "camera_id", i) != i:
                for what in ("position", "fov"):
                    self.unsupported[f"{path}.{what}"] = "render() sees nothing through it; make "
                    self.unsupported[f"{path}.{what}"] += f"the environment with camera_id={i}"
                continue
            about: dict[str, Any] = {"visual": True, "derived": True}
            position, fov = model.cam_pos[i], model.cam_fovy[i : i + 1]
            self._add_array(f"{path}.position", "vector", position, -100, 100, unit="m", **about)
            self._add_array(f"{path}.fov", "number", fov, 5, 120, unit="°", **about)


# On the environment itself, so that a second wrapper takes the first one's nominal values, not what
# that one has drawn.
_ATTRIBUTE = "_changeable"
_DOFS = {0: 6, 1: 3, 2: 1, 3: 1}  # of a free, ball, slide and hinge joint


def _name(part: Any) -> str:
    return str(part.name or part.id)
