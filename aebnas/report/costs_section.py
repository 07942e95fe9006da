"""Where the time of finalists goes, and where images leave them, as bars with their figures."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from aebnas.costs.model import CostModel
from aebnas.errors import BranchError
from aebnas.report.chart import stacked_bar
from aebnas.report.describe import MISSING, number, percent_share, shown_exits
from aebnas.report.front import Front, Row
from aebnas.report.leaving import Seen
from aebnas.report.markup import Markup, table, tag
from aebnas.report.paths import BREAKDOWN, KINDS, ExitPath, counted_paths, exit_name, measured_paths, predicted_paths
from aebnas.run_folder import RunFolder

_WORDS = {
    "start": "start of a run",
    "segment": "backbone",
    "branch": "branch",
    "gate": "gate",
    "rest": "deciding, rest",
}
# Steps of one colour for the exits from the first on; the final one has its own.
_STEPS = 6


def times_section(front: Front, folder: RunFolder, costs: CostModel | None) -> list[Markup]:
    """Return a block per finalist: MACs, predicted and measured times of leaving at each exit, never in one bar.

    Args:
        costs: Counts MACs; None where the backbone is not at hand.

    Raises:
        RunError: a measurement in the run folder is damaged; the message names it.
    """
    if not front.finalists:
        return [tag("p", "This run has no finalists.")]
    parts: list[Markup] = [_legend()]
    for row in front.finalists:
        found = _of_finalist(row, folder, costs)
        pick = " (default pick)" if row is front.pick else ""
        summary = tag("summary", tag("h3", f"What each exit costs: {row['id']}{pick}"))
        parts.append(tag("details", summary, *found, class_="block", open=row is front.pick))
    return parts


def _of_finalist(row: Row, folder: RunFolder, costs: CostModel | None) -> list[Markup]:
    parts: list[Markup] = []
    if costs is not None:
        try:
            counted = counted_paths(row, costs)
            parts.append(_paths(row, "Multiply-accumulates, counted", counted, "M MACs", 1e6))
        except BranchError as error:
            parts.append(tag("p", f"Its multiply-accumulates cannot be told apart: {error}", class_="muted"))
    predicted = predicted_paths(row)
    if predicted:
        parts.append(
            _paths(row, "Time, predicted: blocks that were measured one by one, and overhead", predicted, "ms")
        )
    elif row["latency_ms_mean"] is not None:
        said = "The pieces of the predicted time were not kept by the version that searched; search again to see them."
        parts.append(tag("p", said, class_="muted"))
    measured = measured_paths(row, folder)
    if measured:
        title = "Time, measured part by part (aebnas device measure); a bar ends where its parts do"
        if measured[-1].exit < len(row["exits"]):
            # An export ends where all leave: what leads there and the branch are one file.
            title += "; the branch of the last exit is within its piece of the backbone"
        parts.append(_paths(row, title, measured, "ms"))
    elif row["latency_ms_mean"] is not None:
        export = folder.exports / str(row["id"])
        command = f"aebnas device measure {shlex.quote(str(export))} --json > {shlex.quote(str(export / BREAKDOWN))}"
        parts += [
            tag("p", "No measurement of its parts is in the run folder. To see one here, run, and report again:"),
            tag("pre", tag("code", command)),
        ]
    return parts


def _paths(row: Row, title: str, paths: Sequence[ExitPath], unit: str, scale: float = 1.0) -> Markup:
    end = max(max(path.total, sum(max(0.0, piece.value) for piece in path.pieces)) for path in paths)
    shares = {exit_.name: exit_.share for exit_ in shown_exits(row)}

    def line(path: ExitPath) -> list[object]:
        pieces = [
            (piece.kind, f"{_piece(row, piece.kind, piece.exit)}: {number(piece.value / scale)} {unit}", piece.value)
            for piece in path.pieces
        ]
        faint = [piece.exit != path.exit and piece.kind != "start" for piece in path.pieces]
        label = f"Leaving at {path.name}: " + ", ".join(text for _, text, _ in pieces)
        share = shares.get(path.name)
        return [
            path.name,
            MISSING if share is None else f"{percent_share(share)} %",
            stacked_bar(pieces, end, label, faint=faint),
            f"{number(path.total / scale)}",
            "; ".join(text for (_, text, value), old in zip(pieces, faint, strict=True) if value and not old),
        ]

    headings = ["exit", "leave here, validation", "pieces (pale: of exits passed)", unit, "what this exit adds"]
    return table(title, headings, map(line, paths), class_="bars")


def _piece(row: Row, kind: str, exit_: int) -> str:
    if kind in ("start", "rest"):
        return _WORDS[kind]
    return f"{_WORDS.get(kind, kind)} {'to' if kind == 'segment' else 'at'} {exit_name(row, exit_)}"


def _legend() -> Markup:
    keys = (tag("li", tag("span", class_=f"key {kind}"), _WORDS[kind]) for kind in KINDS)
    return tag("ul", *keys, class_="legend")


def shares_section(front: Front, seen: Seen, attach: Sequence[str]) -> list[Markup]:
    """Return where images leave the finalists: on validation as it was tuned, and what was seen of both splits.

    Args:
        attach: Names of the attach points in their order; may be empty.
    """
    if not front.finalists:
        return [tag("p", "This run has no finalists.")]
    used = {exit_.name for row in front.finalists for exit_ in shown_exits(row) if exit_.branch}
    ordered = [name for name in attach if name in used] or sorted(used)
    steps = {name: f"step{_step(place, len(ordered))}" for place, name in enumerate(ordered)}
    keys = [tag("li", tag("span", class_=f"key {steps[name]}"), name) for name in ordered]
    legend = tag("ul", *keys, tag("li", tag("span", class_="key final"), "final exit"), class_="legend")

    def lines() -> Iterable[list[object]]:
        for row in front.finalists:
            name = f"{row['id']} (default pick)" if row is front.pick else row["id"]
            shown = {exit_.name: exit_.share for exit_ in shown_exits(row)}
            yield [name, "validation, as tuned", _bar(shown, steps), _text(shown), "all"]
            if row["id"] in seen:
                left = seen[row["id"]]["test"]
                found = {exit_name(row, exit_): share for exit_, share in left.shares.items()}
                whole = len(left.exits) == left.of
                count = f"all {left.of:,}" if whole else f"{len(left.exits):,} of {left.of:,}, at random"
                yield [name, "test", _bar(found, steps), _text(found), count]

    headings = ["finalist", "split", "from the first exit to the final one", "%", "images"]
    return [legend, table("Where images leave", headings, lines(), class_="bars")]


def _bar(shares: dict[str, float], steps: dict[str, str]) -> Markup:
    parts = [(steps.get(name, "final"), f"{name}: {100 * share:.1f} %", share) for name, share in shares.items()]
    return stacked_bar(parts, 1.0, "; ".join(text for _, text, _ in parts))


def _text(shares: dict[str, float]) -> str:
    return " / ".join(f"{100 * share:.1f}" for share in shares.values())


def _step(place: int, count: int) -> int:
    return round(place * (_STEPS - 1) / max(count - 1, 1))
