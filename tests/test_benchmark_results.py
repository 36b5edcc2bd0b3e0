"""results.jsonl, and the tables that are made of it."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import benchmark
import numpy as np
import pytest
from benchmarks import both_arms, record, suite, task, write_suite
from command import ROOT, assert_error, run

from runkit.benchmark import speed, tables
from runkit.benchmark.records import Record, Results
from runkit.benchmark.report_files import MARKER, TABLES, fill
from runkit.benchmark.suite import ARMS, load_suite, suite_names
from runkit.benchmark.summary import summarize
from runkit.errors import UserError


def results_of(folder: Path, records: list[Record]) -> Results:
    results = Results(folder)
    for entry in records:
        results.add(entry)
    return results


def test_what_is_added_is_read_back(tmp_path: Path) -> None:
    records = both_arms(task(), [500, 400], [300, 200])
    results = results_of(tmp_path, records)
    assert Results(tmp_path).records == results.records
    assert list(results.records.values()) == records


def test_the_last_record_of_a_cell_counts_and_none_is_lost(tmp_path: Path) -> None:
    failed = record(task(), "firsthand", 0, [], status="failed", error="no luck")
    again = record(task(), "firsthand", 0, [0.0, 1.0, 2.0])
    results_of(tmp_path, [failed, again])
    results = Results(tmp_path)
    assert list(results.records.values()) == [again]
    assert len(results.file.read_text().splitlines()) == 2


def damaged(change: dict[str, Any]) -> str:
    return json.dumps(asdict(record(task(), "firsthand", 1, [0.0, 1.0, 2.0])) | change)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (damaged({})[:-20], "damaged"),
        ("", "damaged"),
        ("[1]", "no JSON object"),
        ("{" * 100_000, "damaged"),
        (damaged({"format": 0}), "has format 0, and this version reads 1"),
        (damaged({"seed": "1"}), "seed is '1'"),
        (damaged({"arm": "tf-agents"}), "arm 'tf-agents'"),
        (damaged({"status": "done"}), "status 'done'"),
        (damaged({"extra": 1}), "has or lacks extra"),
        (damaged({"evaluations": [{"step": 1}]}), "damaged"),
        (damaged({"evaluations": []}), "without evaluations"),
        (damaged({"train_seconds": None}), "without evaluations or speeds"),
        (damaged({"evaluations": [{"step": 0, "seconds": 0, "returns": ["1"]}]}), "numbers"),
        (damaged({}).replace('"seconds": 0.0', '"seconds": NaN'), "damaged"),
    ],
)
def test_a_damaged_line_is_one_line_and_nothing_is_overwritten(
    tmp_path: Path, line: str, words: str
) -> None:
    results = results_of(tmp_path, both_arms(task(), [500], [300]))
    content = results.file.read_text() + line + "\n"
    results.file.write_text(content)
    with pytest.raises(UserError, match=re.escape(words)) as error:
        Results(tmp_path)
    assert "line 3" in str(error.value)
    assert results.file.read_text() == content


def test_results_of_another_suite_other_settings_or_other_versions(tmp_path: Path) -> None:
    of = task()
    results = results_of(tmp_path, both_arms(of, [500], [300]))
    results.check(suite(of), {"torch": results.get(suite(of).cells()[0]).versions["torch"]})  # type: ignore[union-attr]
    with pytest.raises(UserError, match="is not of suite made"):
        results.check(suite(task(total_steps=100_000)))
    with pytest.raises(UserError, match=r"made with eval_episodes 2, and the suite says 3 now"):
        results.check(suite(task(eval_episodes=3)))
    with pytest.raises(UserError, match=r"made with torch .* 0\.4\.1 is installed"):
        results.check(suite(of), {"torch": "0.4.1"})


def test_the_command_refuses_such_results(tmp_path: Path) -> None:
    file, out = write_suite(tmp_path), tmp_path / "out"
    of = load_suite(str(file)).tasks[0]
    old = record(of, "firsthand", 0, [1.0, 2.0, 3.0], suite="tiny", versions={"torch": "0.4.1"})
    before = results_of(out_folder(out), [old]).file.read_bytes()
    assert_error(run(benchmark.main, file, "--out", out), "torch 0.4.1", "do not mix")
    assert (out / "results.jsonl").read_bytes() == before
    done = run(benchmark.main, file, "--out", out, "--jobs", "0")
    assert done.status == 0, "what is there may be reported all the same"


def out_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_summary_of_known_numbers(tmp_path: Path) -> None:
    of = task()
    records = both_arms(of, [400, 500, 500, 400], [100, 120, 110, 90])
    summary = summarize(suite(of), results_of(tmp_path, records))
    [entry] = summary["tasks"]
    ours, theirs = (entry["arms"][arm] for arm in ARMS)
    assert (ours["mean"]["value"], theirs["mean"]["value"]) == (450, 105)
    assert ours["auc"]["value"] == pytest.approx(225)  # a line from 0 to 450
    assert entry["band"] == 50
    assert entry["comparison"]["difference"]["value"] == 345
    assert entry["comparison"]["verdict"] == "better"
    assert entry["comparison"]["probability_of_improvement"]["value"] == 1
    # SB3's seeds 0 and 2 against 1 and 3: 105 and 105
    assert entry["same_against_same"]["difference"]["value"] == 0
    # Ours is done after 20 s; SB3's third evaluation came after 20 s too.
    assert entry["equal_time"] == {
        "seconds": 20,
        "means": {"firsthand": 450, "stable_baselines3": 105},
    }
    assert ours["speed"]["env_steps_per_second"] == 1000
    assert [run["final"] for run in ours["runs"]] == [400, 500, 500, 400]
    assert {row["source"] for row in entry["published"]} == {"rl-baselines3-zoo"}
    [aggregate] = summary["aggregates"]
    assert aggregate["iqm"]["firsthand"]["value"] == pytest.approx(0.9)
    assert aggregate["profile"]["firsthand"]["values"][0] == 1
    json.dumps(summary, allow_nan=False)


def test_worse_is_said_as_plainly(tmp_path: Path) -> None:
    records = both_arms(task(), [100, 120, 110, 90], [400, 500, 500, 400])
    summary = summarize(suite(), results_of(tmp_path, records))
    assert summary["tasks"][0]["comparison"]["verdict"] == "worse"
    assert "< worse" in tables.returns(summary)


def test_failed_and_missing_cells_are_shown(tmp_path: Path) -> None:
    of = task()
    lost = record(of, "firsthand", 1, [], status="failed", error="a loss is not finite")
    records = [record(of, "firsthand", 0, [0.0, 1.0, 77.0]), lost]
    summary = summarize(suite(of), results_of(tmp_path, records))
    runs = summary["tasks"][0]["arms"]["firsthand"]["runs"]
    assert [run["status"] for run in runs] == ["finished", "failed", "missing", "missing"]
    assert runs[1]["error"] == "a loss is not finite"
    assert "77, failed, missing, missing" in tables.seeds(summary)
    assert "| Stable-Baselines3 | all missing |" in tables.seeds(summary)
    assert "1 of 4 / 0 of 4" in tables.returns(summary)
    assert summary["tasks"][0]["comparison"] is None
    for make in TABLES.values():
        make(summary)


def test_budgets_are_not_mixed_in_aggregates(tmp_path: Path) -> None:
    tasks = [
        task(algorithm="sac", env_id=f"{robot}-v4", total_steps=steps)
        for steps in (100_000, 300_000)
        for robot in ("Ant", "Hopper")
    ]
    records = [r for of in tasks for r in both_arms(of, [1, 2, 3], [1, 2, 3])]
    summary = summarize(suite(*tasks), results_of(tmp_path, records))
    assert [entry["tasks"] for entry in summary["aggregates"]] == [
        ["sac-Ant-v4-100k", "sac-Hopper-v4-100k"],
        ["sac-Ant-v4-300k", "sac-Hopper-v4-300k"],
    ]


def test_tables_are_put_between_their_markers() -> None:
    text = "a\n<!-- benchmark: results/x seeds -->\nold\n<!-- end -->\nb\n"
    assert fill(text, "x", {"seeds": "new\n"}) == text.replace("old", "new")
    assert fill(text, "y", {"seeds": "new\n"}) == text


def test_results_elsewhere_leave_the_projects_readme_alone(tmp_path: Path) -> None:
    before = (ROOT / "README.md").read_bytes()
    assert b"<!-- benchmark: results/classic returns -->" in before
    done = run(benchmark.main, "classic", "--jobs", "0", "--out", tmp_path / "classic")
    assert done.status == 0
    assert "| 0 of 10 / 0 of 10 |" in (tmp_path / "classic/README.md").read_text()
    assert (ROOT / "README.md").read_bytes() == before


def committed_pages() -> list[Path]:
    pages = [ROOT / "README.md", *ROOT.glob("results/*/README.md")]
    # Tables that are made by transfer.py are tested with that.
    return [page for page in pages if page.parent.name not in ("transfer", "transfer-ablation")]


@pytest.mark.parametrize("page", committed_pages(), ids=lambda file: file.parent.name)
def test_committed_tables_are_those_of_the_raw_data(page: Path) -> None:
    text = page.read_text()
    assert text.count("<!-- benchmark:") == len(MARKER.findall(text)), "a marker without its end"
    for _, folder, name, _ in MARKER.findall(text):
        out = ROOT / folder
        if out.name == "speed":
            made = {"throughput": speed.throughput, "profiles": speed.profiles}
            table = made[name](speed.Measurements(out))
        else:
            assert out.name in suite_names()
            table = TABLES[name](summarize(load_suite(out.name), Results(out)))
        assert fill(text, out.name, dict.fromkeys([name], table) | others(name, text)) == text


def others(name: str, text: str) -> dict[str, str]:
    """The other tables of a page as they are."""
    found = {}
    for match in MARKER.finditer(text):
        if match.group(3) != name:
            found[match.group(3)] = match.group()[len(match.group(1)) : -len(match.group(4))]
    return found


def test_a_time_that_is_equal(tmp_path: Path) -> None:
    """The slower arm is taken where it was when the faster one had finished."""
    of = task()
    slow = record(of, "stable_baselines3", 0, [1.0, 2.0, 3.0])
    late = [e.__class__(e.step, e.seconds * 2.5, e.returns) for e in slow.evaluations]
    records = [
        record(of, "firsthand", 0, [1.0, 5.0, 9.0]),
        record(of, "stable_baselines3", 0, [1.0, 2.0, 3.0], evaluations=late),
    ]
    summary = summarize(suite(of), results_of(tmp_path, records))
    assert summary["tasks"][0]["equal_time"]["means"] == {"firsthand": 9, "stable_baselines3": 1}
    assert np.isclose(summary["tasks"][0]["equal_time"]["seconds"], 20)
