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
LEADS = {
    "returns": "Return of the deterministic policy after the last step, mean over seeds:",
    "seeds": "Every seed:",
    "speeds": "Speed, medians over seeds:",
    "aggregates": "Over tasks, in scores normalized to 0 (random) and 1 (good):",
    "throughput": "Medians at each arm's better thread count:",
    "profiles": "Where the time goes in our arm:",
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
    made = {name: make(summary) for name, make in TABLES.items()}
    fill_pages(out, f"{suite.title}, beside Stable-Baselines3", summary["command"], made)


def fill_pages(out: Path, title: str, command: str, made: dict[str, str]) -> None:
    """Puts tables (name -> Markdown) between their markers in OUT/README.md; those of a folder in
    the checkout's results/ in the project's README too.

    The folder's README is begun here if there is none; what people write around tables stays.
    """
    page = out / "README.md"
    if not page.exists():
        parts = [f"# {title}\n", f"```sh\n{command}\n```\n"]
        for name in made:
            start = f"<!-- benchmark: results/{out.name} {name} -->"
            parts += [f"{LEADS[name]}\n", f"{start}\n<!-- end -->\n"]
        write_text(page, "\n".join(parts))
    ours = out.resolve() == ROOT / "results" / out.name
    for file in [page, ROOT / "README.md"] if ours else [page]:
        text = file.read_text()
        if (filled := fill(text, out.name, made)) != text:
            write_text(file, filled)


def fill(text: str, folder: str, made: dict[str, str]) -> str:
    """``text`` with the tables between markers of results/FOLDER replaced by those in ``made``."""

    def replace(match: re.Match[str]) -> str:
        start, of, name, end = match.groups()
        return f"{start}{made[name]}{end}" if of == f"results/{folder}" else match.group()

    return MARKER.sub(replace, text)


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
