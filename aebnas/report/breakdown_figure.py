"""A picture of where the time of an exported network goes: a bar per exit path, and the operator types."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea

from aebnas.export.breakdown import Breakdown, Piece, TimedPath
from aebnas.report.breakdown import DEEPEST, STATIC, operators
from aebnas.report.describe import number, percent_share, shorten
from aebnas.report.style import BLACK, BLUE, GREEN, GREY, ORANGE, SMALL, TEXT, TITLE, VERMILION, new_figure, tidy

_COLORS = {"start": GREY, "segment": BLUE, "branch": ORANGE, "gate": GREEN, "rest": VERMILION}
_INK = {"start": GREY, "segment": BLUE, "branch": "#A66F00", "gate": "#00795A", "rest": "#B84C00"}
_WORDS = {"start": "start", "segment": "segment", "branch": "branch", "gate": "gate", "rest": "If and rest"}
# Pieces that an earlier bar has shown already.
_FAINT = 0.38
_WIDTH, _BAR, _ROW, _OPERATOR_ROW = 11.0, 0.42, 0.78, 0.46
# Inches of the axes themselves, about, and of one character.
_AXES, _CHARACTER = 7.4, 0.085
_OPERATORS = 8


def breakdown_figure(found: Breakdown, title: str) -> Figure:
    """Return one stacked bar per exit path and one for the static backbone, and below them the operator types."""
    rows, types = len(found.paths) + 1, _largest(operators(found))
    heights = (1.15 + _ROW * rows, 1.15 + _OPERATOR_ROW * len(types))
    figure = new_figure(_WIDTH, sum(heights) + 0.35)
    figure.suptitle(title, fontsize=TITLE, x=0.01, ha="left", weight="bold")
    paths, operator_types = figure.subplots(2, 1, height_ratios=heights)
    _draw_paths(paths, found)
    _draw_operators(operator_types, found, types)
    return figure


def _draw_paths(axes: Axes, found: Breakdown) -> None:
    tidy(axes, grid="x")
    static_ms = found.backbone.measurement.latency_ms
    ends = {path.exit: max(path.measurement.latency_ms, found.parts_ms(path)) for path in found.paths}
    # Room for the figures at the ends of the bars.
    axes.set_xlim(0, 1.13 * max(static_ms, *ends.values()))
    for row, path in enumerate(found.paths):
        pieces = found.pieces(path)
        _bar(axes, row, pieces, path.exit)
        _end(axes, row, path.measurement.latency_ms, ends[path.exit])
        axes.plot([path.measurement.latency_ms] * 2, [row - _BAR / 2, row + _BAR / 2], color=BLACK, linewidth=1.6)
        _words(axes, row, pieces, path.exit)
    last = len(found.paths)
    start_ms = min(found.start.latency_ms, static_ms)
    _bar(axes, last, [Piece("start", 0, start_ms), Piece("segment", 0, static_ms - start_ms)], 0, inside=False)
    _end(axes, last, static_ms, static_ms)
    axes.set_yticks(range(last + 1), [*map(_label, found.paths), "static\nbackbone"], fontsize=SMALL)
    axes.set_ylim(last + 0.45, -0.4)
    axes.set_xlabel("ms for one sample, batch 1", fontsize=TEXT)
    axes.set_title(
        "Paths. Black line: the whole file, forced to this exit. Colours: its parts, each measured alone; pale: "
        "those of exits passed.",
        fontsize=SMALL,
        loc="left",
        color=GREY,
    )


def _bar(axes: Axes, row: int, pieces: Sequence[Piece], exit_: int, *, inside: bool = True) -> None:
    """Draw ``pieces`` one behind the other; what a path takes less than its parts cannot be drawn."""
    left = 0.0
    for piece in pieces:
        new = piece.exit == exit_
        width = max(0.0, piece.ms)
        alpha = 1.0 if new else _FAINT
        axes.barh(row, width, _BAR, left=left, color=_COLORS[piece.kind], alpha=alpha, edgecolor="white", linewidth=0.6)
        text = f"{_WORDS[piece.kind]} {piece.exit}" if piece.kind in ("segment", "branch", "gate") else ""
        if inside and text and len(text) * _CHARACTER < width / axes.get_xlim()[1] * _AXES:
            ink = "white" if new and piece.kind != "branch" else BLACK
            axes.text(left + width / 2, row, text, ha="center", va="center", fontsize=SMALL, color=ink)
        left += width


def _end(axes: Axes, row: int, ms: float, at: float) -> None:
    offset = {"xytext": (5, 0), "textcoords": "offset points"}
    axes.annotate(f"{number(ms)} ms", (at, row), va="center", fontsize=TEXT, weight="bold", **offset)  # type: ignore[arg-type]


def _words(axes: Axes, row: int, pieces: Sequence[Piece], exit_: int) -> None:
    """Write under a bar what this exit adds, each figure in the colour of its piece, however narrow that is."""
    shown = [piece for piece in pieces if piece.exit == exit_ or piece.kind == "rest"]
    texts: list[Artist] = [
        TextArea(f"{_WORDS[piece.kind]} {piece.ms:.4f}", textprops={"color": _INK[piece.kind], "fontsize": SMALL})
        for piece in shown
    ]
    under = AnnotationBbox(
        HPacker(children=texts, pad=0, sep=10),
        (0, row + _BAR / 2),
        xybox=(4, -3),
        boxcoords="offset points",
        box_alignment=(0, 1),
        pad=0,
        bboxprops={"edgecolor": "none"},  # white, so that the grid does not cross the figures
    )
    under.set_in_layout(False)
    axes.add_artist(under)


def _label(path: TimedPath) -> str:
    share = "" if path.share is None else f", {percent_share(path.share)} % leave"
    return f"exit {path.exit}{share}\n{shorten(path.name, 26)}"


def _largest(by_model: dict[str, dict[str, float]]) -> list[str]:
    """Return the operator types that take the most, and a name for all others if there are any."""
    total: dict[str, float] = {}
    for by_operator in by_model.values():
        for op, ms in by_operator.items():
            total[op] = total.get(op, 0.0) + ms
    ordered = sorted(total, key=lambda op: -total[op])
    rest = len(ordered) - _OPERATORS
    # One is shown by its name rather than as the only other.
    return ordered if rest <= 1 else [*ordered[:_OPERATORS], f"{rest} others"]


def _draw_operators(axes: Axes, found: Breakdown, types: Sequence[str]) -> None:
    tidy(axes, grid="x")
    height = 0.38
    by_model = operators(found)
    for place, (name, color) in enumerate(((DEEPEST, BLUE), (STATIC, GREY))):
        by_operator = by_model[name]
        others = sum(ms for op, ms in by_operator.items() if op not in types)
        values = [by_operator.get(op, others if op.endswith(" others") else 0.0) for op in types]
        at = [row + (place - 0.5) * height for row in range(len(types))]
        bars = axes.barh(at, values, height, color=color, label=name, edgecolor="white", linewidth=0.6)
        total = sum(by_operator.values()) or 1.0
        texts = [f"{ms:.4f} ms, {percent_share(ms / total)} %" if ms else "" for ms in values]
        axes.bar_label(bars, texts, padding=4, fontsize=8, color=BLACK)
    axes.set_yticks(range(len(types)), [shorten(op, 26) for op in types], fontsize=SMALL)
    axes.set_ylim(len(types) - 0.4, -0.6)
    axes.set_xlim(0, 1.25 * max((bar.get_width() for bar in axes.patches), default=1.0))  # type: ignore[attr-defined]
    axes.set_xlabel("ms by operator type", fontsize=TEXT)
    axes.set_title(
        "Operator types. Shares by the profile, scaled to what the file takes without it; start, If and comparison "
        "from wall-clock.",
        fontsize=SMALL,
        loc="left",
        color=GREY,
    )
    axes.legend(loc="lower right", fontsize=SMALL, frameon=False)
