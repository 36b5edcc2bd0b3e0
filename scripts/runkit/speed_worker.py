"""Measures one arm's training speed in a process of its own; prints one JSON object.

    python speed_worker.py ARM ENV_ID THREADS STEPS

ARM is "firsthand" or the module of a library with Stable-Baselines3's interface:
"stable_baselines3", or "sbx", which has a virtual environment of its own. Each arm trains SAC with
the default hyperparameters and is timed from step ``STARTS`` on, when every step has its update
and everything is compiled.
"""

import importlib
import json
import resource
import sys
import time
from typing import Any

STARTS = 1_500  # the first of them random, the others to warm up
RANDOM = 500


def firsthand(env_id: str, threads: int, steps: int) -> dict[str, Any]:
    """Ours: the loop that train_agent.py runs, with the split of where the time goes."""
    import torch

    from agents import SAC, SACConfig
    from agents.off_policy import OffPolicyLoop
    from agents.replay import ReplayBuffer
    from envs import make_vec

    torch.set_num_threads(threads)
    envs = make_vec(env_id, 1, seed=0)
    config = SACConfig(learning_starts=RANDOM)
    agent = SAC(envs.single_observation_space, envs.single_action_space, config)
    agent.compile()
    n_obs, n_act = agent.layout.size, agent.action_space.shape[0]
    spaces = agent.observation_space, agent.action_space
    loop = OffPolicyLoop(agent, envs, ReplayBuffer(config.buffer_size, *spaces, seed=0))
    loop.run(STARTS, lambda report: True)
    before, start = dict(loop.seconds), time.perf_counter()
    loop.run(STARTS + steps, lambda report: True)
    seconds = time.perf_counter() - start
    loop.buffer.rows.add_(0)  # claims the memory of all its rows, as a long run would
    return {
        "steps_per_second": steps / seconds,
        "split": {name: (loop.seconds[name] - before[name]) / steps for name in before},
        "replay_bytes": loop.buffer.rows.nbytes,
        "gflops": peak_gflops(),
        "update_gflop": update_gflop(n_obs, n_act, config.hidden_sizes[0], config.batch_size),
    }


def peer(module: str, env_id: str, threads: int, steps: int) -> dict[str, Any]:
    """A library with Stable-Baselines3's interface, through its public API."""
    import gymnasium as gym
    import torch

    torch.set_num_threads(threads)
    model = importlib.import_module(module).SAC(
        "MlpPolicy", gym.make(env_id), learning_starts=RANDOM, device="cpu", seed=0
    )
    model.learn(STARTS)
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    return {"steps_per_second": steps / (time.perf_counter() - start)}


def peak_gflops(size: int = 256, seconds: float = 0.5) -> float:
    """What this machine's matrix product reaches now, in float32, with the current threads."""
    import torch

    a, b, out = (torch.rand(size, size) for _ in range(3))
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        torch.mm(a, b, out=out)
        count += 1
    return count * 2 * size**3 / (time.perf_counter() - start) / 1e9


def update_gflop(n_obs: int, n_act: int, hidden: int, batch: int) -> float:
    """Matrix products of one SAC update with two hidden layers, in GFLOP.

    Actor: a forward pass over s' and one over s, and the backward pass of the latter. Critics:
    targets forward; critics forward and backward over (s, a); critics forward over (s, pi(s)) and
    backward to the action only. Twins count twice.
    """
    actor = [n_obs * hidden, hidden * hidden, hidden * 2 * n_act]
    critic = [(n_obs + n_act) * hidden, hidden * hidden, hidden]
    products = 2 * sum(actor) + sum(actor) + sum(actor[1:])  # forward twice, dW, dx
    products += 2 * (3 * sum(critic) + sum(critic) + sum(critic[1:]) + sum(critic))
    return 2 * batch * products / 1e9


def main() -> None:
    arm, env_id, threads, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if arm == "firsthand":
        result = firsthand(env_id, threads, steps)
    else:
        result = peer(arm, env_id, threads, steps)
    result["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main()
