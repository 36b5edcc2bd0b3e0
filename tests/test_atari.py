"""Environments of all families: preprocessed as papers do, resumable, the same every time."""

import copy
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as their_check_env

import envs
from envs.atari import LifeLoss, is_atari
from envs.make import register_plugins
from envs.resumable import Resumable
from envs.vector import Vectorization
from envs.wrappers import SettledReset

BREAKOUT, PONG, CHEETAH = "BreakoutNoFrameskip-v4", "PongNoFrameskip-v4", "HalfCheetahBulletEnv-v0"
FIRE = 1

pytestmark = pytest.mark.filterwarnings("ignore:builtin type .wig:DeprecationWarning")

Step = tuple[Any, float, bool, bool]


class Lives(gym.Env[Any, Any]):
    """A game of ``lives``, one of which is lost at every third step. Observes all steps so far."""

    observation_space, action_space = Discrete(1000), Discrete(2)

    def __init__(
        self, lives: int, ends_at: int = 1000, truncates: bool = False, lingers: int = 0
    ) -> None:
        self.total, self.ends_at, self.truncates = lives, ends_at, truncates
        self.lingers = lingers  # steps from the loss of the last life to the end
        self.seeds: list[int | None] = []
        self.actions: list[int] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        self.seeds.append(seed)
        self.t = 0
        return 0, {"lives": self.total}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.actions.append(action)
        self.t += 1
        lives = max(self.total - self.t // 3, 0)
        over = self.t >= min(3 * self.total + self.lingers, self.ends_at)
        flags = over and not self.truncates, over and self.truncates
        return self.t, 1.0, *flags, {"lives": lives}


# -- lives -------------------------------------------------------------------------------------


def test_a_lost_life_ends_the_episode_but_not_the_game() -> None:
    game = Lives(3)
    env = LifeLoss(game)
    assert env.reset(seed=5)[0] == 0
    steps = [env.step(1) for _ in range(3)]
    assert [(t, terminated) for t, _, terminated, _, _ in steps] == [(1, 0), (2, 0), (3, 1)]
    assert env.goes_on
    assert env.reset()[0] == 4  # a no-op, and no new game
    assert game.seeds == [5]
    assert game.actions == [1, 1, 1, 0]
    assert not env.goes_on
    assert [env.step(1)[2] for _ in range(2)] == [False, True]  # steps 5 and 6
    assert env.reset()[0] == 7
    assert [env.step(1)[2] for _ in range(2)] == [False, True]
    assert not env.goes_on  # that was the last life
    assert env.reset()[0] == 0
    assert game.seeds == [5, None]


def test_a_seed_always_begins_a_new_game() -> None:
    game = Lives(3)
    env = LifeLoss(game)
    env.reset(seed=5)
    while not env.step(1)[2]:
        pass
    assert env.reset(seed=6)[0] == 0
    assert game.seeds == [5, 6]
    assert [env.step(1)[2] for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("truncates", [False, True])
def test_the_no_op_after_a_lost_life_may_end_the_game(truncates: bool) -> None:
    game = Lives(3, ends_at=4, truncates=truncates)
    env = LifeLoss(game)
    env.reset()
    while not env.step(1)[2]:
        pass
    assert env.reset()[0] == 0
    assert len(game.seeds) == 2


def test_a_life_lost_at_the_time_limit_does_not_go_on() -> None:
    game = Lives(3, ends_at=3, truncates=True)
    env = LifeLoss(game)
    env.reset()
    _, _, terminated, truncated, _ = [env.step(1) for _ in range(3)][-1]
    assert (terminated, truncated) == (True, True)
    assert not env.goes_on
    assert env.reset()[0] == 0


def test_the_game_ends_with_the_last_life_when_it_says_so() -> None:
    """Some games show no lives for a while before they are over."""
    env = LifeLoss(Lives(1, lingers=2))
    env.reset()
    assert [env.step(1)[2] for _ in range(5)] == [False, False, False, False, True]
    assert not env.goes_on


def test_a_life_won_is_none_lost() -> None:
    env = LifeLoss(Lives(3))
    env.reset()
    env.lives = 2  # there are 3 at the next step
    assert not env.step(1)[2]
    assert env.lives == 3


# -- Atari -------------------------------------------------------------------------------------


def play(env: gym.Env[Any, Any], steps: int, seed: int = 0) -> list[Step]:
    """Random actions, with a reset after each episode."""
    rng, played = np.random.default_rng(seed), []
    assert isinstance(env.action_space, (Discrete, Box))
    for _ in range(steps):
        action = draw(rng, env.action_space)
        observation, reward, terminated, truncated, _ = env.step(action)
        played.append((observation, float(reward), terminated, truncated))
        if terminated or truncated:
            env.reset()
    return played


def draw(rng: np.random.Generator, space: Discrete | Box) -> Any:
    if isinstance(space, Discrete):
        return int(rng.integers(space.n))
    return rng.uniform(space.low, space.high).astype(space.dtype)


def play_vector(vector: Any, steps: int, seed: int = 0) -> list[Any]:
    rng, space, played = np.random.default_rng(seed), vector.single_action_space, []
    assert isinstance(space, (Discrete, Box))
    for _ in range(steps):
        actions = np.stack([draw(rng, space) for _ in range(vector.num_envs)])
        played.append(tuple(np.array(part) for part in vector.step(actions)[:4]))
    return played


def snapshots_of(vector: Any) -> list[dict[str, Any]]:
    """As a checkpoint holds them: apart from what the environments do next."""
    return copy.deepcopy(list(vector.call("snapshot")))


def assert_same(first: list[Any], second: list[Any]) -> None:
    for ours, theirs in zip(first, second, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("env_id", [PONG, BREAKOUT, "ALE/Pong-v5"])
def test_observations_and_actions(env_id: str) -> None:
    env = envs.make_env(env_id, training=True)
    assert env.observation_space == Box(0, 255, (4, 84, 84), np.uint8)
    assert env.action_space == Discrete(4 if env_id == BREAKOUT else 6)
    observation, _ = env.reset(seed=0)
    assert (observation == observation[-1]).all()  # four times the first frame
    before = observation
    for _ in range(3):
        observation, *_ = env.step(2)
        np.testing.assert_array_equal(observation[:3], before[1:])
        assert env.observation_space.contains(observation)
        before = observation


def test_what_is_an_atari_game() -> None:
    for env_id in [PONG, "CartPole-v1", CHEETAH, "LunarLander-v3"]:
        register_plugins(env_id)
        assert is_atari(env_id) == (env_id == PONG)
    assert not is_atari("NoSuchGame-v4")


@pytest.mark.parametrize(("env_id", "repeats"), [(PONG, 0.0), ("ALE/Pong-v5", 0.25)])
def test_emulator_is_what_the_id_says(env_id: str, repeats: float) -> None:
    """Both are skipped by the preprocessing and not again by the emulator."""
    env = envs.make_env(env_id)
    ale = env.unwrapped.ale  # type: ignore[attr-defined]
    assert ale.getFloat("repeat_action_probability") == repeats
    env.reset(seed=0)
    before = ale.getEpisodeFrameNumber()
    env.step(0)
    assert ale.getEpisodeFrameNumber() == before + 4


def test_rewards_are_clipped_in_training_only() -> None:
    """A brick in Breakout's upper rows pays 4 or 7: scaled here, as random play hits few."""
    rewards = {}
    for training in (True, False):
        env = envs.make_env(BREAKOUT, training=training)
        step = env.unwrapped.step

        def dear(action: Any, step: Any = step) -> Any:
            observation, reward, *rest = step(action)
            return observation, 7 * reward, *rest

        env.unwrapped.step = dear  # type: ignore[method-assign]
        env.reset(seed=1)
        rewards[training] = {reward for _, reward, *_ in play(env, 300)}
    assert rewards == {True: {0.0, 1.0}, False: {0.0, 7.0}}


def test_points_lost_are_clipped_too() -> None:
    env = envs.make_env(PONG, training=True)
    env.reset(seed=0)
    assert {reward for _, reward, *_ in play(env, 200)} >= {0.0, -1.0}


def test_lives_end_episodes_in_training_only() -> None:
    def first_end(training: bool) -> tuple[int, int]:
        """Steps until the end of an episode, and the lives that are left."""
        env = envs.make_env(BREAKOUT, training=training)
        env.reset(seed=0)
        for step in range(2_000):
            _, _, terminated, _, info = env.step(FIRE)
            if terminated:
                return step, info["lives"]
        raise AssertionError("the game does not end")

    (short, lives), (whole, none) = first_end(True), first_end(False)
    assert (lives, none) == (4, 0)
    assert short < whole


def test_no_ops_at_the_start_differ_by_seed() -> None:
    """Up to 30 of them, each of one frame."""
    env = envs.make_env(PONG)
    ale = env.unwrapped.ale  # type: ignore[attr-defined]
    frames = []
    for seed in range(20):
        env.reset(seed=seed)
        frames.append(ale.getEpisodeFrameNumber())
    assert len(set(frames)) > 10
    assert 1 <= min(frames) <= max(frames) <= 30
    env.reset(seed=0)
    assert ale.getEpisodeFrameNumber() == frames[0]


@pytest.mark.parametrize("steps", [60, 0])  # after an action, and at a reset that goes on
def test_restored_game_goes_on_after_a_lost_life(steps: int) -> None:
    vector: Any = envs.make_vec(BREAKOUT, 2, seed=3)
    vector.reset()
    rng, lost = np.random.default_rng(0), np.zeros(2, int)
    while lost.min() < 2:
        ended = vector.step(rng.integers(4, size=2))[2]
        lost += ended
    for _ in range(steps):
        vector.step(rng.integers(4, size=2))
    snapshots = snapshots_of(vector)
    assert max(len(snapshot["resets"]) for snapshot in snapshots) >= 2
    expected = play_vector(vector, 150, seed=1)
    assert sum(step[2].sum() for step in expected) >= 4  # also past the end of the game

    again: Any = envs.make_vec(BREAKOUT, 2, seed=99)
    again.call("restore", snapshots)
    assert_same(play_vector(again, 150, seed=1), expected)
    for ours, theirs in zip(snapshots_of(again), snapshots_of(vector), strict=True):
        assert ours["resets"] == theirs["resets"]


# -- PyBullet and Box2D ------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", [CHEETAH, "LunarLander-v3"])
def test_fresh_and_used_environments_play_the_same_episode(env_id: str) -> None:
    def episode(env: gym.Env[Any, Any], seed: int) -> list[Any]:
        observation, _ = env.reset(seed=seed)
        return [(observation,), *play(env, 60, seed)]

    used = envs.make_env(env_id)
    for seed in (5, 6):
        episode(used, seed)
    expected = episode(used, 7)
    assert_same(episode(used, 7), expected)
    assert_same(episode(envs.make_env(env_id), 7), expected)
    assert not np.array_equal(episode(used, 8)[0], expected[0])


@pytest.mark.parametrize("env_id", [CHEETAH, "LunarLander-v3"])
def test_restored_environments_go_on(env_id: str) -> None:
    vector: Any = envs.make_vec(env_id, 2, seed=3)
    vector.reset()
    play_vector(vector, 130)
    snapshots = snapshots_of(vector)
    expected = play_vector(vector, 120, seed=1)
    again: Any = envs.make_vec(env_id, 2, seed=99)
    again.call("restore", snapshots)
    assert_same(play_vector(again, 120, seed=1), expected)


@pytest.mark.parametrize("env_id", ["AntBulletEnv-v0", CHEETAH])
def test_first_reset_is_like_all_others(env_id: str) -> None:
    """Without the wrapper the ant's first episode differs in the last digits."""
    register_plugins(env_id)
    used = gym.make(env_id, disable_env_checker=True)
    used.reset(seed=5)
    expected = [(used.reset(seed=7)[0],), *play(used, 100)]
    fresh = SettledReset(gym.make(env_id, disable_env_checker=True))
    assert_same([(fresh.reset(seed=7)[0],), *play(fresh, 100)], expected)
    again = envs.make_env(env_id)
    assert_same([(again.reset(seed=7)[0],), *play(again, 100)], expected)


def test_pybullet_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    env = envs.make_env(CHEETAH)
    env.reset(seed=0)
    env.close()
    assert capfd.readouterr().out == ""


# -- vectors -----------------------------------------------------------------------------------


def test_vectorized_cartpole_goes_on_where_it_was() -> None:
    """In the middle of episodes, some of which are about to reset."""
    make = envs.make_vec
    vector: Any = make("CartPole-v1", 5, seed=3, vectorization="vector_entry_point")
    vector.reset()
    before = play_vector(vector, 60)
    while not before[-1][2].any():  # some episode has just ended: its reset is to come
        before += play_vector(vector, 1, seed=len(before))
    snapshots = snapshots_of(vector)
    expected = play_vector(vector, 100, seed=1)
    assert sum(step[2].sum() for step in expected) > 5
    again: Any = make("CartPole-v1", 5, seed=99, vectorization="vector_entry_point")
    again.call("restore", snapshots)
    assert_same(play_vector(again, 100, seed=1), expected)


def test_snapshot_of_vectorized_cartpole_stays_as_it_was() -> None:
    vector: Any = envs.make_vec("CartPole-v1", 3, seed=3, vectorization="vector_entry_point")
    vector.reset()
    play_vector(vector, 20)
    (snapshot,) = vector.call("snapshot")
    before = copy.deepcopy(snapshot["state"])
    first = play_vector(vector, 50, seed=1)
    np.testing.assert_equal(snapshot["state"], before)
    vector.call("restore", [snapshot])
    assert_same(play_vector(vector, 50, seed=1), first)
    np.testing.assert_equal(snapshot["state"], before)


def test_snapshot_of_a_game_stays_as_it_was() -> None:
    """The game that goes on must not write its resets into it."""
    env = Resumable(LifeLoss(Lives(5)), seed=0, index=0)
    env.reset()
    snapshot = env.snapshot()
    for _ in range(2):
        while not env.step(1)[2]:
            pass
        env.reset()
    assert env.resets == [3, 5]
    assert snapshot["resets"] == []
    middle = copy.deepcopy(env.snapshot())
    env.restore([middle])
    assert env.resets == [3, 5]
    assert env.step(1)[0] == 8


def test_vectorized_cartpole_is_seeded_by_the_run() -> None:
    def first(seed: int) -> Any:
        return envs.make_vec("CartPole-v1", 3, seed, "vector_entry_point").reset()[0]

    np.testing.assert_array_equal(first(3), first(3))
    assert not np.array_equal(first(3), first(4))


@pytest.mark.parametrize("env_id", ["CartPole-v1", BREAKOUT])
def test_processes_play_what_one_process_plays(env_id: str) -> None:
    played = []
    ways: list[Vectorization] = ["sync", "async"]
    for way in ways:
        vector: Any = envs.make_vec(env_id, 2, seed=3, vectorization=way)
        first, _ = vector.reset()
        played.append([(first.copy(),), *play_vector(vector, 80)])
        snapshots = snapshots_of(vector)
        played[-1] += play_vector(vector, 20, seed=1)
        vector.close()
        again: Any = envs.make_vec(env_id, 2, seed=9, vectorization=way)
        again.call("restore", snapshots)
        assert_same(play_vector(again, 20, seed=1), played[-1][-20:])
        again.close()
    assert any(step[2].any() for step in played[0][1:])
    assert_same(*played)


# -- checkers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", [PONG, CHEETAH])
@pytest.mark.parametrize("training", [False, True])
def test_checkers_of_gymnasium_and_stable_baselines3(env_id: str, training: bool) -> None:
    env = envs.make_env(env_id, training=training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env, skip_render_check=True)
        their_check_env(env)
