"""What a randomization spec does to an environment, as a table or as a page of pictures.

python scripts/randomization.py show mujoco/PandaPush-v0
python scripts/randomization.py report mujoco/TableLocalise-v0 --out localise.html
python scripts/randomization.py show HalfCheetah-v4 --spec halfcheetah my_own.toml
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from runkit import gl
from runkit.arguments import check_seed, parse
from runkit.errors import UserError, run_main

if TYPE_CHECKING:
    from sim2real.randomization import DomainRandomization


@dataclass(frozen=True)
class Arguments:
    """The table of all randomized parameters and of those that could be (show), or a page with
    pictures, histograms and motions (report).
    """

    command: Annotated[
        Literal["show", "report"], tyro.conf.Positional, tyro.conf.arg(metavar="show|report")
    ]  # show: a table in the terminal; report: an HTML file
    env_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_ID")]
    spec: tuple[str, ...] = ()  # names or .toml files, taken together; default: the env's own
    out: Path | None = None  # of report; default: randomization-ENV_ID.html
    seed: int = 0  # of the draws that are shown

    def __post_init__(self) -> None:
        check_seed(self.seed)


def randomized(arguments: Arguments) -> "DomainRandomization":
    """The environment in its randomization. Raises UserError."""
    from runkit.randomization_study import load
    from runkit.video import make_drawable

    from envs.robotics.parameters import ParameterError
    from sim2real.randomization import DomainRandomization
    from sim2real.spec import SpecError

    try:
        spec = load(arguments.env_id, arguments.spec)
        env = make_drawable(arguments.env_id)
        try:
            return DomainRandomization(env, spec)
        except BaseException:
            env.close()
            raise
    except (SpecError, ParameterError) as error:
        raise UserError(str(error)) from None


def show(env: "DomainRandomization", console: Console) -> None:
    """Prints the tables."""
    from runkit import randomization_study as study

    title = f"{env.domain_spec.name}: what is randomized"
    table = Table(title=title, title_justify="left")
    for column in ("parameter", "nominal", "range", "distribution", "operation", "when", "group"):
        table.add_column(column, overflow="fold")
    for row in study.rows(env):
        entry, unit = row.entry, row.parameter.unit
        nominal = f"{study.value_text(row.parameter.nominal)} {unit}".strip()
        cells = [study.range_text(row), study.distribution_text(entry.distribution)]
        cells += [entry.operation, study.timing_text(entry), entry.group]
        table.add_row(*map(_plain, (row.name, nominal, *cells)))
    console.print(table)
    rest = Table(title="what could be, and is not", title_justify="left")
    for column in ("parameter", "nominal", "lowest", "highest", "changes"):
        rest.add_column(column, overflow="fold")
    for name, p in study.others(env):
        nominal = f"{study.value_text(p.nominal)} {p.unit}".strip()
        ends = ("", "") if p.kind == "texture" else (f"{p.low:g}", f"{p.high:g}")
        when = "any time" if p.live else "before an episode"
        rest.add_row(*map(_plain, (name, nominal, *ends, when)))
    console.print(rest)
    for path, reason in study.refused(env):
        console.print(_plain(f"{path} cannot be changed here: {reason}"))


def _plain(text: str) -> str:
    """Square brackets are rich's markup."""
    return text.replace("[", r"\[")


def main(args: list[str]) -> int:
    arguments = parse(Arguments, args, "randomization.py", __doc__)
    name = re.sub(r"[^\w.-]+", "-", arguments.env_id)
    out = arguments.out or Path(f"randomization-{name}.html")
    if arguments.command == "show" and arguments.out is not None:
        raise UserError("show prints a table; --out is for report")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {out.parent} for {out.name}")
    gl.set_up()
    env = randomized(arguments)
    try:
        if arguments.command == "show":
            # Piped, a table is as wide as it wants to be.
            show(env, Console(width=None if sys.stdout.isatty() else 200))
            return 0
        from runkit.randomization_page import write_page

        if not env.bound:
            raise UserError(f"nothing of {arguments.env_id} is randomized; give a --spec")
        command = " ".join(["python scripts/randomization.py", *args])
        write_page(env, arguments.env_id, command, arguments.seed, out)
    finally:
        env.close()
    print(out)
    return 0


if __name__ == "__main__":
    run_main(main)
