"""OUT/README.md, whose tables stand between markers and are made anew; what stands around stays."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from runkit.benchmark.report_files import fill
from runkit.rundir import write_text
from runkit.transfer import dynamics, pictures, records, settings, speed, tables

from sim2real import domains

LEADS = {
    "errors": "Errors in centimetres: mean ± sd [95% interval of the mean]; median; 95th "
    "percentile; share under 1.5 cm.",
    "gaps": "What the other world costs (mean error there less that at home, cm, with 95% "
    "intervals), and the share of it that randomization saves: (none - full) / (none - ceiling).",
    "ablations": "One kind of randomization less, mean errors in cm in target_sealed_near, beside "
    "those of Tobin et al. 2017, table II (alone / distractors / occluded, real pictures):",
    "textures": "Mean errors in cm by the number of textures in training:",
    "images": "Mean errors in cm by the number of pictures in training, each arm with as many "
    "steps:",
    "factors": "Which factor makes the gap: mean errors in cm, with distractors, in the domain "
    "that the localiser knows with one factor from the target:",
    "seals": "The sealed domains, and how often they were opened:",
    "dynamics": "Policies under shifted dynamics: score [95% interval]; share of the nominal score "
    "that is left:",
    "speed": "Pictures a second:",
}


def write(out: Path) -> Path:
    """Makes tables and pictures of what is in OUT; returns the page."""
    page = out / "README.md"
    if not page.exists():
        out.mkdir(parents=True, exist_ok=True)
        parts = ["# From one simulator to another\n"]
        for name, lead in LEADS.items():
            parts.append(f"{lead}\n\n<!-- benchmark: results/{out.name} {name} -->\n<!-- end -->\n")
        write_text(page, "\n".join(parts))
    text = page.read_text()
    if (new := filled(text, out)) != text:
        write_text(page, new)
    for kind in ("textures", "images"):
        pictures.curves(records.read(out), kind, "target_sealed_near", out / f"{kind}.png")
    return page


def filled(text: str, out: Path) -> str:
    """A page with the tables of what is in OUT between its markers."""
    scores = records.read(out)
    made: dict[str, Callable[[], str]] = {
        **{name: partial(make, scores) for name, make in tables.TABLES.items()},
        "seals": lambda: tables.seals(domains.catalogue(), domains.readings(settings.LEDGER)),
        "dynamics": lambda: dynamics.table_of(out),
        "speed": lambda: speed.table_of(out),
    }
    return fill(text, out.name, {name: make() for name, make in made.items()})
