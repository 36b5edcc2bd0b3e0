"""Observations of every kind of space as numbers and pictures, and spaces as JSON."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Text, Tuple
from gymnasium.vector.utils import batch_space

from agents.observations import NUMBERS, PIXELS, Features, ObservationLayout, Picture, put, take
from agents.spaces import UnsupportedSpaceError, space_from_json, space_to_json

CPU = torch.device("cpu")
NUMERIC: list[Space[Any]] = [
    Box(-np.inf, np.inf, (3,)),
    Box(-1, 1, ()),
    Box(0, 255, (5,), np.uint8),  # a vector of bytes is no picture
    Box(-1, 1, (2, 3), np.float64),
    Discrete(4),
    Discrete(3, start=-1),
    MultiDiscrete([3, 1, 2]),
    MultiDiscrete([3, 2], start=[-1, 5]),
    MultiBinary(4),
    MultiBinary((2, 3)),
    Dict(a=Discrete(3), b=Box(-1, 1, (2, 2))),
]
MIXED = Dict(
    speed=Box(-np.inf, np.inf, (2,)),
    camera=Box(0, 255, (6, 5, 3), np.uint8),
    gear=Discrete(3, start=1),
    depth=Box(0, 255, (2, 5, 4), np.uint8),
)
SUPPORTED = [*NUMERIC, Box(0, 255, (4, 84, 84), np.uint8), MIXED]


def sample(space: Space[Any], n: int = 4, seed: int = 0) -> Any:
    many = batch_space(space, n)
    many.seed(seed)
    return many.sample()


def row(observations: Any, i: int) -> Any:
    if isinstance(observations, dict):
        return {name: values[i] for name, values in observations.items()}
    return observations[i]


# -- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "observations", "expected"),
    [
        (Box(-9, 9, (2,)), [[1.5, 2], [3, 4]], [[1.5, 2], [3, 4]]),
        (Box(-9, 9, (2, 2)), [[[1, 2], [3, 4]]], [[1, 2, 3, 4]]),
        (Box(-9, 9, ()), [1, 2], [[1], [2]]),
        (Box(0, 255, (2,), np.uint8), [[7, 255]], [[7, 255]]),
        (Discrete(3), [0, 2], [[1, 0, 0], [0, 0, 1]]),
        (Discrete(3, start=-1), [-1, 1], [[1, 0, 0], [0, 0, 1]]),
        (MultiDiscrete([3, 1, 2]), [[2, 0, 0]], [[0, 0, 1, 1, 1, 0]]),
        (MultiDiscrete([2, 3], start=[-1, 5]), [[0, 7]], [[0, 1, 0, 0, 1]]),
        (MultiBinary(3), [[1, 0, 1]], [[1, 0, 1]]),
        (MultiBinary((2, 2)), [[[1, 0], [1, 1]]], [[1, 0, 1, 1]]),
    ],
)
def test_numbers_by_hand(space: Space[Any], observations: Any, expected: Any) -> None:
    layout = ObservationLayout(space)
    numbers = layout.numbers(np.array(observations))
    assert numbers.dtype == np.float32
    assert numbers.tolist() == expected
    assert layout.size == len(expected[0])
    assert layout.pictures == {}
    features = layout.features(np.array(observations), CPU)
    assert isinstance(features, torch.Tensor)
    assert features.tolist() == expected


def test_parts_of_a_dict_in_the_order_of_the_space() -> None:
    layout = ObservationLayout(MIXED)
    observations = sample(MIXED)
    order = list(MIXED.spaces)  # Gymnasium's own order
    columns = {
        "speed": observations["speed"],
        "gear": np.eye(3)[observations["gear"] - 1],
    }
    expected = np.concatenate([columns[name] for name in order if name in columns], 1)
    shuffled = dict(reversed(observations.items()))
    for given in (observations, shuffled):
        np.testing.assert_array_equal(layout.numbers(given), expected.astype(np.float32))
    assert layout.size == 5
    assert layout.count(observations) == 4


# -- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "picture", "channels"),
    [
        ((84, 80), Picture(1, (84, 80)), 1),
        ((4, 84, 80), Picture(4, (84, 80)), 4),  # a stack of grey frames
        ((1, 84, 80), Picture(1, (84, 80)), 1),
        ((84, 80, 3), Picture(1, (84, 80, 3)), 3),
        ((84, 80, 1), Picture(1, (84, 80, 1)), 1),
        ((84, 80, 4), Picture(1, (84, 80, 4)), 4),
        ((4, 84, 80, 3), Picture(4, (84, 80, 3)), 12),
        ((2, 84, 80, 1), Picture(2, (84, 80, 1)), 2),
    ],
)
def test_shapes_of_pictures(shape: tuple[int, ...], picture: Picture, channels: int) -> None:
    space = Box(0, 255, shape, np.uint8)
    layout = ObservationLayout(space)
    assert layout.pictures == {PIXELS: picture}
    assert layout.size == 0
    assert picture.channels == channels
    observations = sample(space, 2)
    features = layout.features(observations, CPU)
    assert isinstance(features, dict)
    assert list(features) == [NUMBERS, PIXELS]
    assert features[NUMBERS].shape == (2, 0)
    assert features[PIXELS].dtype == torch.uint8
    assert features[PIXELS].shape == (2, channels, 84, 80)
    frames = layout.frames(observations, PIXELS)
    assert frames.shape == (2, picture.stack, *picture.frame)
    assert frames.tobytes() == observations.tobytes()


def test_order_of_channels() -> None:
    """Each channel is one colour of one frame; frame by frame, colours inside."""
    stacked = sample(Box(0, 255, (4, 8, 7, 3), np.uint8), 2)
    layout = ObservationLayout(Box(0, 255, (4, 8, 7, 3), np.uint8))
    features = layout.features(stacked, CPU)
    assert isinstance(features, dict)
    for frame in range(4):
        for colour in range(3):
            channel = features[PIXELS][:, 3 * frame + colour]
            np.testing.assert_array_equal(channel, stacked[:, frame, :, :, colour])
    one = ObservationLayout(Box(0, 255, (8, 7, 3), np.uint8)).features(stacked[:, 0], CPU)
    assert isinstance(one, dict)
    np.testing.assert_array_equal(one[PIXELS], stacked[:, 0].transpose(0, 3, 1, 2))


def test_dict_with_pictures() -> None:
    layout = ObservationLayout(MIXED)
    observations = sample(MIXED)
    features = layout.features(observations, CPU)
    assert isinstance(features, dict)
    assert set(features) == {NUMBERS, "camera", "depth"}
    np.testing.assert_array_equal(features[NUMBERS], layout.numbers(observations))
    np.testing.assert_array_equal(features["depth"], observations["depth"])
    np.testing.assert_array_equal(features["camera"], observations["camera"].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("picture", [False, True])
def test_a_part_may_be_called_numbers(picture: bool) -> None:
    """It must not be mistaken for the vector of all numbers."""
    part = Box(0, 255, (6, 5), np.uint8) if picture else Box(-1, 1, (2,))
    space = Dict({"numbers": part, "other": Box(-1, 1, (3,))})
    layout = ObservationLayout(space)
    observations = sample(space)
    features = layout.features(observations, CPU)
    numbers = features[NUMBERS] if isinstance(features, dict) else features
    assert numbers.shape == (4, 3 if picture else 5)
    if picture:
        assert isinstance(features, dict)
        (name,) = set(features) - {NUMBERS}
        np.testing.assert_array_equal(features[name][:, 0], observations["numbers"])
    assert layout.batched(row(observations, 1))[1]


def test_parts_called_numbers_with_and_without_an_underscore() -> None:
    space = Dict({"numbers": Box(-1, 1, (2,)), "numbers_": Box(-1, 1, (3,))})
    numbers = ObservationLayout(space).numbers(sample(space))
    expected = [sample(space)[name] for name in ("numbers", "numbers_")]
    np.testing.assert_array_equal(numbers, np.concatenate(expected, 1))


def parts(features: Features) -> dict[str, torch.Tensor]:
    return features if isinstance(features, dict) else {NUMBERS: features}


# -- batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SUPPORTED, ids=str)
def test_one_observation_is_a_batch_of_one(space: Space[Any]) -> None:
    layout, observations = ObservationLayout(space), sample(space)
    for i in range(4):
        batch, single = layout.batched(row(observations, i))
        assert single
        assert layout.count(batch) == 1
        alone, among = parts(layout.features(batch, CPU)), parts(layout.features(observations, CPU))
        assert alone.keys() == among.keys()
        for name, features in among.items():
            assert torch.equal(alone[name][0], features[i])
    again, single = layout.batched(observations)
    assert not single
    assert again is observations
    assert layout.count(observations) == 4


@pytest.mark.parametrize("number", [2, np.int64(2), np.array(2)])
def test_single_discrete_observations(number: Any) -> None:
    layout = ObservationLayout(Discrete(3))
    batch, single = layout.batched(number)
    assert single
    assert layout.numbers(batch).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("space", SUPPORTED, ids=str)
def test_take_and_put(space: Space[Any]) -> None:
    """Under a mask, as loops use them; the originals stay as they are."""
    first, second = sample(space), sample(space, seed=1)
    mask = np.array([False, True, False, True])
    taken = take(first, mask)
    values = np.empty(2, object)  # as Gymnasium gives final_obs
    values[:] = [row(second, 0), row(second, 2)]
    before = json.dumps(row_list(first))
    changed = put(first, mask, values)
    assert json.dumps(row_list(first)) == before
    assert row_list(taken) == [row_list(first)[i] for i in (1, 3)]
    expected = row_list(first)
    expected[1], expected[3] = row_list(second)[0], row_list(second)[2]
    assert row_list(changed) == expected


def row_list(observations: Any) -> list[Any]:
    """n observations as n nested lists."""
    if not isinstance(observations, dict):
        return list(observations.tolist())
    columns = {name: values.tolist() for name, values in observations.items()}
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, values, strict=True)) for values in rows]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite(bad: float) -> None:
    layout, observations = ObservationLayout(MIXED), sample(MIXED)
    assert layout.finite(observations)
    observations["speed"][2, 1] = bad
    assert not layout.finite(observations)
    vector = ObservationLayout(Box(-9, 9, (2,)))
    assert vector.finite(np.zeros((2, 2)))
    assert not vector.finite(np.array([[0, 0], [0, bad]]))
    pictures = Box(0, 255, (4, 8, 8), np.uint8)
    assert ObservationLayout(pictures).finite(sample(pictures))


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "space",
    [
        Text(5),
        Graph(Box(-1, 1, (2,)), None),
        Tuple([Discrete(2), Discrete(2)]),
        Dict(a=Dict(b=Discrete(2))),
        Dict(a=Discrete(2), b=Text(5)),
        MultiDiscrete(np.array([[2, 3], [4, 5]])),
    ],
    ids=str,
)
def test_refuses(space: Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"^DQN needs observations that are a Box"):
        ObservationLayout(space, "DQN")


@pytest.mark.parametrize("space", [Dict({}), Box(-1, 1, (0,))], ids=str)
def test_refuses_observations_of_nothing(space: Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"^DQN needs observations, and .* is empty"):
        ObservationLayout(space, "DQN")


# -- spaces as JSON ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "space",
    [
        *SUPPORTED,
        Box(np.array([-2, 0], np.float32), np.array([4, np.inf], np.float32)),
        Box(np.array([-np.inf, -0.1]), np.array([0.1, 2.5]), dtype=np.float64),
        Box(-5, 5, (2,), np.int32),
        Box(0, 1, (3, 0)),
        Box(np.float32(0.1), np.float32(0.7), (4,)),  # not exact in decimals
        Box(-(2**62), 2**62 + 1, (2,), np.int64),
    ],
    ids=str,
)
def test_spaces_come_back_from_json(space: Space[Any]) -> None:
    text = json.dumps(space_to_json(space), allow_nan=False)  # JSON as it is specified
    again = space_from_json(json.loads(text))
    assert again == space
    assert again.dtype == space.dtype
    if isinstance(space, Dict):
        assert list(again.spaces) == list(space.spaces)  # type: ignore[attr-defined]


def test_bounds_of_pictures_are_two_numbers() -> None:
    data = space_to_json(Box(0, 255, (4, 84, 84), np.uint8))
    assert (data["low"], data["high"]) == (0, 255)
    assert len(json.dumps(data)) < 100
    unbounded = space_to_json(Box(-np.inf, np.inf, (1000,)))
    assert (unbounded["low"], unbounded["high"]) == ("-inf", "inf")


@pytest.mark.parametrize("space", [Text(5), Tuple([Discrete(2)]), Dict(a=Text(5))], ids=str)
def test_spaces_without_a_plain_form(space: Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match="plain form"):
        space_to_json(space)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"type": "Text"},
        {"type": "Discrete"},
        {"type": "Discrete", "n": 0, "start": 0},
        {"type": "Box", "low": 0, "high": 1, "shape": [2], "dtype": "object"},
        {"type": "Box", "low": 0, "high": 1, "shape": [2], "dtype": "U5"},
        {"type": "Box", "low": 0, "high": 1, "shape": [10**6, 10**6], "dtype": "uint8"},
        {"type": "Box", "low": [0], "high": 1, "shape": [2], "dtype": "float32"},
        {"type": "Box", "low": "text", "high": 1, "shape": [2], "dtype": "float32"},
        {"type": "Box", "low": 0, "high": 1, "shape": [-2], "dtype": "float32"},
        {"type": "Box", "low": 0, "high": 1, "shape": 5, "dtype": "float32"},
        {"type": "MultiDiscrete", "nvec": [-1], "start": [0]},
        {"type": "MultiBinary", "n": None},
        {"type": "Dict", "spaces": {"a": 1}},
        {"type": "Dict", "spaces": [["a", {"type": "Text"}]]},
        [],
        None,
    ],
    ids=str,
)
def test_foreign_json_is_refused(data: Any) -> None:
    """With errors that ``agents.load`` turns into a StateError."""
    with pytest.raises((ValueError, TypeError, KeyError)):
        space_from_json(data)
