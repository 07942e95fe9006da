"""What leaving at each exit of a finalist costs, piece by piece: counted, predicted, and measured by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aebnas.branches.spec import NO_CASCADE, BranchSpec
from aebnas.costs.model import CostModel
from aebnas.errors import RunError
from aebnas.exits.diagnostics import reachable_exits
from aebnas.exits.policy import mask_of_thresholds, thresholds_from_json
from aebnas.files import read_json
from aebnas.report.describe import FINAL
from aebnas.report.front import Row
from aebnas.run_folder import RunFolder

BREAKDOWN = "breakdown.json"
KINDS = ("start", "segment", "branch", "gate", "rest")


@dataclass(frozen=True)
class Piece:
    """One piece of a path: its kind (one of ``KINDS``), the number of the exit it leads to, and its cost."""

    kind: str
    exit: int
    value: float


@dataclass(frozen=True)
class ExitPath:
    """All that is executed to leave at one exit; ``total`` is what its pieces add up to, or was measured as a whole."""

    exit: int
    name: str
    total: float
    pieces: tuple[Piece, ...]


def counted_paths(row: Row, costs: CostModel) -> list[ExitPath]:
    """Return what is executed in MACs, which are exact.

    Args:
        costs: A model that counts; it needs no device.
    """
    specs = [BranchSpec.from_json(value) for value in row["exits"]]
    network = costs.network(specs, row.get("cascade", NO_CASCADE))
    thresholds = thresholds_from_json(row["thresholds"])
    mask, found = mask_of_thresholds(thresholds), []
    on = [*(number for number, is_on in enumerate(mask) if is_on), len(mask)]
    for exit_ in reachable_exits(thresholds):
        pieces = [
            Piece(kind, number, float(part.macs))
            for number, level in zip(on, network.path(mask, exit_).levels, strict=False)
            for kind, part in zip(("segment", "branch"), level, strict=False)
        ]
        found.append(ExitPath(exit_, exit_name(row, exit_), sum(piece.value for piece in pieces), tuple(pieces)))
    return found


def predicted_paths(row: Row) -> list[ExitPath]:
    """Return what the predicted latency was composed of, in ms; empty where the run did not keep it."""
    return [
        ExitPath(
            path["exit"],
            exit_name(row, path["exit"]),
            path["ms"],
            tuple(Piece(str(kind), number, float(ms)) for kind, number, ms in path["pieces"]),
        )
        for path in row.get("paths") or ()
    ]


def measured_paths(row: Row, folder: RunFolder) -> list[ExitPath]:
    """Return what ``aebnas device measure EXPORT --json`` wrote into the export of a finalist, in ms; empty if nothing.

    Raises:
        RunError: it is damaged, or of another network.
    """
    file = folder.exports / str(row["id"]) / BREAKDOWN
    if not file.exists():
        return []
    reached, values = reachable_exits(thresholds_from_json(row["thresholds"])), read_json(file)
    try:
        paths: Sequence[Mapping[str, Any]] = values["paths"]
        if len(paths) != len(reached):
            raise ValueError(f"{len(paths)} exits instead of {len(reached)}")
        return [
            ExitPath(
                exit_,
                exit_name(row, exit_),
                float(path["latency_ms"]),
                tuple(
                    Piece(str(piece["kind"]), reached[piece["exit"]], float(piece["ms"]))
                    for piece in values["pieces"]
                    if piece["path"] == path["exit"]
                ),
            )
            for exit_, path in zip(reached, paths, strict=True)
        ]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RunError(f"{file} is damaged or of another network ({error}): delete it, or measure again") from error


def exit_name(row: Row, exit_: int) -> str:
    """Return the attach point of an exit, by the number of its branch."""
    return FINAL if exit_ == len(row["exits"]) else str(row["exits"][exit_]["attach"])
