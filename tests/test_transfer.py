"""Errors, gaps and their intervals; which domain a factor comes from; and the seal."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from sim2real import domains
from sim2real.domains import Domain, DomainError, Factor, SealedError, swapped
from sim2real.localiser import Localiser, LocaliserConfig
from sim2real.transfer import (
    GOOD,
    bootstrap,
    constant_errors,
    errors,
    gap,
    gap_closed,
    itself,
    summarize,
    wilson,
)

RNG = np.random.default_rng(0)


# -- errors ----------------------------------------------------------------------------------------


def test_errors_are_distances_in_metres() -> None:
    torch.manual_seed(0)
    model = Localiser(LocaliserConfig.small(), (0, 0, 0), (1, 1, 1))
    pictures = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        truth = model.eval()(pictures) + torch.tensor([0.03, -0.04, 0.12])
    np.testing.assert_allclose(errors(model, pictures, truth), 0.13, rtol=1e-5)


def test_the_constant_predictor_knows_the_mean_of_what_it_has_seen() -> None:
    known = torch.tensor([[0.0, 0.0, 0.0], [2.0, 4.0, 0.0]])
    positions = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 3.0]])
    assert constant_errors(known, positions).tolist() == [0.0, 3.0]


def test_a_summary_of_known_errors() -> None:
    distances = np.array([0.0, GOOD - 1e-9, GOOD, 0.1])
    summary = summarize(distances)
    assert summary.count == 4
    assert summary.mean.value == pytest.approx(0.0325)
    assert summary.sd == pytest.approx(distances.std())
    assert summary.median == pytest.approx(0.015)
    assert summary.p95 == pytest.approx(np.quantile(distances, 0.95))
    assert summary.good == 0.5
    json.dumps(summary.record(), allow_nan=False)


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf, 1.0], [[1.0]]])
def test_errors_that_are_none_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no finite errors"):
        summarize(np.array(values))


# -- intervals -------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_is_students_for_many_pictures() -> None:
    sample = RNG.exponential(0.02, 500)
    interval = bootstrap(itself, [sample])
    low, high = stats.t.interval(0.95, 499, sample.mean(), stats.sem(sample))
    assert interval.value == sample.mean()
    assert interval.low == pytest.approx(low, abs=0.1 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.1 * (high - low))


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        interval = bootstrap(itself, [rng.normal(1.0, 0.5, 100)])
        held += interval.low <= 1.0 <= interval.high
    # 95% of 200, within three standard deviations.
    assert 180 <= held <= 199


def test_pairs_are_kept_together() -> None:
    """What two models' errors have in common is in no interval of their difference."""
    hard = RNG.exponential(1.0, 200)
    paired = bootstrap(lambda a, b: b - a, [hard, hard + 0.1])
    apart = bootstrap(lambda a, b: b - a, [hard, hard + 0.1], paired=False)
    assert paired.low == pytest.approx(0.1)
    assert paired.high == pytest.approx(0.1)
    assert apart.low < 0.0 < 0.2 < apart.high
    with pytest.raises(ValueError, match="equally many"):
        bootstrap(itself, [hard, hard[1:]])


def test_a_gap_is_what_the_target_costs() -> None:
    source, target = RNG.normal(0.01, 0.001, 300), RNG.normal(0.04, 0.001, 200)
    interval = gap(source, target)
    assert interval.value == pytest.approx(0.03, abs=5e-4)
    low, high = stats.ttest_ind(target, source, equal_var=False).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=2e-5)


def test_how_much_of_the_gap_is_closed() -> None:
    none, ceiling = np.full(50, 0.10), np.full(50, 0.02)
    for method, share in [(none, 0.0), (ceiling, 1.0), (np.full(50, 0.04), 0.75)]:
        assert gap_closed(none, method, ceiling).value == pytest.approx(share)
    with pytest.raises(ValueError, match="no gap"):
        gap_closed(ceiling, none, none)


def test_wilsons_interval() -> None:
    for successes, count in [(0, 10), (3, 10), (10, 10), (95, 100)]:
        mine = wilson(successes, count)
        theirs = stats.binomtest(successes, count).proportion_ci(method="wilson")
        assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    for successes, count in [(1, 0), (2, 1), (-1, 3)]:
        with pytest.raises(ValueError, match="no share"):
            wilson(successes, count)


# -- domains ---------------------------------------------------------------------------------------


def constant(path: str, value: float, group: str, **more: str) -> dict[str, object]:
    distribution = {"kind": "constant", "value": value}
    return {"path": path, "distribution": distribution, "group": group, **more}


SOURCE = Domain(
    "a",
    False,
    "mujoco",
    {"distractors": "shapes"},
    (
        constant("camera.main.fov", 40, "camera"),
        constant("light.0.ambient", 0.2, "lights"),
        constant("light.1.ambient", 0.2, "lights", engine="mujoco"),
        constant("task.distractors", 3, "distractors"),
    ),
)
TARGET = Domain(
    "b",
    True,
    "bullet",
    {"distractors": "held_out_meshes"},
    (
        constant("camera.main.fov", 60, "camera"),
        constant("camera.main.roll", 0.1, "camera"),
        constant("task.distractors", 5, "distractors"),
    ),
)


def values(domain: Domain) -> dict[str, float]:
    """What the spec makes constant, by path."""
    return {e.path: e.distribution.sample(RNG) for e in domain.spec().entries}  # type: ignore[misc]


def test_one_factor_is_swapped_and_nothing_else() -> None:
    before = values(SOURCE)
    camera = swapped(SOURCE, TARGET, "camera")
    assert values(camera) == before | {"camera.main.fov": 60, "camera.main.roll": 0.1}
    assert (camera.engine, camera.kwargs) == ("mujoco", SOURCE.kwargs)

    objects = swapped(SOURCE, TARGET, "objects")
    assert values(objects) == before | {"task.distractors": 5}
    assert (objects.engine, objects.kwargs) == ("mujoco", TARGET.kwargs)

    lights = swapped(SOURCE, TARGET, "lights")  # of which the target says nothing
    assert values(lights) == {p: v for p, v in before.items() if not p.startswith("light")}

    renderer = swapped(SOURCE, TARGET, "renderer")
    assert (renderer.engine, renderer.kwargs) == ("bullet", SOURCE.kwargs)
    # What only the first engine has is left out in the second.
    assert values(renderer) == {p: v for p, v in before.items() if p != "light.1.ambient"}
    with pytest.raises(DomainError, match="no factor"):
        swapped(SOURCE, TARGET, "weather")  # type: ignore[arg-type]


def test_what_comes_from_a_sealed_domain_is_sealed() -> None:
    for factor in domains.FACTORS:
        assert swapped(SOURCE, TARGET, factor).sealed
        assert swapped(TARGET, SOURCE, factor).sealed
        assert not swapped(SOURCE, SOURCE, factor).sealed
    assert TARGET.fixed("alone", {"task.distractors": 0}).sealed
    assert TARGET.without("camera").sealed


def test_parameters_are_fixed_and_left_out() -> None:
    alone = SOURCE.fixed("alone", {"task.distractors": 0, "task.occluded": 0})
    assert values(alone) == values(SOURCE) | {"task.distractors": 0, "task.occluded": 0}
    assert "camera.main.fov" not in values(SOURCE.without("camera"))
    with pytest.raises(DomainError, match=r"no group 'noise'.*camera, distractors, lights"):
        SOURCE.without("noise")


def test_a_digest_is_of_the_content_and_not_of_the_name() -> None:
    assert replace(SOURCE, name="x").sha256 == SOURCE.sha256
    factors: tuple[Factor, ...] = ("camera", "objects", "lights", "renderer")
    for factor in factors:
        assert swapped(SOURCE, TARGET, factor).sha256 != SOURCE.sha256


# -- files and the seal ----------------------------------------------------------------------------

TEXT = """
sealed = SEALED
engine = "bullet"
[kwargs]
distractors = "shapes"
[[parameter]]
path = "camera.main.fov"
distribution = {kind = "uniform", low = 40.0, high = 50.0}
group = "camera"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "domains"
    folder.mkdir()
    (folder / "open.toml").write_text(TEXT.replace("SEALED", "false"))
    (folder / "closed.toml").write_text(TEXT.replace("SEALED", "true"))
    digest = domains.read("open", folder).sha256  # of the same content
    (folder / "sealed.json").write_text(json.dumps({"closed": digest}))
    return folder


def test_nothing_is_trained_or_tuned_on_what_is_sealed(folder: Path) -> None:
    assert domains.read("open", folder).parameters[0]["group"] == "camera"
    with pytest.raises(SealedError, match="closed is sealed"):
        domains.read("closed", folder)


def test_every_opening_is_counted(folder: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "new" / "readings.jsonl"
    assert domains.readings(ledger) == []
    for model in ("first", "second"):
        opened = domains.unseal("closed", ledger, "score", model, folder)
        assert opened.sealed
    domains.unseal("open", ledger, "score", "third", folder)
    found = domains.readings(ledger)
    assert [(r.domain, r.purpose, r.by) for r in found] == [
        ("closed", "score", "first"),
        ("closed", "score", "second"),
    ]
    assert {r.sha256 for r in found} == {opened.sha256}


def test_a_domain_that_was_changed_is_not_opened(folder: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "readings.jsonl"
    file = folder / "closed.toml"
    file.write_text(file.read_text().replace("50.0", "49.0"))
    with pytest.raises(SealedError, match="changed after it was sealed"):
        domains.unseal("closed", ledger, "score", "model", folder)
    assert domains.readings(ledger) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("sealed = false", "", "sealed is missing"),
        ("sealed = false", "sealed = 0", "sealed must be a bool"),
        ('"bullet"', '"unity"', "engine must be one of bullet, mujoco"),
        ("[kwargs]", "[arguments]", "unknown arguments"),
        ("[kwargs]", "[kwargs", "open.toml"),
        ("low = 40.0", "low = 60.0", "reversed"),
        ("[kwargs]", 'spec = "localise_bulet"\n[kwargs]', "nearest: localise_bullet"),
        ("[kwargs]", "spec = 1\n[kwargs]", "spec must be a str"),
        ('"uniform"', '"uniformly"', "uniform"),
    ],
)
def test_a_wrong_file_is_one_line(folder: Path, old: str, new: str, words: str) -> None:
    file = folder / "open.toml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ValueError, match=words) as caught:
        domains.read("open", folder)
    assert "\n" not in str(caught.value)


def test_the_nearest_name_is_offered(folder: Path) -> None:
    with pytest.raises(DomainError, match="no domain 'opn'; nearest: open"):
        domains.read("opn", folder)


def test_the_domains_that_are_here() -> None:
    assert set(domains.names()) == {
        "source",
        "source_dr",
        "target_dev",
        "target_sealed_near",
        "target_sealed_far",
    }
    sealed = json.loads((domains.FOLDER / "sealed.json").read_text())
    assert set(sealed) == {"target_sealed_near", "target_sealed_far"}
    for name in domains.names():
        if name in sealed:
            with pytest.raises(SealedError):
                domains.read(name)
        else:
            assert not domains.read(name).sealed
