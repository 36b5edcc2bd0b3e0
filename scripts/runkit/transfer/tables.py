"""Scores as Markdown tables, in centimetres."""

from collections.abc import Callable, Iterable

import numpy as np

from runkit.benchmark.tables import table
from runkit.transfer.arms import CEILINGS
from runkit.transfer.records import DOMAINS, FACTOR_ARMS, TARGETS, Score

from sim2real.cases import CASES, Case
from sim2real.domains import FACTORS, Listed, Reading
from sim2real.transfer import Interval, gap, gap_closed, summarize

# Tobin et al. 2017: table I, mean over the eight objects; table II.
TOBIN = {
    "full": (1.3, 1.8, 2.4),
    "no_noise": (1.4, 1.9, 2.4),
    "no_camera": (2.0, 2.4, 2.9),
    "no_distractors": (1.5, 7.2, 7.4),
}
WORDS = {
    "full": "full",
    "none": "no randomization",
    "no_noise": "no image noise",
    "no_camera": "camera fixed",
    "no_distractors": "no distractors",
    "no_textures": "textures fixed",
    "no_lights": "lights fixed",
    "no_jitter": "pictures not jittered",
    "no_recolouring": "colours not jittered",
    "paper_head": "the paper's head",
    **dict.fromkeys(CEILINGS, "trained in the target"),
}


# What has all there is: the arm at the end of a series.
WHOLE = {"textures": "no_recolouring", "images": "full"}


def main_table(scores: list[Score]) -> str:
    """Every domain: a constant, no randomization, randomization, and the ceiling."""
    rows = []
    for domain in DOMAINS:
        for score in _of(scores, "full"):
            cells = _cells(score.constant[domain])
            rows.append([domain, score.target, "the mean position", *cells])
        arms = ["none", "full", "paper_head", *(a for a, d in CEILINGS.items() if d == domain)]
        for arm in arms:
            for score in _of(scores, arm):
                named = f"{WORDS[arm]}{_seed(scores, score)}"
                rows.append([domain, score.target, named, *_cells(score.scores[domain])])
    return table(["domain", "object", "localiser", *CASES], rows)


def _cells(by_case: dict[str, np.ndarray]) -> list[str]:
    """Mean ± sd [interval of the mean]; median; 95th percentile; share under 1.5 cm."""
    cells = []
    for case in CASES:
        s = summarize(by_case[case])
        mean = f"{_cm(s.mean.value)} ± {_cm(s.sd)} [{_cm(s.mean.low)}, {_cm(s.mean.high)}]"
        cells.append(f"{mean}; {_cm(s.median)}; {_cm(s.p95)}; {100 * s.good:.0f}%")
    return cells


def gaps(scores: list[Score]) -> str:
    """What a target costs each localiser, and how much of it randomization saves."""
    rows = []
    for full in _of(scores, "full"):
        none = _same(scores, "none", full)
        for domain in TARGETS:
            name = next(arm for arm, d in CEILINGS.items() if d == domain)
            ceiling = _same(scores, name, full)
            for case in CASES:
                cells = [
                    _gap(none, "source", domain, case),
                    _gap(full, "source_dr", domain, case),
                    _closed(none, full, ceiling, domain, case),
                ]
                rows.append([f"{full.target}{_seed(scores, full)}", domain, case, *cells])
    head = ["object", "domain", "pictures", "gap without", "gap with randomization", "gap closed"]
    return table(head, rows)


def _gap(score: Score | None, source: str, target: str, case: Case) -> str:
    if score is None:
        return "-"
    return _interval(gap(score.scores[source][case], score.scores[target][case]))


def _closed(none: Score | None, full: Score, ceiling: Score | None, domain: str, case: Case) -> str:
    if none is None or ceiling is None:
        return "-"
    try:
        share = gap_closed(*(s.scores[domain][case] for s in (none, full, ceiling)))
    except ValueError:
        return "no gap"
    return f"{100 * share.value:.0f}% [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def ablations(scores: list[Score], domain: str = "target_sealed_near") -> str:
    """One kind of randomization less, beside the paper's table II (real pictures)."""
    arms = ["full", "no_noise", "no_camera", "no_distractors", "no_textures", "no_lights"]
    arms += ["no_jitter", "paper_head", "none"]
    rows = []
    for arm in arms:
        paper = " / ".join(f"{x:.1f}" for x in TOBIN[arm]) if arm in TOBIN else "-"
        for score in _of(scores, arm):
            means = [_mean(score.scores[domain][case]) for case in CASES]
            rows.append([WORDS[arm], f"{score.target}{_seed(scores, score)}", *means, paper])
    return table(["trained with", "object", *CASES, "paper's"], rows)


def counts(scores: list[Score], kind: str, domain: str = "target_sealed_near") -> str:
    """Errors by the number of textures or of pictures."""
    found = []
    for score in scores:
        name, _, number = score.arm.partition("-")
        if name == kind:
            found.append((float(number), number, score))
        elif score.arm == WHOLE[kind]:
            pictures = score.record["figures"]["pictures"]
            found.append((float("inf"), "∞" if kind == "textures" else f"{pictures}", score))
    rows = [
        [number, f"{score.target}{_seed(scores, score)}", *_means(score, "source_dr", domain)]
        for _, number, score in sorted(found, key=lambda row: row[0])
    ]
    head = [f"{domain}, {case}" for case in CASES]
    return table([kind, "object", "source_dr, distractors", *head], rows)


def _means(score: Score, source: str, domain: str) -> list[str]:
    own = score.scores[source]["distractors"]
    return [_mean(own), *(_mean(score.scores[domain][case]) for case in CASES)]


def factors(scores: list[Score]) -> str:
    """The domain that a localiser knows, with one factor from the target."""
    rows = []
    for arm, source in FACTOR_ARMS.items():
        for score in _of(scores, arm):
            for target, errors in score.factors.items():
                own = score.scores[source]["distractors"]
                whole = score.scores[target]["distractors"]
                cells = [_mean(own), *(_mean(errors[factor]) for factor in FACTORS), _mean(whole)]
                named = f"{WORDS[arm]}{_seed(scores, score)}"
                rows.append([score.target, named, target, *cells])
    return table(["object", "localiser", "target", "none of it", *FACTORS, "all of it"], rows)


def seals(catalogue: Iterable[Listed], readings: list[Reading]) -> str:
    """Each sealed domain's digest, and how often it was opened."""
    rows = []
    for listed in catalogue:
        mine = [reading for reading in readings if reading.domain == listed.name]
        by_purpose = [
            str(sum(reading.purpose == purpose for reading in mine))
            for purpose in ("score", "ceiling")
        ]
        if listed.sealed:
            first = mine[0].when if mine else "-"
            rows.append([listed.name, listed.engine, f"`{listed.sha256}`", *by_purpose, first])
    head = ["domain", "engine", "SHA-256", "read to score", "read for a ceiling", "first"]
    return table(head, rows)


def _of(scores: list[Score], arm: str) -> list[Score]:
    return [score for score in scores if score.arm == arm]


def _same(scores: list[Score], arm: str, like: Score) -> Score | None:
    """The arm's score of the same object and seed."""
    for score in _of(scores, arm):
        if (score.target, score.seed) == (like.target, like.seed):
            return score
    return None


def _seed(scores: list[Score], score: Score) -> str:
    """Which seed, where there are several."""
    several = {s.seed for s in scores if (s.arm, s.target) == (score.arm, score.target)}
    return f", seed {score.seed}" if len(several) > 1 else ""


def _cm(metres: float) -> str:
    return f"{100 * metres:.2f}"


def _mean(distances: np.ndarray) -> str:
    return _interval(summarize(distances).mean)


def _interval(interval: Interval) -> str:
    return f"{_cm(interval.value)} [{_cm(interval.low)}, {_cm(interval.high)}]"


TABLES: dict[str, Callable[[list[Score]], str]] = {
    "errors": main_table,
    "gaps": gaps,
    "ablations": ablations,
    "textures": lambda scores: counts(scores, "textures"),
    "images": lambda scores: counts(scores, "images"),
    "factors": factors,
}
