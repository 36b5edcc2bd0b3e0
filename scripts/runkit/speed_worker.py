"""Measures one arm's training speed in a process of its own; prints one JSON object.

    python speed_worker.py ARM ALGORITHM ENV_ID N_ENVS THREADS SECONDS HYPERPARAMETERS

ARM is "firsthand" or the module of a library with Stable-Baselines3's interface:
"stable_baselines3", or "sbx", which has a virtual environment of its own. HYPERPARAMETERS is
"defaults" or "zoo" (agents/presets.py). Each arm trains long enough first to have every kind of
step behind it and everything compiled, and is then timed for at least SECONDS.
"""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

RANDOM = 500  # steps with random actions before learning starts, in both arms
WARM_UP_SECONDS = 3.0


def main() -> None:
    arm, algorithm, env_id, n_envs, threads, seconds, hyperparameters = sys.argv[1:]
    if arm == "sbx":
        result = sbx(env_id, float(seconds))
    else:
        import torch

        torch.set_num_threads(int(threads))
        config = hyperparameters_of(algorithm, env_id, hyperparameters)
        measure = firsthand if arm == "firsthand" else stable_baselines3
        result = measure(algorithm, env_id, int(n_envs), config, float(seconds))
        result["updates_per_step"] = updates_per_step(config, int(n_envs))
    result["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(result))


def hyperparameters_of(algorithm: str, env_id: str, which: str) -> Any:
    """Our config, with a short random phase where there is one."""
    from agents import ALGORITHMS
    from agents.presets import find_preset

    overrides = dict(find_preset(algorithm, env_id).overrides) if which == "zoo" else {}
    _, config_type = ALGORITHMS[algorithm]
    if hasattr(config_type, "learning_starts"):
        overrides["learning_starts"] = RANDOM
    return config_type(**overrides)


def timed(run_to: Callable[[int], int], seconds: float, chunk: int) -> float:
    """Steps a second of ``run_to``, which trains to a step and returns where it got."""
    step, start = 0, time.perf_counter()
    while step < 2 * RANDOM or time.perf_counter() - start < WARM_UP_SECONDS:
        step = run_to(step + chunk)
    first, start = step, time.perf_counter()
    while time.perf_counter() - start < seconds:
        step = run_to(step + chunk)
    return (step - first) / (time.perf_counter() - start)


def firsthand(
    algorithm: str, env_id: str, n_envs: int, config: Any, seconds: float
) -> dict[str, Any]:
    """Ours: the loop that train_agent.py runs, with the split of where the time goes."""
    from runkit.arguments import RunOptions
    from runkit.environments import choose_vectorization
    from runkit.memory import keep_freed_memory
    from runkit.training import Job, new_agent, new_loop, training_envs

    keep_freed_memory()
    way, _ = choose_vectorization(env_id, n_envs, "auto")
    run = RunOptions(10**9, n_envs=n_envs, device="cpu", vectorization=way)
    job = Job(algorithm, env_id, run, config)
    envs = training_envs(job)
    agent = new_agent(job, envs)
    agent.compile()
    loop = new_loop(job, agent, envs)

    def run_to(step: int) -> int:
        loop.run(step, lambda report: True)
        return loop.steps

    loop.run(RANDOM + 2 * chunk_of(config, n_envs), lambda report: True)  # compiles
    loop.seconds = dict.fromkeys(loop.seconds, 0.0)
    before = loop.steps
    rate = timed(run_to, seconds, chunk_of(config, n_envs))
    steps = loop.steps - before
    split = {name: value / steps for name, value in loop.seconds.items()}
    result: dict[str, Any] = {"steps_per_second": rate, "vectorization": way, "split": split}
    if algorithm in PRODUCTS:
        n_obs, n_act = agent.layout.size, agent.action_space.shape[0]
        products = PRODUCTS[algorithm](n_obs, n_act, config.hidden_sizes)
        result["gflops"] = peak_gflops()
        result["update_gflop"] = 2 * config.batch_size * products / 1e9
    return result


def stable_baselines3(
    algorithm: str, env_id: str, n_envs: int, config: Any, seconds: float
) -> dict[str, Any]:
    """SB3 as published, on its own vector environments."""
    from stable_baselines3.common.env_util import make_vec_env

    from runkit.peer import sb3_agent

    model = sb3_agent(algorithm, make_vec_env(env_id, n_envs, seed=0), config, 50_000, seed=0)

    def run_to(step: int) -> int:
        model.learn(step - model.num_timesteps, reset_num_timesteps=False)
        return int(model.num_timesteps)

    return {"steps_per_second": timed(run_to, seconds, chunk_of(config, n_envs))}


def sbx(env_id: str, seconds: float) -> dict[str, Any]:
    """SBX's SAC (JAX) with its defaults."""
    import gymnasium as gym

    model = importlib.import_module("sbx").SAC(
        "MlpPolicy", gym.make(env_id), learning_starts=RANDOM, seed=0
    )

    def run_to(step: int) -> int:
        model.learn(step - model.num_timesteps, reset_num_timesteps=False)
        return int(model.num_timesteps)

    return {"steps_per_second": timed(run_to, seconds, RANDOM), "updates_per_step": 1.0}


def updates_per_step(config: Any, n_envs: int) -> float:
    """Gradient steps an environment step."""
    if hasattr(config, "n_steps"):
        return 1.0 / float(config.n_steps * n_envs)
    gradient_steps = config.train_freq if config.gradient_steps == -1 else config.gradient_steps
    return float(gradient_steps / config.train_freq)


def chunk_of(config: Any, n_envs: int) -> int:
    """Steps between two looks at the clock: some whole training phases."""
    period = n_envs * getattr(config, "n_steps", 1) * getattr(config, "train_freq", 1)
    return int(-(-RANDOM // period) * period)


def peak_gflops(size: int = 256, seconds: float = 0.5) -> float:
    """What this machine's matrix product reaches now, in float32, with the current threads."""
    import torch

    a, b, out = (torch.rand(size, size) for _ in range(3))
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        torch.mm(a, b, out=out)
        count += 1
    return count * 2 * size**3 / (time.perf_counter() - start) / 1e9


def layers(*widths: int) -> list[int]:
    """Multiplications of each layer of an MLP, for one row."""
    return [n_in * n_out for n_in, n_out in pairwise(widths)]


def sac_products(n_obs: int, n_act: int, hidden: Sequence[int]) -> int:
    """Multiplications of one SAC update in matrix products, for one row of the batch.

    Actor: a forward pass over s' and one over s, and the backward pass of the latter. Critics:
    targets forward; critics forward and backward over (s, a); critics forward over (s, pi(s)) and
    backward to the action only. Twins count twice. Nothing is passed back to observations.
    """
    actor = layers(n_obs, *hidden, 2 * n_act)
    critic = layers(n_obs + n_act, *hidden, 1)
    return 3 * sum(actor) + sum(actor[1:]) + 2 * (5 * sum(critic) + sum(critic[1:]))


def ddpg_products(n_obs: int, n_act: int, hidden: Sequence[int]) -> int:
    """The same of DDPG: one target actor and one critic, whose target is not a twin."""
    actor = layers(n_obs, *hidden, n_act)
    critic = layers(n_obs + n_act, *hidden, 1)
    return 3 * sum(actor) + sum(actor[1:]) + 5 * sum(critic) + sum(critic[1:])


PRODUCTS = {"sac": sac_products, "ddpg": ddpg_products}


if __name__ == "__main__":
    main()
