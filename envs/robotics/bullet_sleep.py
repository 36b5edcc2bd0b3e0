"""Who is awake in a PyBullet client, how finely it solves for them, and what gravity pulls at."""

from collections.abc import Callable, Sequence

import numpy as np

from envs.quiet import quiet
from envs.robotics.bullet_bodies import Placed

with quiet():  # it prints when it was built
    import pybullet

AWAKE = (pybullet.ACTIVATION_STATE_WAKE_UP, pybullet.ACTIVATION_STATE_DISABLE_SLEEPING)
ASLEEP = (pybullet.ACTIVATION_STATE_SLEEP,)

# The solver stops after so many sweeps, or when the last one changed no velocity (rad/s or m/s) by
# more than the root of this. Friction needs the smaller one. For an arm on its own the larger does:
# its tool is 0.3 mm from the exact solution on its way, where it would be 0.02.
SWEEPS, FINE, COARSE = 50, 1e-7, 3e-4
STILL = 1e-3  # m/s and rad/s; bodies that are slower fall asleep,
NEAR = 0.07  # m; until the robot is that near: an action moves the tool by 5 cm

Speeds = Callable[[Placed], tuple[Sequence[float], Sequence[float]]]  # linear and angular


class Sleep:
    """Of the bodies that can move, all or none, as what is awake wakes what it lies on.

    Args:
        client: that they are in.
        bodies: those that can move.
        gravity: what the arm's controller compensates.
        robot: the arm's id in the client, if there is one.
    """

    def __init__(
        self, client: int, bodies: list[Placed], gravity: Sequence[float], robot: int | None
    ) -> None:
        self.client, self.bodies, self.gravity, self.robot = client, bodies, gravity, robot
        self.asleep = False
        self._calm = False  # no body moved when the last step began
        self._residual = FINE
        pybullet.setPhysicsEngineParameter(
            numSolverIterations=SWEEPS, solverResidualThreshold=FINE, physicsClientId=client
        )

    def settle(self, speeds: Speeds) -> None:
        """Puts all to sleep once they have lain still for a step, until the robot is near.

        To be called before every step. While all sleep, the client has the arm alone to solve for.
        """
        shown = [body for body in self.bodies if not body.hidden]
        still = all(_still(*speeds(body)) for body in shown)
        if still and (self.asleep or self._calm) and not any(map(self._near, shown)):
            if not self.asleep:
                self.asleep = True
                self._activate(shown, ASLEEP)
        elif self.asleep:
            self.wake()
        self._calm = still
        self._solve_to(COARSE if self.asleep else FINE)

    def _near(self, body: Placed) -> bool:
        """Whether the robot is near it."""
        if self.robot is None:
            return False
        low, high = pybullet.getAABB(body.uid, -1, self.client)
        near = pybullet.getOverlappingObjects(
            [part - NEAR for part in low], [part + NEAR for part in high], self.client
        )
        return any(uid == self.robot for uid, _ in near)

    def wake(self) -> None:
        self.asleep = self._calm = False
        for body in self.bodies:
            self.rouse(body)

    def rouse(self, body: Placed) -> None:
        """Whether it moves: not while it is hidden, or it would fall for ever."""
        if body.spec.mass:
            self._activate([body], ASLEEP if body.hidden else AWAKE)

    def weigh(self, gravity: Sequence[float]) -> None:
        """Gravity for the bodies; for the arm, what its controller for the scene's leaves of it.

        What sleeps keeps the gravity that it had when the client's is changed.
        """
        self.wake()
        pybullet.setGravity(*gravity, self.client)
        self._activate(self.bodies, ASLEEP)
        pybullet.setGravity(*np.subtract(gravity, self.gravity).tolist(), self.client)
        self.wake()

    def _activate(self, bodies: list[Placed], states: tuple[int, ...]) -> None:
        for body in bodies:
            for state in states:
                pybullet.changeDynamics(
                    body.uid, -1, activationState=state, physicsClientId=self.client
                )

    def _solve_to(self, residual: float) -> None:
        if residual != self._residual:
            self._residual = residual
            pybullet.setPhysicsEngineParameter(
                solverResidualThreshold=residual, physicsClientId=self.client
            )


def _still(linear: Sequence[float], angular: Sequence[float]) -> bool:
    return max(*map(abs, linear), *map(abs, angular)) < STILL
