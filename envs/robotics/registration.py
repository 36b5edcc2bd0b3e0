"""The robots' ids. Engines are imported when an environment is made, not here."""

import gymnasium as gym

ENGINES = ("bullet", "mujoco")
TASKS = {  # id -> class, steps an episode
    "PandaReach-v0": ("envs.robotics.tasks.reach:PandaReach", 50),
    "PandaPush-v0": ("envs.robotics.tasks.push:PandaPush", 50),
    "PandaGrasp-v0": ("envs.robotics.tasks.grasp:PandaGrasp", 50),
    "TableLocalise-v0": ("envs.robotics.tasks.localise:TableLocalise", 1),
}


def register() -> None:
    """Registers every robot environment with Gymnasium; a second time does nothing."""
    for engine in ENGINES:
        for name, (entry_point, steps) in TASKS.items():
            if f"{engine}/{name}" not in gym.registry:
                gym.register(
                    f"{engine}/{name}",
                    entry_point,
                    max_episode_steps=steps,
                    kwargs={"engine": engine},
                )
    if "bullet/KukaGrasp-v0" not in gym.registry:
        gym.register(
            "bullet/KukaGrasp-v0", "envs.robotics.kuka_grasp:KukaGrasp", max_episode_steps=15
        )
