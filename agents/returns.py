"""What a rollout was worth: n-step returns and generalized advantage estimates."""

import torch
from torch import Tensor


def advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    done: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalized advantage estimates (Schulman et al. 2016, eq. 16) of T steps in n environments.

        delta_t = r_t + gamma V(s_t+1) - V(s_t),   V(s_t+1) = 0 if the episode terminated there
        A_t     = delta_t + gamma lambda A_t+1,    A_t+1 = 0 if the episode ended there

    With lambda = 1 this is the n-step return minus V(s_t) of Mnih et al. 2016, algorithm S3.

    Args:
        rewards, values: [T, n], of step t.
        next_values: [T, n], values of the true successors, also where the episode was truncated.
        terminated, done: [T, n], 0 or 1; done: terminated or truncated.
        gamma, gae_lambda: discounts.

    Returns:
        [T, n].

    """
    deltas = rewards + gamma * (1 - terminated) * next_values - values
    going_on = gamma * gae_lambda * (1 - done)
    steps, following = [], torch.zeros_like(deltas[0])
    for delta, factor in zip(deltas.flip(0), going_on.flip(0), strict=True):
        following = delta + factor * following
        steps.append(following)
    return torch.stack(steps[::-1])
