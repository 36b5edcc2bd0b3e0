"""A scene's parameters in its MuJoCo model: where each is written, and what follows from it."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import mujoco
import numpy as np

from envs.robotics import mujoco_model
from envs.robotics.parameters import Value, scene_parameters
from envs.robotics.scene import Light, Scene


class Tuning:
    """Every parameter's value, all but textures written into the model, nominal ones at first.

    Args:
        model: of the scene, by ``mujoco_model.build``; it is changed.
        scene: what the model is of.
    """

    def __init__(self, model: "mujoco.MjModel", scene: Scene) -> None:
        self.model, self.scene = model, scene
        self.values: dict[str, Any] = {
            path: parameter.nominal for path, parameter in scene_parameters(scene).items()
        }
        self._scratch = mujoco.MjData(model)  # for constants: computing them spoils the data
        self._id = {body.name: model.body(body.name).id for body in scene.bodies}
        others = {0, *self._id.values()}
        self._links = [i for i in range(model.nbody) if i not in others]
        self._nominal = model.body_mass.copy(), model.body_inertia.copy()
        self.set(self.values)

    def set(self, values: Mapping[str, Value]) -> None:
        """Takes values that have been checked."""
        self.values |= values
        # What hangs on several parameters is worked out once, after all of them.
        heavy = rough = lit = False
        for path in values:
            kind, _, rest = path.partition(".")
            name, _, what = rest.rpartition(".")
            if what == "texture":
                continue
            if kind == "world":
                self.model.opt.gravity = self.values[path]
            elif kind == "light":
                self._light(int(name))
                lit = True
            elif kind == "camera":
                self._aim(name)
            elif kind == "joint":
                self._joint(name, what, self.values[path])
                heavy |= what == "armature"
            elif what == "damping":
                dof = int(self.model.joint(name).dofadr[0])
                self.model.dof_damping[dof : dof + 6] = self.values[path]
            elif what == "friction":
                rough = True
            else:
                heavy = True
        if rough:
            self._rub()
        if lit:
            lights = [self._lit(i) for i in range(len(self.scene.lights))]
            self.model.vis.headlight.ambient[:] = mujoco_model.ambient(lights)
        if heavy:
            self._weigh()

    def _weigh(self) -> None:
        """Masses and inertias from the values, then what MuJoCo derives from them."""
        model, values = self.model, self.values
        masses, inertias = self._nominal
        for body in self.scene.bodies:
            if not body.mass:
                continue
            number = self._id[body.name]
            mass, factor = values[f"body.{body.name}.mass"], values[f"body.{body.name}.inertia"]
            model.body_mass[number] = mass
            model.body_inertia[number] = inertias[number] * (mass / masses[number]) * factor
        if self._links:
            mass, factor = values["robot.mass"], values["robot.inertia"]
            model.body_mass[self._links] = masses[self._links] * mass
            model.body_inertia[self._links] = inertias[self._links] * mass * factor
        mujoco.mj_setConst(model, self._scratch)

    def _rub(self) -> None:
        """The friction of every two partners: the product of theirs."""
        of_body = np.ones(self.model.nbody)
        for body in self.scene.bodies:
            if body.solid:
                of_body[self._id[body.name]] = self.values[f"body.{body.name}.friction"]
        if self._links:
            of_body[self._links] = self.values["robot.friction"]
        bodies = self.model.geom_bodyid
        sliding = of_body[bodies[self.model.pair_geom1]] * of_body[bodies[self.model.pair_geom2]]
        # MuJoCo refuses friction of exactly nothing.
        sliding = np.maximum(sliding, 1e-5)[:, None]
        shares = [1.0, 1.0, mujoco_model.SPINNING, mujoco_model.ROLLING, mujoco_model.ROLLING]
        self.model.pair_friction[:] = sliding * shares

    def _light(self, i: int) -> None:
        light, model, number = self._lit(i), self.model, self.model.light(f"light{i}").id
        colour, position = np.array(light.colour), np.array(light.position)
        model.light_pos[number] = position
        model.light_dir[number] = -position / max(np.linalg.norm(position), 1e-9)
        model.light_diffuse[number] = light.diffuse * colour
        model.light_specular[number] = light.specular * colour
        model.light_active[number] = light.on

    def _lit(self, i: int) -> Light:
        """Light i as the values have it."""
        values: dict[str, Any] = {
            field.name: self.values[f"light.{i}.{field.name}"] for field in fields(Light)
        }
        return Light(**values)

    def _aim(self, name: str) -> None:
        value: dict[str, Any] = {
            what: self.values[f"camera.{name}.{what}"]
            for what in ("position", "target", "roll", "fov")
        }
        position, number = np.array(value["position"]), self.model.camera(name).id
        up = next(np.array(camera.up) for camera in self.scene.cameras if camera.name == name)
        self.model.cam_pos[number] = position
        self.model.cam_quat[number] = mujoco_model.look(
            position, np.array(value["target"]), up, value["roll"]
        )
        self.model.cam_fovy[number] = value["fov"]

    def _joint(self, name: str, what: str, value: float) -> None:
        model, dof = self.model, int(self.model.joint(name).dofadr[0])
        if what == "gain":
            number = model.actuator(name).id
            damping = -model.actuator_biasprm[number, 2]
            model.actuator_gainprm[number, 0] = value * damping
            model.actuator_biasprm[number, 1] = -value * damping
        elif what == "friction":
            model.dof_frictionloss[dof] = value
        elif what == "damping":
            model.dof_damping[dof] = value
        else:
            model.dof_armature[dof] = value
