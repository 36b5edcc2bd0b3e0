"""A summary as Markdown tables."""

from typing import Any

Summary = dict[str, Any]
MARKS = {"equivalent": "=", "better": ">", "not worse": "≥", "worse": "<", "undecided": "?"}


def returns(summary: Summary) -> str:
    """Every task: final returns of both arms, their difference, the verdict, published numbers."""
    ours, peer = summary["arms"]
    head = [
        "task",
        "seeds",
        *(f"{summary['arms'][arm]} [95% CI]" for arm in (ours, peer)),
        "difference [95% CI]",
        "band",
        "verdict",
        "SB3 against SB3",
        "P(ours better)",
        "published",
    ]
    rows = []
    for task in summary["tasks"]:
        comparison, same = task["comparison"], task["same_against_same"]
        rows.append(
            [
                f"{task['algorithm'].upper()} {task['env_id']}, {short(task['total_steps'])}",
                " / ".join(finished(task, arm) for arm in (ours, peer)),
                *(interval(task["arms"][arm]["mean"]) for arm in (ours, peer)),
                interval(comparison and comparison["difference"]),
                f"±{number(task['band'])}",
                f"{MARKS[v]} {v}" if comparison and (v := comparison["verdict"]) else "-",
                same["verdict"] if same else "-",
                interval(comparison and comparison["probability_of_improvement"], 2),
                "; ".join(published(row) for row in task["published"]) or "-",
            ]
        )
    return table(head, rows)


def seeds(summary: Summary) -> str:
    """Every seed's final return, failed and missing ones as such; IQM and area under the curve."""
    rows = []
    for task in summary["tasks"]:
        for arm, label in summary["arms"].items():
            side = task["arms"][arm]
            values = [
                number(run["final"]) if run["status"] == "finished" else run["status"]
                for run in side["runs"]
            ]
            listed = "all missing" if set(values) == {"missing"} else ", ".join(values)
            cells = [listed, interval(side["iqm"]), interval(side["auc"])]
            rows.append([task["key"], label, *cells])
    head = ["task", "arm", "final return of seed 0, 1, …", "IQM [95% CI]", "area under the curve"]
    return table(head, rows)


def speeds(summary: Summary) -> str:
    """Medians over the finished runs, and returns when the faster arm was done."""
    ours, _ = summary["arms"]
    rows = []
    for task in summary["tasks"]:
        mine, equal = task["arms"][ours]["speed"], task["equal_time"]
        for arm, label in summary["arms"].items():
            speed = task["arms"][arm]["speed"]
            if speed is None:
                continue
            ratio = mine["env_steps_per_second"] / speed["env_steps_per_second"] if mine else None
            rows.append(
                [
                    task["key"],
                    label,
                    f"{speed['env_steps_per_second']:,.0f}",
                    f"{speed['updates_per_second']:,.0f}",
                    f"{speed['train_seconds']:,.0f}",
                    f"{speed['peak_memory_bytes'] / 1e6:,.0f}",
                    f"{ratio:.2f}" if ratio and arm != ours else "-",
                    number(equal["means"][arm]) if equal else "-",
                ]
            )
    head = ["task", "arm", "env steps/s", "updates/s", "seconds", "peak MB", "ours faster by"]
    return table([*head, "return when the faster arm is done"], rows)


def aggregates(summary: Summary) -> str:
    """Over the tasks of an algorithm, in normalized scores."""
    rows = [
        [
            entry["algorithm"].upper(),
            ", ".join(entry["tasks"]),
            str(entry["runs"]),
            *(interval(entry["iqm"][arm], 2) for arm in summary["arms"]),
            interval(entry["probability_of_improvement"], 2),
        ]
        for entry in summary["aggregates"]
    ]
    labels = [f"IQM of {label} [95% CI]" for label in summary["arms"].values()]
    return table(["algorithm", "tasks", "seeds", *labels, "P(ours better)"], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def finished(task: dict[str, Any], arm: str) -> str:
    """How many seeds are there, and of how many if some are not."""
    runs = task["arms"][arm]["runs"]
    count = sum(run["status"] == "finished" for run in runs)
    return str(count) if count == len(runs) else f"{count} of {len(runs)}"


def published(row: dict[str, Any]) -> str:
    std = f" ± {number(row['std'])}" if row.get("std") is not None else ""
    return f"{number(row['mean'])}{std} ({row['source']}, {row['env_id']})"


def interval(value: dict[str, float] | None, digits: int | None = None) -> str:
    if value is None:
        return "-"
    texts = [
        number(value[name]) if digits is None else f"{value[name]:.{digits}f}"
        for name in ("value", "low", "high")
    ]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def number(value: float) -> str:
    """Whole numbers from 10 up, one digit more below."""
    return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}"


def short(steps: int) -> str:
    return f"{steps // 1000}k" if steps < 10**6 else f"{steps / 1e6:g}M"
