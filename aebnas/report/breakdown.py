"""Where the time of an exported network goes on a device, as tables and as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from aebnas.devices.results import Measurement
from aebnas.export.breakdown import Breakdown, TimedFile, TimedPart, TimedPath
from aebnas.report.describe import MISSING, percent_share, shorten, times
from aebnas.report.device import times_table
from aebnas.report.tables import plain_table

# Of operators and of the picture as well.
DEEPEST, STATIC = "early exits, to the last exit", "static backbone"
START_ROW, IF_ROW = "(start of the graph)", "If, comparison, rest"
_DECIDING = ("If", "GreaterOrEqual")


class Mean(NamedTuple):
    """One mean latency over the exits, in ms, and what kind of figure it is.

    ``key`` is its name in JSON; ``static_ms`` is the backbone's figure of that kind, None where there is none.
    """

    key: str
    what: str
    ms: float | None
    static_ms: float | None = None


def means(found: Breakdown) -> list[Mean]:
    """Return the mean latency as the search and this measurement have it, one entry per kind of figure."""
    low_ms, median_ms = found.backbone.measurement.latency_ms, found.backbone.measurement.median_ms
    path_ms, path_median_ms = (
        found.mean(lambda path: path.measurement.latency_ms),
        found.mean(lambda path: path.measurement.median_ms),
    )
    return [
        Mean("search_predicted_ms", "the search: predicted", _cost(found, "latency_ms_mean")),
        Mean(
            "search_end_to_end_ms", "the search: measured end to end, real images", _cost(found, "latency_ms_measured")
        ),
        Mean("sums_of_parts_ms", "now: sums of parts", found.mean(found.parts_ms), low_ms),
        Mean("forced_paths_ms", "now: forced paths", path_ms, low_ms),
        Mean("forced_paths_median_ms", "now: forced paths, medians", path_median_ms, median_ms),
    ]


def breakdown_tables(found: Breakdown) -> list[Table]:
    """Return the parts, the paths, the mean latencies, the whole files and the operator types."""
    return [_parts(found), _paths(found), _means(found), _files(found), _operators(found)]


def breakdown_json(found: Breakdown) -> dict[str, Any]:
    """Return all figures as flat lists of flat objects."""
    return {
        "start_ms": found.start.latency_ms,
        "parts": [_part_values(part) for part in found.parts],
        "paths": [_path_values(found, path) for path in found.paths],
        "pieces": [
            {"path": path.exit, "kind": piece.kind, "exit": piece.exit, "ms": piece.ms}
            for path in found.paths
            for piece in found.pieces(path)
        ],
        "backbone": asdict(found.backbone.measurement),
        "means": [{"figure": mean.key, "ms": mean.ms} for mean in means(found)],
        "search": dict(found.costs),
        "files": [_file_values(file) for file in (found.deepest, found.backbone)],
        "operators": list(_operator_values(found)),
        "not_steady": found.unsteady,
    }


def _part_values(part: TimedPart) -> dict[str, Any]:
    return {
        "file": part.file,
        "kind": part.kind,
        "exit": part.exit,
        "size_mib": part.size_mib,
        "beyond_start_ms": part.beyond_ms,
        "layers_ms": part.layers_ms,
        "gate_ms": part.gate_ms,
        "profiled_over_wall": part.profile.inflation,
        **asdict(part.measurement),
    }


def _path_values(found: Breakdown, path: TimedPath) -> dict[str, Any]:
    return {
        "exit": path.exit,
        "name": path.name,
        "share": path.share,
        "sum_of_parts_ms": found.parts_ms(path),
        "rest_ms": path.measurement.latency_ms - found.parts_ms(path),
        "rest_half_interval_ms": found.rest_half_ms(path),
        **asdict(path.measurement),
    }


def _file_values(file: TimedFile) -> dict[str, Any]:
    return {
        "file": file.file,
        "size_mib": file.size_mib,
        "resident_mib": file.resident_mib,
        "arena_peak_mib": file.measurement.peak_memory_mib,
        "profiled_over_wall": file.profile.inflation,
    }


def operators(found: Breakdown) -> dict[str, dict[str, float]]:
    """Return the milliseconds of each operator type in the deepest path and in the backbone; they add up to each.

    The start of a graph and the rest of the path are known from wall-clock and taken from there: nearly all of what
    the profile books on an ``If`` is the profiler's own work inside it. The other nodes share what is left.
    """
    rest_ms = max(0.0, found.paths[-1].measurement.latency_ms - found.parts_ms(found.paths[-1]))
    start = {START_ROW: found.start.latency_ms}
    known = {DEEPEST: start | ({IF_ROW: rest_ms} if len(found.paths) > 1 else {}), STATIC: start}
    return {DEEPEST: _operator_ms(found.deepest, known[DEEPEST]), STATIC: _operator_ms(found.backbone, known[STATIC])}


def _operator_ms(of: TimedPart | TimedFile, known: Mapping[str, float]) -> dict[str, float]:
    shares = {op: us for op, us in of.profile.us_by_operator().items() if IF_ROW not in known or op not in _DECIDING}
    left_ms = max(0.0, of.measurement.latency_ms - sum(known.values()))
    total = sum(shares.values()) or 1.0
    return {**known, **{op: us / total * left_ms for op, us in shares.items()}}


def _operator_values(found: Breakdown) -> Iterator[dict[str, Any]]:
    start = {START_ROW: found.start.latency_ms}
    by_file = {part.file: _operator_ms(part, start) for part in found.parts}
    by_file |= dict(zip((found.deepest.file, found.backbone.file), operators(found).values(), strict=True))
    for name, by_operator in by_file.items():
        for op, ms in by_operator.items():
            yield {"file": name, "operator": op, "ms": ms}


def _parts(found: Breakdown) -> Table:
    table = _table(
        "Parts, each measured alone",
        ["part", "ms", "± ms", "of it gate", "arena peak MiB", "size MiB"],
        f"ms: beyond the {found.start.latency_ms:.4f} ms that starting any graph takes. gate: label and confidence.",
    )
    for part in found.parts:
        table.add_row(
            f"{part.kind} {part.exit}",
            f"{part.beyond_ms:.4f}{_mark(part.measurement)}",
            f"{_half_ms(part.measurement):.4f}",
            f"{part.gate_ms:.4f}" if part.gate_ms else MISSING,
            _figure(part.measurement.peak_memory_mib, ".2f"),
            f"{part.size_mib:.2f}",
        )
    return table


def _paths(found: Breakdown) -> Table:
    names = ["path", "leave %", "sum of parts ms", "measured ms", "± ms", "rest ms", "± ms", "arena peak MiB"]
    with_energy = any(path.measurement.energy_mj is not None for path in found.paths)
    table = _table(
        "Whole paths: the single file forced to every exit, and the static backbone",
        [*names, *(["energy mJ"] if with_energy else [])],
        "sum of parts: a prediction, one start and the parts above. rest: what the path takes beyond it, for If and "
        "comparison; below 0 where parts run faster in one graph than alone, and not seen where it is within its ±.",
    )
    for path in found.paths:
        one, sum_ms = path.measurement, found.parts_ms(path)
        share = MISSING if path.share is None else percent_share(path.share)
        rest = (f"{one.latency_ms - sum_ms:.4f}", f"{found.rest_half_ms(path):.4f}")
        row = [
            escape(f"exit {path.exit} {shorten(path.name, 26)}".rstrip()),
            share,
            f"{sum_ms:.4f}",
            *_measured(one),
            *rest,
            _peak(one),
        ]
        table.add_row(*row, *([_energy(one)] if with_energy else []))
    static = found.backbone.measurement
    row = [STATIC, MISSING, MISSING, *_measured(static), MISSING, MISSING, _peak(static)]
    table.add_row(*row, *([_energy(static)] if with_energy else []))
    return table


def _means(found: Breakdown) -> Table:
    table = _table(
        "Mean latency over the exits",
        ["figure", "ms", "x faster than backbone"],
        "the search: on its device, which may be another. now: by the exit shares that the search found on validation; "
        "parts and paths when nothing interferes (20 % quantile), medians typically.",
    )
    for mean in means(found):
        factor = times(mean.static_ms / mean.ms) if mean.static_ms and mean.ms else MISSING
        table.add_row(mean.what, _figure(mean.ms, ".4f"), factor)
    return table


def _operators(found: Breakdown) -> Table:
    caption = (
        "profiled, and scaled to what the file takes without profiling; start, If and comparison from wall-clock. The "
        "profile counts whole microseconds: small nodes look larger than they are."
    )
    return times_table(operators(found), "Operator types, ms", caption)


def _files(found: Breakdown) -> Table:
    table = _table(
        "Files",
        ["file", "size MiB", "process grows MiB", "profiled / wall-clock"],
        "process grows: at the peak, by loading the file and running it to its last exit. profiled / wall-clock: by "
        "how much profiling slows it down.",
    )
    for file in (found.deepest, found.backbone):
        table.add_row(file.file, f"{file.size_mib:.2f}", f"{file.resident_mib:.2f}", f"{file.profile.inflation:.2f}")
    return table


def _table(title: str, columns: Sequence[str], caption: str) -> Table:
    table = plain_table(title, caption)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def _measured(one: Measurement) -> tuple[str, str]:
    return f"{one.latency_ms:.4f}{_mark(one)}", f"{_half_ms(one):.4f}"


def _half_ms(one: Measurement) -> float:
    return (one.high_ms - one.low_ms) / 2


def _mark(one: Measurement) -> str:
    return "" if one.steady else " *"


def _peak(one: Measurement) -> str:
    return _figure(one.peak_memory_mib, ".2f")


def _energy(one: Measurement) -> str:
    return MISSING if one.energy_mj is None else f"{one.energy_mj:.3f} ({escape(one.energy_source or '')})"


def _figure(value: float | None, form: str) -> str:
    return MISSING if value is None else f"{value:{form}}"


def _cost(found: Breakdown, name: str) -> float | None:
    value = found.costs.get(name)
    return float(value) if isinstance(value, (int, float)) else None
