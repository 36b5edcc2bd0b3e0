"""The three kinds of pictures that Tobin et al. 2017 measure on (table I)."""

from typing import Any, Literal, get_args

from sim2real.domains import Domain, constant

Case = Literal["alone", "distractors", "occluded"]
CASES: tuple[Case, ...] = get_args(Case)

_SOME: dict[str, Any] = {
    "path": "task.distractors",
    "distribution": {"kind": "integers", "low": 1, "high": 10},
}


def in_case(domain: Domain, case: Case) -> Domain:
    """The domain's pictures of one kind: the object alone, among one to ten others, behind one."""
    if case == "alone":
        return domain.fixed(case, {"task.distractors": 0, "task.occluded": 0})
    return domain.changed(case, _SOME, constant("task.occluded", int(case == "occluded")))
