"""Small charts as inline SVG; colours and fonts are those of the page's style sheet, so that they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aebnas.report.markup import Markup, tag

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 26, 44
_BAR = 22


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers between ``low`` and ``high``."""
    span = max(high - low, 1e-12)
    rough = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def step_chart(
    xs: Sequence[float], ys: Sequence[float], failed: Sequence[int], *, title: str, x_label: str, y_label: str
) -> Markup:
    """Return ``ys`` that rise in steps over ``xs``, those numbered in ``failed`` marked with crosses."""
    low, high = min(ys), max(ys)
    pad = 0.08 * max(high - low, 0.02)
    low, high, end = max(0.0, low - pad), high + pad, max([*xs, 1e-9])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / end,
            _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (y - low) / (high - low),
        )

    parts = []
    for value in ticks(low, high, 4):
        y = place(0, value)[1]
        parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=_at(y), y2=_at(y), class_="grid"))
        parts.append(tag("text", f"{value:.4g}", x=_LEFT - 6, y=_at(y + 4), class_="tick end"))
    for value in ticks(0, end, 6):
        x = place(value, low)[0]
        parts.append(tag("text", f"{value:.4g}", x=_at(x), y=_HEIGHT - _BOTTOM + 18, class_="tick mid"))
    points = [place(x, y) for x, y in zip(xs, ys, strict=True)]
    line = f"M{_at(points[0][0])} {_at(points[0][1])}" + "".join(f"H{_at(x)}V{_at(y)}" for x, y in points[1:])
    parts.append(tag("path", d=line, class_="curve"))
    for number in failed:
        x, y = points[number]
        cross = f"M{_at(x - 5)} {_at(y - 5)}l10 10m0-10l-10 10"
        parts.append(tag("path", d=cross, class_="failed"))
    x, y = points[-1]
    parts.append(tag("text", f"{ys[-1]:.3f}", x=_at(x), y=_at(y - 8), class_="value end"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(tag("text", x_label, x=_at(middle), y=_HEIGHT - 8, class_="tick mid"))
    parts.append(tag("text", y_label, x=4, y=14, class_="tick"))
    label = f"{title}: from {ys[0]:.3f} to {ys[-1]:.3f} over {len(xs)} trials"
    return tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label, class_="chart")


def stacked_bar(
    parts: Sequence[tuple[str, str, float]], end: float, label: str, *, faint: Sequence[bool] = ()
) -> Markup:
    """Return one bar of pieces behind each other.

    Args:
        parts: Class in the style sheet, what it says where a reader points at it, and length of every piece.
        end: The length that fills the whole width.
        label: What the bar says, in words.
        faint: Of every piece whether it is shown pale.
    """
    made, left = [], 0.0
    for place, (kind, text, length) in enumerate(parts):
        width = max(0.0, 1000 * length / (end or 1.0))
        pale = " faint" if place < len(faint) and faint[place] else ""
        if width > 0:
            box = tag("rect", tag("title", text), x=_at(left), y=0, width=_at(width), height=_BAR, class_=kind + pale)
            made.append(box)
        left += width
    return tag(
        "svg",
        *made,
        viewBox=f"0 0 1000 {_BAR}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_="bar",
    )


def _at(value: float) -> str:
    return f"{value:.1f}"
