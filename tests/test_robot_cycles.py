"""Making and closing again and again: what is left is counted, and written down."""

import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from runkit import robot_cycles
from runkit.errors import UserError

KEPT: list[Any] = []


class Careless(gym.Env[Any, Any]):
    """Keeps a megabyte and an open file."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012
    observation_space = action_space = spaces.Discrete(2)

    def __init__(self, **kwargs: Any) -> None:
        self.render_mode = kwargs["render_mode"]
        KEPT.append((np.ones(2**17), os.open(os.devnull, os.O_RDONLY)))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return 0, {}

    def step(self, action: Any) -> Any:
        return 0, 0.0, False, False, {}

    def render(self) -> Any:
        return np.zeros((4, 4, 3), np.uint8)


gym.register("Careless-v0", Careless)


def test_what_is_kept_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, in which nothing else comes and goes; it imports this file."""
    monkeypatch.chdir(Path(__file__).parent)
    page = tmp_path / "cycles.md"
    careless = "test_robot_cycles:Careless-v0"
    assert robot_cycles.main(["--cycles", "40", "--envs", careless, "--out", str(page)]) == 0
    (row,) = (line for line in page.read_text().splitlines() if line.startswith("| `"))
    _, memory, asked, each, files, threads = (cell.strip() for cell in row.strip("|").split("|"))
    for kilobytes in (memory, asked):
        assert int(kilobytes.replace(",", "")) == pytest.approx(36 * 1024, rel=0.1)
    assert int(each.replace(",", "")) == pytest.approx(2**20, rel=0.1)
    assert (files, threads) == ("36", "0")


def test_a_page_with_a_row_an_environment(tmp_path: Path) -> None:
    page = tmp_path / "cycles.md"
    page.write_text("| `old` | table\n<!-- end -->\n\nWhat a person wrote.\n")
    args = ["--cycles", "20", "--envs", "bullet/PandaReach-v0", "--out", str(page)]
    assert robot_cycles.main(args) == 0
    text = page.read_text()
    assert "Made and closed 20 times" in text
    assert text.endswith("\n<!-- end -->\n\nWhat a person wrote.\n")
    (row,) = (line for line in text.splitlines() if line.startswith("| `"))
    name, _, asked, each, files, threads = (cell.strip() for cell in row.strip("|").split("|"))
    assert name == "`bullet/PandaReach-v0`"
    assert int(asked.replace(",", "")) < 100
    assert (files, threads) == ("0", "0")
    assert int(each.replace(",", "")) < 5_000


def test_bad_input_leaves_the_page(tmp_path: Path) -> None:
    page = tmp_path / "cycles.md"
    page.write_text("old")
    with pytest.raises(UserError, match="NoSuch"):
        robot_cycles.main(["--cycles", "20", "--envs", "NoSuch-v0", "--out", str(page)])
    with pytest.raises(UserError, match="cycles must be 20 or more"):
        robot_cycles.main(["--cycles", "3", "--out", str(page)])
    assert page.read_text() == "old"
