"""Specs: distributions are what they say, and every mistake is one clear line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from randomizable import Randomizable, spec, uniform
from scipy import stats

from envs.robotics.textures import Texture
from sim2real.distributions import Distribution, read_distribution
from sim2real.randomization import DomainRandomization
from sim2real.spec import FOLDER, Spec, SpecError, names
from sim2real.streams import episode_seed, stream

DRAWS = 4000


def draws(**table: Any) -> np.ndarray:
    """[DRAWS, …], each from its own stream, as episodes draw."""
    found: Distribution = read_distribution(table)
    return np.array([found.sample(stream(5, episode, "test")) for episode in range(DRAWS)])


def assert_distributed(samples: np.ndarray, cdf: Callable[[np.ndarray], np.ndarray]) -> None:
    """Kolmogorov and Smirnov: right ones fail it once in 1,000 seeds; the seed is fixed."""
    assert stats.kstest(samples, cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("table", "cdf"),
    [
        ({"kind": "uniform", "low": -2, "high": 3.0}, stats.uniform(-2, 5).cdf),
        ({"kind": "log_uniform", "low": 0.1, "high": 10}, stats.loguniform(0.1, 10).cdf),
        ({"kind": "normal", "mean": 1.0, "std": 2.0}, stats.norm(1, 2).cdf),
        (
            {"kind": "truncated_normal", "mean": 1.0, "std": 2.0, "low": 0.0, "high": 1.5},
            stats.truncnorm(-0.5, 0.25, 1, 2).cdf,
        ),
        (  # far out in the tail
            {"kind": "truncated_normal", "mean": 0.0, "std": 1.0, "low": 4.0, "high": 5.0},
            stats.truncnorm(4, 5).cdf,
        ),
    ],
)
def test_numbers_have_their_distribution(table: dict[str, Any], cdf: Any) -> None:
    samples = draws(**table)
    assert_distributed(samples, cdf)
    low, high = read_distribution(table).support()
    assert low <= samples.min()
    assert samples.max() <= high


def test_vectors_are_drawn_element_by_element() -> None:
    samples = draws(kind="uniform", low=[0, -1, 2], high=[1, 1, 2])
    assert_distributed(samples[:, 0], stats.uniform(0, 1).cdf)
    assert_distributed(samples[:, 1], stats.uniform(-1, 2).cdf)
    assert (samples[:, 2] == 2).all()
    assert abs(np.corrcoef(samples[:, 0], samples[:, 1])[0, 1]) < 0.06
    samples = draws(kind="normal", mean=[0, 1, 2], std=0.5)
    for i in range(3):
        assert_distributed(samples[:, i], stats.norm(i, 0.5).cdf)


def test_box_has_its_edges() -> None:
    samples = draws(kind="box", size=[0.1, 0.05, 0.2])
    for i, edge in enumerate((0.1, 0.05, 0.2)):
        assert_distributed(samples[:, i], stats.uniform(-edge / 2, edge).cdf)


def test_sphere_is_filled_evenly() -> None:
    samples = draws(kind="sphere", radius=2.0, inner=1.0)
    radii = np.linalg.norm(samples, axis=1)
    assert_distributed(radii, lambda r: (r**3 - 1) / 7)
    for i in range(3):  # Archimedes: each coordinate of a direction is uniform
        assert_distributed(samples[:, i] / radii, stats.uniform(-1, 2).cdf)


def test_integers_and_choices_have_their_shares() -> None:
    samples = draws(kind="integers", low=-1, high=2)
    assert stats.chisquare(np.bincount(samples + 1, minlength=4)).pvalue > 1e-3
    assert samples.dtype == int
    samples = draws(kind="choice", values=[10, 20, 40], weights=[1, 0, 3])
    counts = [(samples == value).sum() for value in (10, 40)]
    assert sum(counts) == DRAWS
    assert stats.chisquare(counts, [DRAWS / 4, 3 * DRAWS / 4]).pvalue > 1e-3
    assert (draws(kind="constant", value=0.3) == 0.3).all()


def test_textures() -> None:
    drawn = read_distribution({"kind": "texture", "kinds": ["flat", "checker"], "cells": [3, 5]})
    textures = [Texture.from_dict(drawn.sample(stream(0, i, "t"))) for i in range(600)]  # type: ignore[arg-type]
    assert len(set(textures)) == 600
    assert {t.kind for t in textures} == {"flat", "checker"}
    assert {t.cells for t in textures} == {3, 4, 5}
    for part in range(3):
        assert_distributed(np.array([t.first[part] for t in textures]), stats.uniform(0, 1).cdf)


def test_a_pool_of_textures_is_the_same_for_all() -> None:
    drawn = read_distribution({"kind": "texture", "kinds": ["flat", "noise"], "pool": 7})
    pools = [
        {Texture.from_dict(drawn.sample(stream(seed, i, path))) for i in range(200)}  # type: ignore[arg-type]
        for seed, path in [(0, "a"), (0, "b"), (9, "a")]
    ]
    assert len(pools[0]) == 7
    assert pools[0] == pools[1] == pools[2]


def test_streams_are_their_own() -> None:
    first = stream(1, 2, "a", 3).random(4)
    np.testing.assert_array_equal(first, stream(1, 2, "a", 3).random(4))
    others = [(0, 2, "a", 3), (1, 0, "a", 3), (1, 2, "b", 3), (1, 2, "a", 4), (2, 1, "a", 3)]
    for other in others:
        assert not np.isin(first, stream(*other).random(4)).any()
    assert episode_seed(17, 0) == 17
    assert len({episode_seed(17, k) for k in range(100)}) == 100


GOOD = 'path = "body.cube.mass"; distribution = {kind = "uniform", low = 0.1, high = 0.2}'


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('path = "body.cube.mas"; distribution = {kind = "constant", value = 1.0}',
         "no such parameter; nearest: body.cube.mass"),
        ('path = "bodi.*.mass"; distribution = {kind = "constant", value = 1.0}',
         "no such parameter; nearest: body."),
        (GOOD.replace("uniform", "unifrom"), "no distribution 'unifrom'; nearest: uniform"),
        (GOOD.replace("low", "lo"), "uniform has no field 'lo'; nearest: low"),
        (GOOD.replace("low = 0.1, ", ""), "uniform needs low"),
        (GOOD.replace("0.1", '"a"'), "low is a number or a list of three, not 'a'"),
        (GOOD.replace("0.1", "true"), "low is a number or a list of three, not True"),
        (GOOD.replace("0.1", "nan"), "low is a number or a list of three, not nan"),
        (GOOD.replace("0.1", "[1, 2]"), "low is a number or a list of three, not [1, 2]"),
        (GOOD.replace("0.1", "0.3"), "low 0.3 is above high 0.2: the range is reversed"),
        (GOOD.replace("distribution", "distribtion"), "no field 'distribtion'; nearest: distribu"),
        ('path = "body.cube.mass"', "a parameter needs distribution"),
        ('distribution = {kind = "constant", value = 1.0}', "a parameter needs path"),
        ('path = 3; distribution = {kind = "constant", value = 1.0}', "path is a text, not 3"),
        ('path = "body.cube.mass"; distribution = "uniform"', "a table with a kind, not 'uniform'"),
        (GOOD + '; operation = "scael"', "no operation 'scael'; nearest: scale"),
        (GOOD + '; when = "resets"', "no when 'resets'; nearest: reset"),
        (GOOD + "; every = 3", 'of when = "interval" alone'),
        (GOOD + '; when = "interval"', 'of when = "interval" alone'),
        (GOOD + '; when = "interval"; every = 0', 'of when = "interval" alone'),
        (GOOD + '; when = "interval"; every = 2.5', "every is a whole number, not 2.5"),
        (GOOD + "; clip = [2, 1]", "clip's low 2 is above its high 1: the range is reversed"),
        (GOOD + "; clip = [1]", "clip is [low, high]"),
        (GOOD + "; clip = [[0, 0, 0], [1, 1, 1]]", "clip has two numbers"),
        (GOOD + "; group = 3", "group is a text, not 3"),
        (GOOD.replace("0.2", "1e9"), "body.cube.mass could become 0.1 to 1e+09, but lies in"),
        (GOOD.replace("0.1", "1e-5") + '; operation = "scale"', "could become 1e-06 to 0.02"),
        ('path = "body.cube.mass"; distribution = {kind = "normal", mean = 1.0, std = 0.1}',
         "could become -inf to inf, but lies in 0.0001 to 1000: narrow the distribution or give"),
        ('path = "body.cube.mass"; distribution = {kind = "normal", mean = 1.0, std = 0}',
         "std must be positive, not 0.0"),
        ('path = "body.cube.mass"; distribution = {kind = "log_uniform", low = 0, high = 1}',
         "low must be positive, not 0.0"),
        ('path = "body.cube.mass"; distribution = {kind = "truncated_normal", mean = 0, std = 1, '
         "low = 9, high = 10}", "keep less than a millionth of the draws around mean 0.0"),
        ('path = "body.cube.mass"; distribution = {kind = "choice", values = []}',
         "values is a list, not []"),
        ('path = "body.cube.mass"; distribution = {kind = "choice", values = [1, "a"]}',
         "values must be numbers, lists of three, or textures"),
        ('path = "body.cube.mass"; distribution = {kind = "choice", values = [1], '
         "weights = [1, 2]}", "weights must be as many numbers as values"),
        ('path = "body.cube.mass"; distribution = {kind = "box", size = [1, 1, 1]}',
         "body.cube.mass is a number: draw one number"),
        (uniform("world.gravity", -1, 1, operation="add"), "world.gravity is a vector: draw lists"),
        (uniform("control.substeps", 1, 3), "control.substeps is an integer: draw"),
        (uniform("body.cube.texture", 1, 3), "cube.texture is a texture: draw it from"),
        ('path = "body.cube.mass"; distribution = {kind = "texture", kinds = ["flat"]}',
         "body.cube.mass is a number"),
        ('path = "body.cube.texture"; distribution = {kind = "texture", kinds = ["cheker"]}',
         "no texture 'cheker'; nearest: checker"),
        ('path = "body.cube.texture"; distribution = {kind = "texture", kinds = ["flat"], '
         "cells = [0, 3]}", "cells must be two numbers in 1 to 64, not [0, 3]"),
        ('path = "body.cube.texture"; distribution = {kind = "texture", kinds = ["flat"]}; '
         'operation = "add"', "is a texture: it is set"),
        ('path = "body.cube.texture"; distribution = {kind = "constant", value = {kindd = "flat"}}',
         "a texture has no 'kindd'"),
        ('path = "body.cube.mass"; distribution = {kind = "sphere", radius = 1, inner = 2}',
         "inner must lie in 0 to radius 1.0, not 2.0"),
        (uniform("light.0.specular", 0, 1),
         "light.0.specular cannot be changed here: its renderer has no highlights"),
        (uniform("light.*", 0, 1), "light.0.specular cannot be changed here"),
        ('path = "sky.texture"; distribution = {kind = "texture", kinds = ["flat"]}',
         "sky.texture cannot be changed here: it has no sky"),
        (uniform("image.noise", 0, 1),
         "image.noise cannot be changed here: it observes no uint8 picture"),
        (uniform("body.table.friction", 0.5, 1, when="step"),
         "body.table.friction can only change before an episode: when is startup or reset"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_line(table: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        DomainRandomization(Randomizable(not_live="body.table.*"), spec(table))
    text = str(error.value)
    assert message in text
    assert text.startswith("test, parameter 1 (")
    assert "\n" not in text


def test_a_parameter_is_drawn_once() -> None:
    with pytest.raises(SpecError, match=r"parameter 2 .*: body\.cube\.mass is drawn by body\.c"):
        DomainRandomization(Randomizable(), spec(uniform("body.cub?.mass", 0.1, 0.2), GOOD))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[parameter]", "test is no TOML: "),
        ("[[parametr]]\npath = 3", "test has tables called parameter only, not 'parametr'"),
        ("parameter = 3", "each parameter is a table"),
    ],
)
def test_a_text_that_is_no_spec(text: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        Spec.parse(text, "test")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_specs_are_found_by_name_and_by_file(tmp_path: Path) -> None:
    by_name = Spec.load("halfcheetah")
    assert by_name == Spec.load(FOLDER / "halfcheetah.toml") == Spec.load(by_name)
    with pytest.raises(SpecError, match="no spec 'halfchetah'; nearest: halfcheetah"):
        Spec.load("halfchetah")
    with pytest.raises(SpecError, match="cannot read the spec"):
        Spec.load(tmp_path / "absent.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(SpecError, match="cannot read the spec"):
        Spec.load(tmp_path / "bytes.toml")


def test_groups_are_left_out() -> None:
    tables = [
        uniform("body.cube.mass", 0.1, 0.2, group="mass"),
        uniform("body.cube.friction", 0.1, 0.2, group="touch"),
        uniform("body.ball.friction", 0.1, 0.2),
    ]
    whole = spec(*tables)
    assert whole.groups == ("mass", "touch")
    assert [e.path for e in whole.without("mass").entries] == [e.path for e in whole.entries[1:]]
    assert whole.without("mass", "touch").name == "test - mass - touch"
    with pytest.raises(SpecError, match="test has no group 'mas'; nearest: mass"):
        whole.without("mas")


@pytest.mark.parametrize("name", names())
def test_every_parameter_of_a_shipped_spec_says_why(name: str) -> None:
    lines = (FOLDER / f"{name}.toml").read_text().splitlines()
    headers = [line for line in lines if line.startswith("[[")]
    assert headers
    assert all(len(line.partition("#")[2].split()) >= 2 for line in headers), headers
    assert all(entry.group for entry in Spec.load(name).entries)


def test_any_environment_has_its_actions_and_observations() -> None:
    env = DomainRandomization(gym.make("Pendulum-v1"), spec(uniform("action.noise", 0.1, 0.2)))
    _, info = env.reset(seed=0)
    assert 0.1 <= info["domain"]["action.noise"] <= 0.2
    with pytest.raises(SpecError, match="no such parameter; nearest: "):
        DomainRandomization(gym.make("Pendulum-v1"), spec(uniform("body.cube.mass", 1, 2)))
    with pytest.raises(
        SpecError, match=r"action\.noise cannot be changed here: its actions are no"
    ):
        DomainRandomization(gym.make("CartPole-v1"), spec(uniform("action.noise", 0.1, 0.2)))


def test_what_a_draw_does_to_the_nominal_value() -> None:
    env = Randomizable()
    tables = [
        'path = "body.cube.mass"; distribution = {kind = "constant", value = 3.0}; '
        'operation = "scale"',
        'path = "body.cube.friction"; distribution = {kind = "constant", value = -2.0}; '
        'operation = "add"; clip = [0.1, 1.0]',
        'path = "world.gravity"; distribution = {kind = "constant", value = 0.5}; '
        'operation = "scale"',
        'path = "camera.front.target"; distribution = {kind = "constant", '
        'value = [0.1, -0.2, 0.3]}; operation = "add"; clip = [[0.0, -0.1, 0.0], [1.0, 1.0, 0.2]]',
        'path = "control.substeps"; distribution = {kind = "constant", value = 0.77}; '
        'operation = "scale"',
    ]
    _, info = DomainRandomization(env, spec(*tables)).reset(seed=0)
    assert info["domain"] == {
        "body.cube.mass": pytest.approx(0.3),
        "body.cube.friction": 0.1,
        "world.gravity": pytest.approx([0.0, 0.0, -4.905]),
        "camera.front.target": pytest.approx([0.5, -0.1, 0.2]),
        "control.substeps": 15,
    }
    assert all(env.values[path] == value for path, value in info["domain"].items())
