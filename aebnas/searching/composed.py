"""What the predicted latency of a finalist is made of, kept with its row for the report."""

from __future__ import annotations

from typing import Any

from aebnas.branches.spec import NO_CASCADE
from aebnas.costs.model import CostModel
from aebnas.costs.network import NetworkCosts
from aebnas.exits.costs import Mask
from aebnas.exits.diagnostics import reachable_exits
from aebnas.exits.policy import mask_of_thresholds, thresholds_from_json
from aebnas.searching.rows import Row, spec_of


def with_paths(row: Row, costs: CostModel) -> Row:
    """Return ``row`` with the pieces of its predicted exit costs, for a finalist whose latency is predicted.

    ``paths`` has an entry for every exit that is reached: the number of its branch (of the final exit, their count),
    its latency in ms, and pieces (kind, number of the branch, ms) that add up to it. Kinds are those of
    :class:`aebnas.export.breakdown.Piece`, but a branch has its gate in it, and ``rest`` is what deciding takes.
    """
    if not row["finalist"] or row["latency_ms_mean"] is None:
        return row
    spec = spec_of(row)
    network = costs.network(spec.branches, row.get("cascade", NO_CASCADE))
    thresholds = thresholds_from_json(row["thresholds"])
    mask = mask_of_thresholds(thresholds)
    return {**row, "paths": [_path(network, mask, exit_) for exit_ in reachable_exits(thresholds)]}


def _path(network: NetworkCosts, mask: Mask, exit_: int) -> dict[str, Any]:
    path, overhead = network.path(mask, exit_), network.overhead
    on = [*(number for number, is_on in enumerate(mask) if is_on), len(mask)]
    pieces: list[list[Any]] = [["start", 0, overhead.base_ms]]
    for number, level in zip(on, path.levels, strict=False):
        for kind, part in zip(("segment", "branch"), level, strict=False):
            pieces.append([kind, number, overhead.scale * part.beyond_ms])
    total = overhead.latency_ms(path.blocks_ms, path.gates, path.final)
    pieces.append(["rest", exit_, total - sum(ms for _, _, ms in pieces)])
    return {"exit": exit_, "ms": total, "pieces": pieces}
