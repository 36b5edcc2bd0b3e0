"""The report of a suite: one HTML file that needs nothing else and asks no network for anything.

The page draws itself from the summary, which is embedded as JSON, with the script in
report.html. That file is plain ASCII, and so is what is made of it, whatever the locale.
"""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

from runkit.rundir import write_text

TEMPLATE = Path(__file__).with_name("report.html")

Videos = dict[str, dict[str, Path]]  # task key -> arm -> mp4


def write_report(summary: dict[str, Any], videos: Videos, out: Path) -> None:
    """Writes the page in one step, with the videos in it; raises ValueError on a NaN."""
    write_text(out, render(summary, videos))


def render(summary: dict[str, Any], videos: Videos) -> str:
    """The page."""
    template = TEMPLATE.read_text(encoding="ascii")
    title = html.escape(str(summary["title"])).encode("ascii", "xmlcharrefreplace").decode()
    sources = {task: {arm: data_uri(mp4) for arm, mp4 in a.items()} for task, a in videos.items()}
    parts = {
        "title": title,
        "summary": as_json(summary),
        "videos": as_json(sources),
        # The browser runs no script and applies no style but those of the template.
        "script": source_hash(template, "script"),
        "style": source_hash(template, "style"),
    }
    # In one pass, so that braces inside the data stay what they are.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def as_json(data: Any) -> str:
    """JSON that cannot end the script element it is in: there is no "<" in it."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def data_uri(mp4: Path) -> str:
    return "data:video/mp4;base64," + base64.b64encode(mp4.read_bytes()).decode()


def source_hash(template: str, tag: str) -> str:
    """The hash by which a content security policy allows the template's one plain ``tag``."""
    [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
