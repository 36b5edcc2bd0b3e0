"""Intervals and verdicts against closed forms, other code, and the rates that they promise.

Rates are counted over synthetic benchmarks whose truth is known. Their bounds are the expected
rate and 3.5 standard errors of the count; the data come from fixed seeds.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binom, bootstrap, nct, norm, t, trim_mean, ttest_ind

from runkit.benchmark import statistics
from runkit.benchmark.statistics import (
    Interval,
    area,
    at_time,
    difference,
    halves,
    iqm_interval,
    mean_interval,
    performance_profile,
    probability_of_improvement,
    verdict,
)

pytestmark = pytest.mark.filterwarnings("error")  # a report should be quiet

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = 0.025  # at either end of an interval

Draw = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=n)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.lognormal(size=n)


def middle_of_skewed() -> float:
    """The mean of a log-normal number between its quartiles."""
    quartile = norm.ppf(0.75)
    return float(math.exp(0.5) * (norm.cdf(quartile - 1) - norm.cdf(-quartile - 1)) / 0.5)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples, for speed: 95% become 94.5% or so."""
    monkeypatch.setattr(statistics, "RESAMPLES", 120)


def check_rate(count: int, of: int, expected: float, slack: float = 0.0) -> None:
    error = 3.5 * math.sqrt(expected * (1 - expected) / of) + slack
    assert expected - error <= count / of <= expected + error, f"{count} of {of}"


def holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


# Intervals of one arm.


@pytest.mark.parametrize(
    ("function", "draw", "truth", "n", "benchmarks", "expected"),
    [
        # The last column was measured with 4,000 benchmarks and 1,000 resamples.
        (mean_interval, normal, 0.0, 5, 300, 0.840),
        (mean_interval, normal, 0.0, 10, 300, 0.888),
        (mean_interval, normal, 0.0, 50, 300, 0.934),
        (mean_interval, skewed, math.exp(0.5), 5, 300, 0.732),
        (mean_interval, skewed, math.exp(0.5), 10, 300, 0.791),
        (mean_interval, skewed, math.exp(0.5), 50, 300, 0.893),
        (iqm_interval, normal, 0.0, 5, 120, 0.905),
        (iqm_interval, normal, 0.0, 10, 120, 0.932),
        (iqm_interval, normal, 0.0, 50, 120, 0.947),
        (iqm_interval, skewed, middle_of_skewed(), 5, 120, 0.899),
        (iqm_interval, skewed, middle_of_skewed(), 10, 120, 0.931),
        (iqm_interval, skewed, middle_of_skewed(), 50, 120, 0.941),
    ],
)
@pytest.mark.usefixtures("few")
def test_coverage(
    function: Callable[[np.ndarray], Interval],
    draw: Draw,
    truth: float,
    n: int,
    benchmarks: int,
    expected: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How often an interval holds the truth: less than 95% with few runs, and known how much."""
    rng = np.random.default_rng(n)
    held = 0
    for seed in range(benchmarks):
        monkeypatch.setattr(statistics, "SEED", seed)
        held += holds(function(draw(rng, n)), truth)
    check_rate(held, benchmarks, expected, slack=0.01)


@pytest.mark.parametrize("n", [5, 10, 50])
@pytest.mark.parametrize("draw", [normal, skewed])
def test_bounds_are_scipys(draw: Draw, n: int) -> None:
    """Either bound cuts 2.5% off the resamples of SciPy's bootstrap."""
    values = draw(np.random.default_rng(n), n)
    for ours, trimmed in [(mean_interval(values), 0), (iqm_interval(values), 0.25)]:
        statistic = partial(trim_mean, proportiontocut=trimmed)
        theirs = bootstrap((values,), statistic, n_resamples=20_000, method="percentile", rng=0)
        resamples = theirs.bootstrap_distribution
        assert ours.value == pytest.approx(statistic(values, axis=0))
        tie = 1e-9  # of resamples with the same runs in another order; of 5 runs there are many
        for outside in [ours.low - resamples, resamples - ours.high]:
            assert np.mean(outside > tie) < 0.042  # with 1,000 of ours 2.5% ± 3.5 x 0.5%
            assert np.mean(outside >= -tie) > 0.008


def test_bounds_of_a_share_are_binomial() -> None:
    """A resample of 16 ones and 24 zeros has Binomial(40, 0.4) ones."""
    values = np.repeat([1.0, 0.0], [16, 24])
    low, high = binom.ppf([LEFT_OUT, 1 - LEFT_OUT], 40, 0.4) / 40
    interval = mean_interval(values)
    assert interval.value == pytest.approx(0.4)
    assert interval.low == pytest.approx(low, abs=0.026)  # one of 40, if the tail is near 2.5%
    assert interval.high == pytest.approx(high, abs=0.026)


def test_interquartile_mean_by_hand() -> None:
    assert iqm_interval([0, 1, 2, 3, 4, 5, 6, 7]).value == 3.5
    assert iqm_interval([-900, 1, 2, 3, 4, 5, 6, 7000]).value == 3.5
    assert iqm_interval([0, 0, 9]).value == 3  # a quarter of three is none
    assert iqm_interval([[-900, 4], [1, 5], [2, 6], [3, 7000]]).value == 3.5


def test_runs_are_resampled_within_their_task() -> None:
    """Two easy tasks and two hard ones, all runs alike: nothing is uncertain."""
    scores = np.tile([0.0, 0.2, 0.8, 1.0], (5, 1))
    interval = iqm_interval(scores)
    assert (interval.low, interval.high) == (interval.value, interval.value)
    assert interval.value == pytest.approx(0.5)


# Differences and verdicts.


@pytest.mark.parametrize(
    ("n", "m", "sigma"), [(5, 5, 1), (5, 5, 4), (10, 10, 4), (5, 10, 4), (5, 10, 0.25)]
)
def test_welch_coverage(n: int, m: int, sigma: float) -> None:
    """Whichever arm varies more and has fewer runs; Student's pooled interval would not do."""
    rng, benchmarks = np.random.default_rng(n + m), 1200
    held = sum(
        holds(difference(rng.normal(3, sigma, n), rng.normal(1, 1, m)), 2)
        for _ in range(benchmarks)
    )
    check_rate(held, benchmarks, 0.95, slack=0.005)  # Welch's is an approximation


@pytest.mark.parametrize("n", [5, 10])
def test_equal_arms_seldom_differ(n: int) -> None:
    """A/A, normal: "better" and "worse" in 2.5% of benchmarks each."""
    rng, benchmarks = np.random.default_rng(n), 1500
    verdicts = [
        verdict(difference(*halves(rng.normal(size=2 * n))), 1e-9) for _ in range(benchmarks)
    ]
    for wrong in ["better", "worse"]:
        check_rate(verdicts.count(wrong), benchmarks, LEFT_OUT)


@pytest.mark.parametrize("n", [5, 10])
def test_equal_arms_that_fail_at_times_seldom_differ(n: int) -> None:
    """A/A on CartPole-like scores, 500 or 100: exact, over all numbers of failures."""
    differ = np.zeros((n + 1, n + 1))
    for ours, theirs in np.ndindex(differ.shape):
        arms = [np.repeat([500.0, 100.0], [k, n - k]) for k in (ours, theirs)]
        differ[ours, theirs] = verdict(difference(*arms), 25) in {"better", "worse"}
    rates = []
    for share in np.linspace(0.05, 0.95, 19):
        chances = binom.pmf(np.arange(n + 1), n, share)
        rates.append(chances @ differ @ chances)
    assert 0.01 < max(rates) < 0.05


@pytest.mark.parametrize("n", [5, 10])
def test_equal_arms_that_fail_about_alike_seldom_differ(n: int) -> None:
    """A/A on scores of 500 or about 100."""
    rng, benchmarks = np.random.default_rng(n), 1500
    wrong = 0
    for _ in range(benchmarks):
        scores = np.where(rng.random(2 * n) < 0.7, 500, rng.normal(100, 20, 2 * n))
        wrong += verdict(difference(*halves(scores)), 25) in {"better", "worse"}
    assert wrong / benchmarks <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / benchmarks)
    assert wrong > 0


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("sign", [1, -1])
def test_arms_a_band_apart_are_seldom_equivalent(n: int, sign: int) -> None:
    rng, benchmarks, band = np.random.default_rng(n), 1500, 4.0
    verdicts = [
        verdict(difference(rng.normal(sign * band, 1, n), rng.normal(size=n)), band)
        for _ in range(benchmarks)
    ]
    check_rate(verdicts.count("equivalent"), benchmarks, LEFT_OUT, slack=0.002)


@pytest.mark.parametrize("n", [5, 10])
def test_an_inferior_arm_seldom_passes(n: int) -> None:
    """Worse by the band, and too noisy to be equivalent."""
    rng, benchmarks, band = np.random.default_rng(n), 1500, 0.2
    verdicts = [
        verdict(difference(rng.normal(-band, 1, n), rng.normal(size=n)), band)
        for _ in range(benchmarks)
    ]
    passed = [v for v in verdicts if v in {"equivalent", "not worse", "better"}]
    check_rate(len(passed), benchmarks, LEFT_OUT, slack=0.002)


def test_rare_failures_pass_unseen() -> None:
    """A limit of few runs that users are told: an arm that fails once in 16 runs, 25 worse."""
    seen = [verdict(difference([500] * 5, [500] * (5 - k) + [100] * k), 25) for k in range(6)]
    passed = [binom.pmf(k, 5, 1 / 16) for k in range(6) if seen[k] == "equivalent"]
    assert sum(passed) == pytest.approx(0.724, abs=0.001)


def test_a_long_tail_of_bad_runs_passes_too_often() -> None:
    """The other limit: worse than a steady arm by the band, mostly by few runs."""
    rng, benchmarks, band, passed = np.random.default_rng(0), 1000, 4.0, 0
    for _ in range(benchmarks):
        ours = math.exp(0.5) - skewed(rng, 5) - band
        passed += difference(ours, rng.normal(0, 0.3, 5)).low >= -band
    check_rate(passed, benchmarks, 0.176)


@pytest.mark.parametrize(("apart", "n"), [(2.0, 5), (1.0, 10), (5.0, 5)])
def test_power(apart: float, n: int) -> None:
    """As often as the noncentral t distribution has it for Student's test, or a little less."""
    rng, benchmarks = np.random.default_rng(n), 800
    freedom, shift = 2 * n - 2, apart / math.sqrt(2 / n)
    power = float(nct.sf(t.ppf(1 - LEFT_OUT, freedom), freedom, shift))
    for sign, expected in [(1, "better"), (-1, "worse")]:
        verdicts = [
            verdict(difference(rng.normal(sign * apart, 1, n), rng.normal(size=n)), 0.1)
            for _ in range(benchmarks)
        ]
        check_rate(verdicts.count(expected), benchmarks, power, slack=0.02)


def test_hardly_any_noise_is_equivalent() -> None:
    rng = np.random.default_rng(0)
    verdicts = {verdict(difference(*rng.normal(0, 0.1, (2, 5))), 1.0) for _ in range(300)}
    assert verdicts == {"equivalent"}


@pytest.mark.parametrize("n", [2, 5, 10])
def test_equivalence_is_two_one_sided_tests(n: int) -> None:
    rng, seen = np.random.default_rng(n), set()
    for _ in range(300):
        ours, theirs = rng.normal(rng.normal(), 1, n), rng.normal(0, rng.exponential(), n)
        band = rng.uniform(0, 5)
        above = ttest_ind(ours + band, theirs, equal_var=False, alternative="greater").pvalue
        below = ttest_ind(ours - band, theirs, equal_var=False, alternative="less").pvalue
        equivalent = max(above, below) <= LEFT_OUT
        assert (verdict(difference(ours, theirs), band) == "equivalent") == equivalent
        seen.add(bool(equivalent))
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-1.0, 1.0, "equivalent"),
        (0.0, 0.0, "equivalent"),
        (0.1, 1.0, "equivalent"),  # better for sure, and too little to matter
        (-1.0, -0.1, "equivalent"),
        (0.1, 1.1, "better"),
        (1.1, 2.0, "better"),
        (-1.1, -0.1, "worse"),
        (-2.0, -1.1, "worse"),
        (0.0, 1.1, "not worse"),
        (-1.0, 1.1, "not worse"),
        (-1.1, 0.0, "undecided"),
        (-1.1, 1.0, "undecided"),
        (-1.1, 1.1, "undecided"),
    ],
)
def test_verdicts(low: float, high: float, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high), 1.0) == expected


@pytest.mark.parametrize("band", [0.0, -1.0, math.nan, math.inf])
def test_bands_that_are_none(band: float) -> None:
    with pytest.raises(ValueError, match="band"):
        verdict(Interval(0, 0, 0), band)


near = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0]) | st.floats(-3, 3)


@given(near, near, st.sampled_from([1.0, 2.0]) | st.floats(1e-3, 3))
@example(-1.0, 2.0, 1.0)
def test_verdict_with_the_arms_swapped(a: float, b: float, band: float) -> None:
    low, high = min(a, b), max(a, b)
    ours = verdict(Interval((low + high) / 2, low, high), band)
    theirs = verdict(Interval(-(low + high) / 2, -high, -low), band)
    swapped = {"better": {"worse"}, "worse": {"better"}, "equivalent": {"equivalent"}}
    rest = {"not worse": {"undecided"}, "undecided": {"not worse", "undecided"}}
    assert theirs in (swapped | rest)[ours]


@given(st.lists(near, min_size=4, max_size=4), st.sampled_from([1.0, 2.0]) | st.floats(1e-3, 3))
def test_a_narrower_interval_says_no_less(bounds: list[float], band: float) -> None:
    outer_low, low, high, outer_high = sorted(bounds)
    outer = verdict(Interval((low + high) / 2, outer_low, outer_high), band)
    inner = verdict(Interval((low + high) / 2, low, high), band)
    stronger = {
        "equivalent": {"equivalent"},
        "better": {"better", "equivalent"},
        "worse": {"worse", "equivalent"},
        "not worse": {"not worse", "better", "equivalent"},
        "undecided": {"equivalent", "better", "worse", "not worse", "undecided"},
    }
    assert inner in stronger[outer]


scores = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6)


@given(scores, scores)
@example([0.1, 0.1, 0.1], [0.1, 0.1])
@example([500.0, 500.0], [500.0, 100.0])
@example([0.0, 1e-200], [0.0, 0.0])
def test_difference_with_the_arms_swapped(ours: list[float], theirs: list[float]) -> None:
    one, other = difference(ours, theirs), difference(theirs, ours)
    assert one.value == pytest.approx(-other.value)
    assert one.low == pytest.approx(-other.high)
    assert one.high == pytest.approx(-other.low)
    close = 1e-9 * max(1, *np.abs([ours[0], theirs[0]]))
    assert one.low - close <= one.value <= one.high + close


@pytest.mark.parametrize("n", [2, 5, 6, 11])
def test_halves(n: int) -> None:
    runs = np.arange(n)
    even, odd = halves(runs)
    assert list(even) == [i for i in runs if i % 2 == 0]
    assert list(odd) == [i for i in runs if i % 2 == 1]
    assert halves(np.zeros((n, 3)))[1].shape == (n // 2, 3)


# Probability of improvement and performance profiles.


@pytest.mark.parametrize("apart", [-1.0, 0.0, 0.5, 2.0])
@pytest.mark.usefixtures("few")
def test_probability_of_improvement_of_normals(apart: float) -> None:
    """Phi(d / sqrt 2), on the quantiles of the two."""
    ours, theirs = (norm.ppf((np.arange(n) + 0.5) / n) for n in (60, 40))
    interval = probability_of_improvement(ours + apart, theirs)
    assert interval.value == pytest.approx(norm.cdf(apart / math.sqrt(2)), abs=0.01)
    assert interval.low < interval.value < interval.high


def test_width_of_the_probability_of_improvement() -> None:
    """Of equal arms: Mann and Whitney's standard error, (n + m + 1) / (12 n m) squared."""
    ours, theirs = (norm.ppf((np.arange(n) + 0.5) / n) for n in (60, 40))
    interval = probability_of_improvement(ours, theirs)
    reach = norm.ppf(1 - LEFT_OUT) * math.sqrt((60 + 40 + 1) / (12 * 60 * 40))
    assert interval.low == pytest.approx(0.5 - reach, abs=0.1 * reach)
    assert interval.high == pytest.approx(0.5 + reach, abs=0.1 * reach)


@pytest.mark.usefixtures("few")
def test_probability_of_improvement_by_hand() -> None:
    assert probability_of_improvement([1, 2, 3], [2, 2.5]).value == pytest.approx(2.5 / 6)
    assert probability_of_improvement([2, 2.5], [1, 2, 3]).value == pytest.approx(3.5 / 6)
    ahead = probability_of_improvement([4, 5], [1, 2, 3])
    assert (ahead.value, ahead.low, ahead.high) == (1, 1, 1)
    for n in [3, 4]:
        level = probability_of_improvement(np.full(n, 500.0), np.full(4, 500.0))
        assert (level.value, level.low, level.high) == (0.5, 0.5, 0.5)
    both = probability_of_improvement([[4, 1], [5, 1]], [[1, 1], [2, 1], [3, 1]])
    assert (both.value, both.low, both.high) == (0.75, 0.75, 0.75)


def test_arms_with_other_tasks() -> None:
    with pytest.raises(ValueError, match="tasks"):
        probability_of_improvement(np.zeros((3, 2)), np.zeros((3, 1)))


def test_profile_by_hand() -> None:
    taus = [-1, 0, 0.5, 2.5, 3]
    profile = performance_profile({"ours": np.array([[0, 1], [2, 3]])}, taus)["ours"]
    assert profile["values"] == [1, 0.75, 0.75, 0.25, 0]  # above, not at
    # Above 0.5 are all resamples of the second task, 1 and 3, and 0 to 2 of the first, 0 and 2.
    assert profile["low"] == [1, 0.5, 0.5, 0, 0]
    assert profile["high"] == [1, 1, 1, 0.5, 0]


def test_profile_bounds_are_binomial() -> None:
    scores = np.repeat([1.0, 0.0], [16, 24])
    profile = performance_profile({"ours": scores}, [0.5])["ours"]
    low, high = binom.ppf([LEFT_OUT, 1 - LEFT_OUT], 40, 0.4) / 40
    assert profile["low"] == pytest.approx([low], abs=0.026)
    assert profile["high"] == pytest.approx([high], abs=0.026)


# Learning curves.


def test_area() -> None:
    steps = np.array([0, 10, 15, 100])
    assert area(steps, 3 + 0.5 * steps) == pytest.approx(3 + 0.5 * 50)  # a line's middle
    assert area([10, 20, 40], [0, 4, 4]) == pytest.approx((0.5 * 4 * 10 + 4 * 20) / 30)
    assert area([7], [42]) == 42


def test_at_time() -> None:
    seconds, means = [1.0, 2.0, 2.0, 5.0], [10.0, 20.0, 30.0, 40.0]
    found = [at_time(seconds, means, when) for when in [1, 1.9, 2, 4.99, 5, 100]]
    assert found == [10, 10, 30, 30, 40, 40]
    with pytest.raises(ValueError, match="no evaluation"):
        at_time(seconds, means, 0.99)


@pytest.mark.parametrize("function", [area, lambda x, y: at_time(x, y, 9)])
@pytest.mark.parametrize(
    ("x", "y"), [([], []), ([1, 2], [1]), ([2, 1], [0, 0]), ([1, 2], [0, math.nan])]
)
def test_damaged_curves(
    function: Callable[[list, list], float], x: list[float], y: list[float]
) -> None:
    with pytest.raises(ValueError, match=r"curve|increase|decrease|finite"):
        function(x, y)


def test_area_of_steps_that_repeat() -> None:
    with pytest.raises(ValueError, match="increase"):
        area([1, 1], [0, 1])


# Degenerate inputs, determinism, imports.


@pytest.mark.parametrize("values", [[7.0], [500.0] * 5, [0.1] * 7])
def test_runs_that_are_alike(values: list[float]) -> None:
    for interval in [mean_interval(values), iqm_interval(values)]:
        assert interval.value == pytest.approx(values[0])
        assert interval.low == pytest.approx(values[0])
        assert interval.high == pytest.approx(values[0])
        assert json.loads(json.dumps(interval.record(), allow_nan=False)) == interval.record()


def test_difference_of_runs_that_are_alike() -> None:
    assert difference([500.0] * 5, [500.0] * 3) == Interval(0, 0, 0)
    assert difference([0.1] * 3, [0.1] * 5) == Interval(0, 0, 0)  # their means differ by 1e-17
    assert difference([500.0] * 5, [400.0] * 5) == Interval(100, 100, 100)
    one_varies = difference([500.0] * 5, [500.0, 500, 500, 500, 400])
    reach = t.ppf(1 - LEFT_OUT, 4) * 20  # a standard error of 20, four degrees of freedom
    assert one_varies.low == pytest.approx(20 - reach)
    assert one_varies.high == pytest.approx(20 + reach)


@pytest.mark.parametrize(("ours", "theirs"), [([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0])])
def test_difference_of_single_runs(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="two runs"):
        difference(ours, theirs)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf, 0.0], [[[1.0]]]])
def test_scores_that_are_none(bad: list) -> None:
    calls: list[Callable[[], object]] = [
        lambda: mean_interval(bad),
        lambda: iqm_interval(bad),
        lambda: probability_of_improvement([1.0], bad),
        lambda: performance_profile({"ours": bad}, [0]),
        lambda: difference([1.0, 2.0], bad),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="finite"):
            call()


def test_intervals_that_json_cannot_hold() -> None:
    with pytest.raises(ValueError, match="finite"):
        Interval(0, -math.inf, math.inf)


def everything() -> Iterator[object]:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    yield mean_interval(ours[:, 0])
    yield iqm_interval(ours)
    yield probability_of_improvement(ours, theirs)
    yield difference(ours[:, 0], theirs[:, 0])
    yield performance_profile({"ours": ours, "theirs": theirs}, [-1, 0, 1])


@pytest.mark.usefixtures("few")
def test_every_call_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for seed in [1, 2]:
        np.random.seed(seed)
        results.append(list(everything()))
        following = np.random.random()
        np.random.seed(seed)
        assert following == np.random.random()  # numpy's generator was left where it was
    assert results[0] == results[1]
    monkeypatch.setattr(statistics, "SEED", 1)  # so the resamples do come from there
    assert [a == b for a, b in zip(everything(), results[0], strict=True)] == [
        *(False, False, False),
        True,  # Welch's
        False,
    ]


@pytest.mark.usefixtures("few")
def test_profiles_do_not_depend_on_other_arms() -> None:
    ours, theirs = np.random.default_rng(0).normal(size=(2, 5, 3))
    taus = np.linspace(-1, 1, 9)
    both = performance_profile({"theirs": theirs, "ours": ours}, taus)
    assert both["ours"] == performance_profile({"ours": ours}, taus)["ours"]


def test_generator_is_put_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        np.random.random()
        raise RuntimeError("in rliable")

    monkeypatch.setattr("rliable.library.get_interval_estimates", fails)
    np.random.seed(3)
    with pytest.raises(RuntimeError, match="in rliable"):
        mean_interval([1.0, 2.0])
    following = np.random.random()
    np.random.seed(3)
    assert following == np.random.random()


def test_importing_is_cheap_and_quiet() -> None:
    code = (
        "import sys; import runkit.benchmark.statistics;"
        "print({'scipy', 'rliable', 'arch', 'pandas', 'matplotlib', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "scripts")])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")
