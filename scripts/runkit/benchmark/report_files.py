"""What a benchmark leaves behind beside its raw results: tables, pictures, videos, a page."""

import re
import subprocess
from pathlib import Path

import imageio_ffmpeg

from runkit import ROOT, plots
from runkit.benchmark import tables
from runkit.benchmark.launch import Request
from runkit.benchmark.records import Results
from runkit.benchmark.report import write_report
from runkit.benchmark.suite import ARMS, Cell, Suite
from runkit.benchmark.summary import summarize
from runkit.rundir import write_text

TABLES = {
    "returns": tables.returns,
    "seeds": tables.seeds,
    "speeds": tables.speeds,
    "aggregates": tables.aggregates,
}
MARKER = re.compile(r"(<!-- benchmark: (\S+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
VIDEO_HEIGHT = 240  # of what is kept for the page
VIDEO_SECONDS = 12


def write(suite: Suite, results: Results, out: Path) -> None:
    """Writes OUT/README.md, a picture a task and report.html, and the README's tables anew."""
    summary = summarize(suite, results)
    for task in summary["tasks"]:
        runs = {
            label: [
                (run["steps"], run["means"])
                for run in task["arms"][arm]["runs"]
                if run["status"] == "finished"
            ]
            for arm, label in ARMS.items()
        }
        if drawn := {label: curves for label, curves in runs.items() if curves}:
            plots.compare(drawn, out / f"{task['key']}.png", task["key"])
    videos: dict[str, dict[str, Path]] = {
        task.key: {
            arm: file
            for arm in ARMS
            if (file := out / "videos" / f"{Cell(task, arm, 0).name}.mp4").exists()
        }
        for task in suite.tasks
    }
    write_report(summary, videos, out / "report.html")
    page = out / "README.md"
    if not page.exists():
        write_text(page, _page(suite, out, summary))
    for file in (page, ROOT / "README.md"):
        text = file.read_text()
        if (filled := fill(text, out, summary)) != text:
            write_text(file, filled)


def fill(text: str, out: Path, summary: tables.Summary) -> str:
    """``text`` with the tables between markers of this results folder made anew."""

    def replace(match: re.Match[str]) -> str:
        start, folder, name, end = match.groups()
        mine = folder == f"results/{out.name}" and name in TABLES
        return f"{start}{TABLES[name](summary)}{end}" if mine else match.group()

    return MARKER.sub(replace, text)


def _page(suite: Suite, out: Path, summary: tables.Summary) -> str:
    """A first README of the folder. What people write between the tables stays."""
    sections = {
        "returns": "Return of the deterministic policy after the last step, mean over seeds.",
        "seeds": "Every seed:",
        "speeds": "Speed, medians over seeds:",
        "aggregates": "Over tasks, in scores normalized to 0 (random) and 1 (good):",
    }
    parts = [f"# {suite.title}, beside Stable-Baselines3\n", f"```sh\n{summary['command']}\n```\n"]
    for name, lead in sections.items():
        parts += [f"{lead}\n", f"<!-- benchmark: results/{out.name} {name} -->\n<!-- end -->\n"]
    return "\n".join(parts)


def keep_video(request: Request, cell: Cell, out: Path) -> None:
    """Moves a cell's video to where the page takes it from, in a size that a page can hold."""
    video = Path(request.folder) / "video.mp4"
    if not video.exists():
        return
    kept = out / "videos" / f"{cell.name}.mp4"
    kept.parent.mkdir(exist_ok=True)
    scale = f"scale=-2:{VIDEO_HEIGHT}"
    options = ["-t", str(VIDEO_SECONDS), "-vf", scale, "-crf", "30", "-preset", "slow"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-i", str(video), *options, "-an"]
    done = subprocess.run([*command, "-movflags", "+faststart", str(kept)], capture_output=True)
    if done.returncode:
        kept.unlink(missing_ok=True)
