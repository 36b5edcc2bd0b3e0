"""Robots that tasks are given to."""

from envs.robotics.assets import PANDA as PANDA_URDF
from envs.robotics.scene import RobotModel

FINGER_OPENING = 0.04  # m from the middle, of each of the Panda's fingers at most

# Franka Emika's arm with its two-fingered hand. At home the tool points down, 20 cm above the
# origin, with the arm's base 60 cm behind it. Gains and dampings are a stiff drive's; forces are
# the datasheet's continuous ones.
PANDA = RobotModel(
    name="panda",
    urdf=PANDA_URDF,
    joints=(
        *(f"panda_joint{i}" for i in range(1, 8)),
        "panda_finger_joint1",
        "panda_finger_joint2",
    ),
    home=(0.0, 0.3024, 0.0, -2.0087, 0.0, 2.3111, 0.7854, FINGER_OPENING, FINGER_OPENING),
    gains=(25.0,) * 9,
    dampings=(450.0, 450.0, 350.0, 350.0, 200.0, 200.0, 200.0, 50.0, 50.0),
    forces=(87.0,) * 4 + (12.0,) * 3 + (20.0,) * 2,
    tool_link="panda_hand",
    tool_point=(0.0, 0.0, 0.105),
    fingers=("panda_finger_joint1", "panda_finger_joint2"),
    position=(-0.6, 0.0, 0.0),
)
