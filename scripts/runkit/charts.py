"""Small charts as SVG in a page's own colours; they need no script, and follow its theme."""

from collections.abc import Mapping, Sequence

import numpy as np

from runkit.page import escaped

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 8, 24  # margins


def short(value: float) -> str:
    """As few characters as tell it from its neighbours on an axis."""
    text = f"{value:.3g}" if abs(value) < 1e4 else f"{value:.1e}"
    return text.replace("-", "−")


def bars(
    shares: Sequence[float], expected: Sequence[float], labels: Mapping[float, str], title: str
) -> str:
    """Shares as bars of equal width, and what they should be as a line in steps.

    labels: place (0 to the number of bars) -> text below it.
    """
    most = max([*shares, *expected, 1e-9]) * 1.08
    left, width = 8, WIDTH - 16
    x = [left + width * i / len(shares) for i in range(len(shares) + 1)]
    y = [_down(share / most) for share in shares]
    line = [_down(share / most) for share in expected]
    floor = HEIGHT - BOTTOM
    drawn = "".join(
        f'<rect class="bar-of" x="{x[i] + 0.6:.1f}" y="{top:.1f}" '
        f'width="{x[i + 1] - x[i] - 1.2:.1f}" height="{floor - top:.1f}"/>'
        for i, top in enumerate(y)
    )
    steps = "".join(
        f"{'M' if i == 0 else 'L'}{x[i]:.1f} {top:.1f}H{x[i + 1]:.1f}" for i, top in enumerate(line)
    )
    below = "".join(
        _text(left + width * place / len(shares), HEIGHT - 7, text, _anchor(place / len(shares)))
        for place, text in labels.items()
    )
    base = f'<path class="axis" d="M{left} {floor}H{left + width}"/>'
    return _svg(f'{drawn}{base}<path class="expected" d="{steps}"/>{below}', title)


def lines(series: Mapping[str, Sequence[float]], seconds: float, title: str) -> str:
    """Lines over time, from 0 to ``seconds``; every value is at least 0. The keys are classes."""
    most = max([value for values in series.values() for value in values] + [1e-12]) * 1.08
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{floor}H{right}"/>']
    for share in (0.5, 1.0):
        y = _down(share / 1.08)
        parts.append(f'<path class="grid-line" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(_text(LEFT - 6, y + 4, short(share * most / 1.08), "end"))
    parts.append(_text(LEFT - 6, floor + 4, "0", "end"))
    for name, values in series.items():
        x = np.linspace(LEFT, right, len(values))
        points = " ".join(f"{a:.1f},{_down(b / most):.1f}" for a, b in zip(x, values, strict=True))
        parts.append(f'<polyline class="line {escaped(name)}" points="{points}"/>')
    parts.append(_text(LEFT, HEIGHT - 7, "0 s", "start"))
    parts.append(_text(right, HEIGHT - 7, f"{short(seconds)} s", "end"))
    return _svg("".join(parts), title)


def _down(share: float) -> float:
    """The vertical place of a share of the height."""
    return TOP + (HEIGHT - BOTTOM - TOP) * (1 - share)


def _anchor(share: float) -> str:
    return "start" if share < 0.05 else "end" if share > 0.95 else "middle"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(text)}</text>'


def _svg(inside: str, title: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escaped(title)}">{inside}</svg>'
    )
