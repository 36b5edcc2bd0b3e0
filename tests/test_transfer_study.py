"""transfer.py from the first picture to the last table, in worlds that need no simulator."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import transfer
from command import ROOT, Outcome, assert_error, files, run
from localisable import ID

from runkit.errors import UserError
from runkit.signals import StopRequest
from runkit.transfer import arms, records, report, settings, training
from runkit.transfer.settings import Study

from sim2real import dataset, domains, localiser
from sim2real.cases import in_case
from sim2real.localiser import FitConfig, LocaliserConfig

SMALL = ["--backbone", "vgg11", "--width", "0.125", "--stage", "3", "--size", "32"]
SMALL += ["--hidden", "16", "--steps", "4", "--batch-size", "8", "--images", "16"]
SMALL += ["--jobs", "1"]
TOML = """
sealed = {sealed}
engine = "drawn"
[[parameter]]
path = "task.distractors"
distribution = {{ kind = "integers", low = 0, high = 10 }}
group = "distractors"
[[parameter]]
path = "body.table.grey"
distribution = {{ kind = "uniform", low = {low}, high = {high} }}
group = "textures"
"""
WORLDS = {
    "source": ("false", 0.2, 0.21),
    "source_dr": ("false", 0.0, 0.4),
    "target_dev": ("false", 0.1, 0.2),
    "target_sealed_near": ("true", 0.3, 0.35),
    "target_sealed_far": ("true", 0.6, 0.9),
}


@pytest.fixture(autouse=True)
def worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Domains of the stand-in, an empty ledger and an empty place for pictures."""
    assert ID
    folder = tmp_path / "domains"
    folder.mkdir()
    monkeypatch.setattr(domains, "ENGINES", ("drawn",))
    monkeypatch.setattr(domains, "FOLDER", folder)
    monkeypatch.setattr(settings, "LEDGER", tmp_path / "readings.jsonl")
    monkeypatch.setattr(settings, "SHARD", 16)
    monkeypatch.setattr(training, "EVALUATED", 16)
    monkeypatch.setattr("runkit.transfer.pictures.SIDE", 2)
    monkeypatch.setenv("FIRSTHAND_DATA", str(tmp_path / "data"))
    for name, (sealed, low, high) in WORLDS.items():
        text = TOML.format(sealed=sealed, low=low, high=high)
        (folder / f"{name}.toml").write_text(text)
    digests = {listed.name: listed.sha256 for listed in domains.catalogue() if listed.sealed}
    (folder / "sealed.json").write_text(json.dumps(digests))
    return tmp_path


def train(arm: str, folder: Path, *flags: object) -> Outcome:
    return run(transfer.main, "train", arm, *SMALL, "--run-dir", folder, *flags)


def test_from_pictures_to_tables(worlds: Path) -> None:
    runs = [worlds / "runs" / arm for arm in ("full", "none", "ceiling_near", "images-8")]
    for folder in runs:
        outcome = train(folder.name, folder)
        assert outcome.status == 0, outcome
    ledger = settings.LEDGER
    assert [(r.domain, r.purpose) for r in domains.readings(ledger)] == [
        ("target_sealed_near", "ceiling")
    ]
    summary = json.loads((runs[0] / "summary.json").read_text())
    assert summary["figures"]["pictures"] == 16
    assert summary["figures"]["sha256"] == domains.read("source_dr").sha256

    out = worlds / "results"
    flags = ["--images", "16", "--jobs", "1", "--out", out]
    outcome = run(transfer.main, "evaluate", *runs, *flags)
    assert outcome.status == 0, outcome
    # Each run opens both sealed domains for its scores, those that have factors once more for
    # them, and the full one for the pictures.
    opened = [r for r in domains.readings(ledger) if r.purpose == "score"]
    assert len(opened) == 2 * (4 + 2 + 1)

    scores = {score.arm: score for score in records.read(out)}
    assert set(scores) == {"full", "none", "ceiling_near", "images-8"}
    assert set(scores["full"].scores) == set(WORLDS)
    assert set(scores["full"].factors) == set(records.TARGETS)
    assert scores["images-8"].factors == {}
    model = localiser.load(runs[0] / "localiser")
    case = in_case(domains.read("source"), "alone")
    shown = dataset.load(settings.data_folder(settings.test_request(case, "cube", 32)), 16)
    expected = (localiser.estimate(model, shown.pictures) - shown.positions).norm(dim=1)
    np.testing.assert_allclose(scores["full"].scores["source"]["alone"], expected, atol=5.1e-5)

    page = (out / "README.md").read_text()
    for words in ("trained in the target", "no randomization", "the mean position", "gap closed"):
        assert words in page
    digest = domains.unseal("target_sealed_far", ledger, "score", "test").sha256
    assert f"| target_sealed_far | drawn | `{digest}` | 7 | 0 |" in page
    assert (out / "cube-source_dr.jpg").exists()
    assert (out / "cube-target_sealed_far.jpg").exists()
    assert (out / "images.png").exists()

    # What people write stays, and the tables follow the scores.
    (out / "README.md").write_text(page.replace("# From", "Remark.\n\n# From"))
    (out / "scores" / "cube-none-seed0.json").unlink()
    assert run(transfer.main, "report", "--out", out).status == 0
    again = (out / "README.md").read_text()
    assert again.startswith("Remark.")
    assert "no randomization |" not in again


def test_a_stopped_training_is_gone_on_with(worlds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped = worlds / "whole", worlds / "stopped"

    class Stopping(StopRequest):
        """SIGTERM once there is a checkpoint."""

        number = property(
            lambda _: signal.SIGTERM if (stopped / "checkpoint" / "0").exists() else None,
            lambda *_: None,
        )

    assert train("full", whole).status == 0
    with monkeypatch.context() as patched:
        patched.setattr("runkit.papers.run.StopRequest", Stopping)
        first = train("full", stopped, "--checkpoint-every", "0")
    assert first.status == 143, first
    assert f"--resume {stopped}" in first.out
    assert not (stopped / "summary.json").exists()
    assert run(transfer.main, "train", "--resume", stopped).status == 0
    assert files(whole / "localiser") == files(stopped / "localiser")


def test_the_same_command_goes_on_or_says_why_not(worlds: Path) -> None:
    folder = worlds / "run"
    assert train("full", folder).status == 0
    again = train("full", folder)
    assert again.status == 0
    assert "is finished" in again.out
    assert_error(train("full", folder, "--seed", "1"), "other flags", "--run-dir")


def test_arms_are_what_they_say() -> None:
    ledger = settings.LEDGER

    def read(key: str) -> arms.Arm:
        return arms.read(key, ledger, "test")

    source = domains.read("source_dr")
    assert read("full") == arms.Arm("full", source)
    assert read("none").domain == domains.read("source")
    assert not read("none").shift
    assert [p["path"] for p in read("no_textures").domain.parameters] == ["task.distractors"]
    alone = read("no_distractors").domain.parameters[-1]
    assert alone["distribution"] == {"kind": "constant", "value": 0}
    assert read("images-100").images == 100
    assert read("paper_head").paper_head
    assert read("ceiling_dev").domain.name == "target_dev"
    assert domains.readings(ledger) == []
    assert read("ceiling_far").domain.sealed
    assert len(domains.readings(ledger)) == 1
    for key in ("fool", "textures-", "images-0", "ceiling", ""):
        with pytest.raises(UserError, match="there is no arm"):
            read(key)


def test_textures_come_from_a_pool() -> None:
    texture = {"kind": "texture", "kinds": ["flat"]}
    domain = domains.Domain("d", False, "drawn", {}, ({"path": "a", "distribution": texture},))
    assert arms.pooled(domain, 7).parameters[0]["distribution"]["pool"] == 7
    grey = {"path": "b", "distribution": {"kind": "constant", "value": 1}}
    assert arms.pooled(domains.Domain("d", False, "drawn", {}, (grey,)), 7).parameters == (grey,)


def test_jitter_makes_nothing_random_that_is_not_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domains, "FOLDER", Path(domains.__file__).parent / "domains")
    monkeypatch.setattr(domains, "ENGINES", ("bullet", "mujoco"))
    study = Study(fit=FitConfig(shift=5, colour=0.2, shade=0.4))
    for arm, shift, colour, shade in [
        ("full", 5, 0.2, 0.4),
        ("none", 0, 0.0, 0.0),
        ("no_jitter", 0, 0.0, 0.0),
        ("no_camera", 0, 0.2, 0.4),
        ("no_textures", 5, 0.0, 0.4),
        ("textures-3", 5, 0.0, 0.4),
        ("no_lights", 5, 0.2, 0.0),
        ("no_distractors", 5, 0.2, 0.4),
    ]:
        fit = training.fit_of(arms.read(arm, settings.LEDGER, "test"), study)
        assert (fit.shift, fit.colour, fit.shade) == (shift, colour, shade), arm


def test_the_papers_head_takes_the_place_of_the_map() -> None:
    arm = arms.read("paper_head", settings.LEDGER, "test")
    network = training.network_of(arm, Study(network=LocaliserConfig.cpu()))
    assert (network.head, network.stage) == ("paper", 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian",), ["unknown command 'trian'", "train"]),
        (("train", "fool"), ["no arm 'fool'", "full"]),
        (("train", "full", "--target", "cup"), ["target must be", "cube"]),
        (("train", "full", "--backbone", "vgg17"), ["unknown backbone"]),
        (("train", "full", "--images", "0"), ["images must be positive"]),
        (("train", "full", "--jobs", "0"), ["jobs must be positive"]),
        (("train", "full", "--step", "1"), ["--step"]),
        (("train", "--resume", "nowhere"), ["no run directory nowhere"]),
        (("evaluate", "nowhere"), ["no run directory nowhere"]),
        (("evaluate", "x", "--images", "0"), ["images must be positive"]),
        (("dynamics", "nowhere"), ["no run directory nowhere"]),
        (("speed", "--domain", "target_sealed_far"), ["is sealed"]),
        (("speed", "--target", "cup"), ["target must be"]),
        (("domains", "--all"), ["takes no flags"]),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], words: list[str]) -> None:
    assert_error(run(transfer.main, *arguments), *words)


def test_an_unfinished_run_has_no_scores(worlds: Path) -> None:
    folder = worlds / "run"
    assert train("full", folder).status == 0
    (folder / "summary.json").unlink()
    assert_error(run(transfer.main, "evaluate", folder), "not finished", "--resume")
    assert domains.readings(settings.LEDGER) == []


def test_damaged_scores_are_one_line(worlds: Path) -> None:
    file = worlds / "results" / "scores" / "a.json"
    file.parent.mkdir(parents=True)
    for text in ("{", "[]", '{"arm": 1}'):
        file.write_text(text)
        outcome = run(transfer.main, "report", "--out", worlds / "results")
        assert_error(outcome, str(file), "damaged")


def test_domains_are_listed_without_being_opened(worlds: Path) -> None:
    outcome = run(transfer.main, "domains")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert len(lines) == 5
    assert sum("sealed, read 0 times" in line for line in lines) == 2
    assert domains.readings(settings.LEDGER) == []


@pytest.mark.parametrize("name", ["transfer", "transfer-ablation"])
def test_tables_are_those_of_the_results(
    worlds: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "results" / name / "README.md"
    monkeypatch.undo()  # the domains and the ledger are the true ones
    assert report.filled(page.read_text(), page.parent) == page.read_text()
