"""The robots' speed beside panda-gym's: what is measured and how it is written, not how fast."""

import importlib.util
import json
from pathlib import Path

import pytest

from runkit import robot_speed
from runkit.errors import UserError


def line(env: str, what: str, rate: float, round_: int = 0) -> dict[str, object]:
    return {"format": 1, "env": env, "what": what, "round": round_, "rate": rate}


def test_what_is_missing_is_measured_and_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def measured(env: str, what: str, seconds: float) -> float:
        asked.append((env, what))
        return 10.0

    monkeypatch.setattr(robot_speed, "_measured", measured)
    known = line("bullet/PandaReach-v0", "84x84", 3.0)
    (tmp_path / "speed.jsonl").write_text(json.dumps(known) + "\n")
    ids = ["bullet/PandaReach-v0", "bullet/KukaGrasp-v0"]
    args = ["--out", str(tmp_path), "--envs", *ids, "--rounds", "1"]
    assert robot_speed.main(args) == 0
    assert asked == [(ids[0], "steps"), (ids[0], "720x480"), (ids[1], "steps")]
    assert robot_speed.main(args) == 0
    assert len(asked) == 3
    entry = json.loads((tmp_path / "speed.jsonl").read_text().splitlines()[-1])
    assert {"machine", "load", "versions", "seconds"} <= set(entry)


def test_the_table_sets_ours_beside_theirs(tmp_path: Path) -> None:
    lines = [line("PandaReach-v3", "steps", rate, i) for i, rate in enumerate((90, 100, 400))]
    lines += [line("mujoco/PandaReach-v0", "steps", 450), line("mujoco/PandaPush-v0", "steps", 9)]
    robot_speed.report(tmp_path, lines)
    page = tmp_path / "speed.md"
    assert "| `mujoco/PandaReach-v0` | 450 (4.5×) | - | - |" in page.read_text()
    assert "| `mujoco/PandaPush-v0` | 9.0 | - | - |" in page.read_text()
    page.write_text("Before.\n" + page.read_text() + "After.\n")
    robot_speed.report(tmp_path, [*lines, line("mujoco/PandaReach-v0", "84x84", 50)])
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "| `mujoco/PandaReach-v0` | 450 (4.5×) | - | 50 |" in text


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "speed.jsonl"
    file.write_text(json.dumps(line("a", "steps", 1.0)) + "\n{]\n")
    with pytest.raises(UserError, match="line 2 is damaged"):
        robot_speed.read(file)
    file.write_text(json.dumps(line("a", "steps", 1.0) | {"format": 2}) + "\n")
    with pytest.raises(UserError, match="another version"):
        robot_speed.read(file)


def test_an_unknown_environment_and_an_absent_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robot_speed, "_measured", lambda *_: 1.0)
    with pytest.raises(UserError, match="is not measured; there are"):
        robot_speed.main(["--out", str(tmp_path), "--envs", "Ant-v5"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install panda-gym"):
        robot_speed.main(["--out", str(tmp_path), "--envs", "PandaReach-v3"])
    assert robot_speed.main(["--out", str(tmp_path), "--rounds", "1"]) == 0
    measured = {entry["env"] for entry in robot_speed.read(tmp_path / "speed.jsonl")}
    assert measured == set(robot_speed.OURS)


@pytest.mark.parametrize("env_id", ["bullet/PandaReach-v0", "bullet/TableLocalise-v0"])
def test_frames_are_of_the_size_that_is_asked(env_id: str) -> None:
    env = robot_speed._make(env_id, (84, 60))
    env.reset(seed=0)
    assert env.render().shape == (60, 84, 3)
    env.close()


def test_a_rate_is_steps_over_seconds() -> None:
    assert robot_speed.rate("bullet/PandaReach-v0", "steps", 0.05) > 1


def test_theirs_draws_at_our_size() -> None:
    pytest.importorskip("panda_gym", reason="needs panda-gym")
    env = robot_speed._make("PandaReach-v3", (84, 60))
    env.reset(seed=0)
    assert env.render().shape == (60, 84, 3)
    env.close()
