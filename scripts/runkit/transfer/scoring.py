"""Scores finished runs: their errors in every domain, and what the domains look like."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from runkit.errors import UserError
from runkit.rundir import RunDir, write_json
from runkit.signals import StopRequest
from runkit.transfer import pictures, settings
from runkit.transfer.records import DOMAINS, FACTOR_ARMS, TARGETS, tenths
from runkit.transfer.settings import data_folder, test_request
from runkit.transfer.training import Job, draw_pictures

from agents.state import parse_json
from sim2real import dataset, domains, localiser
from sim2real.cases import CASES, Case, in_case
from sim2real.domains import FACTORS, Domain, swapped
from sim2real.localiser import Localiser
from sim2real.transfer import constant_errors, errors

FACTOR_CASE: Case = "distractors"


def score(
    run_dir: Path, out: Path, images: int, jobs: int, command: str, stop: StopRequest
) -> Path:
    """Writes OUT/scores/RUN.json; Stopped if a signal comes."""
    folder = RunDir(run_dir)
    job = Job.read(folder)
    if not folder.summary.is_file():
        raise UserError(
            f"{run_dir} is not finished; go on with transfer.py train --resume {run_dir}"
        )
    summary = parse_json(folder.summary.read_text())
    model = localiser.load(run_dir / "localiser")
    middle = torch.tensor(summary["figures"]["mean_position"])[None]
    name = f"{job.study.target}-{job.arm}-seed{job.seed}"

    def measure(domain: Domain) -> tuple[np.ndarray, np.ndarray]:
        request = test_request(domain, job.study.target, model.config.size)
        draw_pictures(request, images, jobs, stop)
        p = dataset.load(data_folder(request), images)
        return errors(model, p.pictures, p.positions), constant_errors(middle, p.positions)

    if job.arm == "full":
        _draw_grids(job, model, images, jobs, stop, out)
    scores: dict[str, dict[str, list[int]]] = {}
    constant: dict[str, dict[str, list[int]]] = {}
    for domain in _opened(DOMAINS, name):
        scores[domain.name], constant[domain.name] = {}, {}
        for case in CASES:
            ours, theirs = measure(in_case(domain, case))
            scores[domain.name][case] = tenths(ours)
            constant[domain.name][case] = tenths(theirs)
            print(f"{domain.name}, {case}: {100 * ours.mean():.2f} cm", flush=True)
    factors: dict[str, dict[str, list[int]]] = {}
    if job.arm in FACTOR_ARMS:
        source = domains.read(FACTOR_ARMS[job.arm])
        for target in _opened(TARGETS, name):
            factors[target.name] = {
                factor: tenths(measure(in_case(swapped(source, target, factor), FACTOR_CASE))[0])
                for factor in FACTORS
            }
    record = {
        "arm": job.arm,
        "target": job.study.target,
        "seed": job.seed,
        "command": command,
        **{key: summary[key] for key in ("options", "figures", "wall_seconds")},
        **{key: summary[key] for key in ("machine", "versions")},
        "images": images,
        "scores": scores,
        "constant": constant,
        "factors": factors,
    }
    file = out / "scores" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, record)
    return file


def _opened(names: tuple[str, ...], by: str) -> Iterator[Domain]:
    for name in names:
        yield domains.unseal(name, settings.LEDGER, "score", by)


def _draw_grids(
    job: Job, model: Localiser, count: int, jobs: int, stop: StopRequest, out: Path
) -> None:
    """What is trained on, and where the localiser sees the object in the targets."""
    by = f"pictures of {job.study.target}"
    for domain in _opened(DOMAINS, by):
        is_target = domain.name in TARGETS
        shown = in_case(domain, FACTOR_CASE) if is_target else domain
        request = test_request(shown, job.study.target, model.config.size)
        draw_pictures(request, count if is_target else pictures.SIDE**2, jobs, stop)
        title = f"{domain.name}: {job.study.target}"
        title += ", ring: where it is, cross: where it is seen" if is_target else ""
        file = out / f"{job.study.target}-{domain.name}.jpg"
        pictures.grid(request, file, title, model if is_target else None)
