"""What scripts of the report know of the front: every point, its network and its figures, as plain values."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aebnas.branches.spec import BranchSpec
from aebnas.costs.kinds import COSTS, KINDS, LATENCY, MACS, CostKind
from aebnas.files import canonical_json
from aebnas.report.describe import branch_parts, settings_text, shown_exits, threshold_text
from aebnas.report.front import Front, Row
from aebnas.report.leaving import Leaving, Seen
from aebnas.run import BACKBONE_ID

_FIGURES = ("accuracy_val", "accuracy_test", "latency_ms_low", "latency_ms_high", "speedup_measured")


def page_data(
    front: Front, macs: Mapping[str, float] | None, seen: Seen, folder: Path, accuracy: str
) -> dict[str, Any]:
    """Return the front for the page's scripts.

    Args:
        macs: Of the backbone up to every attach point, and in all; None: not known.
        seen: Where finalists let samples leave.
        folder: Of the run, as commands name it.
        accuracy: What the accuracies are called.
    """
    kinds = known_costs(front)
    names = [*_FIGURES, *(kind.column for kind in kinds), *(kind.measured for kind in kinds if kind.measured)]
    columns = [name for name in names if front.knows(name)]
    networks: dict[str, int] = {}
    settings: dict[str, int] = {}
    points = [_point(row, front, columns, networks, settings) for row in front.rows]
    return {
        "pick": front.pick["id"],
        "accuracy": accuracy,
        "axes": [_axis(kind, front) for kind in kinds],
        "columns": columns,
        "networks": [_network(json.loads(exits)) for exits in networks],
        "settings": list(settings),
        "points": points,
        "macs": None if macs is None else {"names": list(macs), "values": list(macs.values())},
        "seen": {id_: _shares(splits["test"]) for id_, splits in seen.items()},
        "export": f"aebnas export {shlex.quote(str(folder))} --pick ",
    }


def known_costs(front: Front) -> list[CostKind]:
    """Return the kinds of cost that the front has figures of: what was searched by, latency, MACs, others."""
    names = dict.fromkeys([*front.costs, LATENCY, MACS, *(kind.name for kind in KINDS)])
    return [COSTS[name] for name in names if front.knows(COSTS[name].column)]


def kind_of(row: Row) -> str:
    """Return what kind of point a row is: backbone, truncated, finalist or front."""
    if row["static"]:
        return "backbone" if row["id"].startswith(BACKBONE_ID) and row.get("cut") is None else "truncated"
    return "finalist" if row["finalist"] else "front"


def _network(exits: list[Any]) -> list[dict[str, Any]]:
    branches = [BranchSpec.from_json(value) for value in exits]
    return [
        {
            "attach": branch.attach,
            "parts": branch_parts(branch),
            "full": [str(part) for part in (*branch.layers, branch.head)],
        }
        for branch in branches
    ]


def _point(row: Row, front: Front, columns: list[str], networks: dict[str, int], settings: dict[str, int]) -> list[Any]:
    """Return id, kind, network, settings, precision, the exits that are on, the final share, and figures.

    An exit is its number, its threshold and its share. A threshold is a number, or a text where there is one per class;
    that of a truncated network's end is None.
    """
    exits = networks.setdefault(canonical_json(row["exits"]), len(networks))
    how = settings.setdefault(settings_text(row), len(settings))
    shown = shown_exits(row)
    names = [exit_["attach"] for exit_ in row["exits"]]
    on = [
        [names.index(exit_.name), _threshold(exit_.threshold), exit_.share]
        for exit_ in shown
        if exit_.branch is not None
    ]
    last = shown[-1].share if shown[-1].branch is None else None
    figures = [row.get(name) for name in columns]
    return [row["id"], kind_of(row), exits, how, row.get("precision"), on, last, figures]


def _threshold(threshold: Any) -> float | str | None:
    return threshold if threshold is None or isinstance(threshold, float | int) else threshold_text(threshold)


def _axis(kind: CostKind, front: Front) -> dict[str, Any]:
    measured = kind.measured if kind.measured is not None and front.knows(kind.measured) else None
    return {
        "name": kind.name,
        "label": kind.label,
        "unit": kind.unit,
        "column": kind.column,
        "measured": measured,
        "scale": kind.scale,
        # MACs are counted and sizes add up; the rest is composed of measured blocks.
        "exact": kind.name == MACS,
    }


def _shares(left: Leaving) -> dict[str, Any]:
    shares = left.shares
    return {"exits": list(shares), "shares": list(shares.values()), "samples": len(left.exits), "of": left.of}
