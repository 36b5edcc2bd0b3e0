"""The report of a suite: one HTML file that draws itself from the summary, embedded as JSON."""

from pathlib import Path
from typing import Any

from runkit.page import as_json, data_uri, escaped, fill
from runkit.rundir import write_text

TEMPLATE = Path(__file__).with_name("report.html")

Videos = dict[str, dict[str, Path]]  # task key -> arm -> mp4


def write_report(summary: dict[str, Any], videos: Videos, out: Path) -> None:
    """Writes the page in one step, with the videos in it; raises ValueError on a NaN."""
    write_text(out, render(summary, videos))


def render(summary: dict[str, Any], videos: Videos) -> str:
    """The page."""
    sources = {
        task: {arm: data_uri("video/mp4", mp4.read_bytes()) for arm, mp4 in arms.items()}
        for task, arms in videos.items()
    }
    parts = {
        "title": escaped(summary["title"]),
        "summary": as_json(summary),
        "videos": as_json(sources),
    }
    return fill(TEMPLATE, parts)
