"""The syllabus for reading: tables for the READMEs and for the terminal.

    PYTHONPATH=scripts python -m runkit.syllabus  # writes the tables into the READMEs

Rows and status come from ``supervised.PAPERS``; figures from results/papers.json, which has for
some papers what was measured, the paper's own figure, and ours.
"""

import json
from pathlib import Path
from typing import Any

from runkit import ROOT
from runkit.rundir import write_text

from supervised import PAPERS

BEGIN, END = "<!-- papers: begin -->", "<!-- papers: end -->"
READMES = (ROOT / "README.md", ROOT / "supervised" / "README.md")


def figures() -> dict[str, dict[str, str]]:
    """Paper key -> measure, paper, ours; each may be lacking."""
    found: dict[str, dict[str, str]] = json.loads((ROOT / "results" / "papers.json").read_text())
    return found


def papers_table() -> str:
    """All papers: Markdown."""
    lines = ["| paper | key | status | measured | paper's | ours |", "|---|---|---|---|---|---|"]
    numbers = figures()
    for paper in PAPERS.values():
        row = numbers.get(paper.key, {})
        name = f"{paper.authors} {paper.year}, *{paper.title}*"
        cells = [row.get(column, "-") for column in ("measure", "paper", "ours")]
        lines.append(f"| {' | '.join([name, f'`{paper.key}`', paper.status, *cells])} |")
    return "\n".join(lines)


def phases_table() -> str:
    """How many of each phase work: Markdown."""
    lines = ["| phase | works | planned |", "|---|---|---|"]
    for phase in dict.fromkeys(paper.phase for paper in PAPERS.values()):
        papers = [paper for paper in PAPERS.values() if paper.phase == phase]
        cells = [
            " ".join(f"`{p.key}`" for p in papers if p.status == status) or "-"
            for status in ("works", "planned")
        ]
        lines.append(f"| {phase} | {' | '.join(cells)} |")
    return "\n".join(lines)


def listing() -> list[dict[str, Any]]:
    """A row a paper, for ``train_paper.py --list``."""
    numbers = figures()
    return [
        {
            "key": paper.key,
            "status": paper.status,
            "paper": f"{paper.year} {paper.authors}",
            "measured": (row := numbers.get(paper.key, {})).get("measure", "-"),
            "paper's": row.get("paper", "-"),
            "ours": row.get("ours", "-"),
        }
        for paper in PAPERS.values()
    ]


def updated(file: Path) -> str:
    """The text of a README with its table made anew; ValueError if it has no place for one."""
    text = file.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{file} lacks {BEGIN} or {END}, or has one twice")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = phases_table() if file.parent == ROOT else papers_table()
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


if __name__ == "__main__":
    for readme in READMES:
        write_text(readme, updated(readme))
