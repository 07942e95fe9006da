"""The front of a run as reports show it: finalists, static networks, the rest, and the default pick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aebnas.costs.kinds import COSTS
from aebnas.errors import RunError
from aebnas.exits.accuracy import AccuracyKind
from aebnas.run import BACKBONE_ID, Run
from aebnas.searching.choice import CostLimits, wanted_costs

Row = dict[str, Any]
_LISTS = ("exits", "thresholds", "exit_shares")
_NUMBERS = ("accuracy_val", "macs_mean")
_NUMBERS_OR_NONE = ("accuracy_test", "latency_ms_mean", "latency_ms_measured")


@dataclass(frozen=True)
class Front:
    """Rows of a front by what they are, each part in the order of ``front.json``.

    Args:
        finalists: Retrained in full, scored on test, and measured where the target is this machine.
        rest: Other non-dominated points, known on validation only.
        statics: The backbone, and truncated networks.
        pick: What ``run.pick()`` chooses.
        backbone: Among ``statics``.
        costs: Names of the costs that are an objective, the target or a limit.
        own_settings: Whether networks chose how they are trained and decide.
        accuracy: Which one is told.
        limits: Of the profile and the experiment.
    """

    finalists: list[Row]
    rest: list[Row]
    statics: list[Row]
    pick: Row
    backbone: Row
    costs: tuple[str, ...] = ()
    own_settings: bool = False
    accuracy: AccuracyKind = "plain"
    limits: CostLimits = field(default_factory=lambda: CostLimits({}))

    @classmethod
    def of(cls, run: Run) -> Front:
        """Read the front of ``run``.

        Raises:
            RunError: there is no front yet, or ``front.json`` is damaged.
        """
        rows = run.rows
        backbone = next((row for row in rows if row["id"] == BACKBONE_ID), None)
        if backbone is None or not all(_is_whole(row) for row in rows):
            raise RunError(f"{run.folder.front_file} is damaged: delete it and run the same search again")
        chosen, search = run.pick()["id"], run.experiment.search
        limits = CostLimits.of(run.folder.profile().limits, search.limits)
        return cls(
            finalists=[row for row in rows if row["finalist"] and not row["static"]],
            rest=[row for row in rows if not row["finalist"] and not row["static"]],
            statics=[row for row in rows if row["static"]],
            pick=next(row for row in rows if row["id"] == chosen),
            backbone=backbone,
            costs=tuple(wanted_costs(run.experiment, limits)),
            own_settings=bool(search.genes),
            accuracy=run.experiment.accuracy,
            limits=limits,
        )

    @property
    def early(self) -> list[Row]:
        """Every point that leaves early."""
        return [*self.finalists, *self.rest]

    @property
    def truncated(self) -> list[Row]:
        """Static networks that end in a branch."""
        return [row for row in self.statics if row["id"] != BACKBONE_ID]

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [*self.finalists, *self.rest, *self.statics]

    def knows(self, column: str) -> bool:
        """Tell whether any row has a value in ``column``."""
        return any(row.get(column) is not None for row in self.rows)

    def allows(self, row: Row) -> bool:
        """Tell whether all that is known of ``row``, predicted and measured, keeps every limit; static rows may not."""
        for name, limit in self.limits.limits.items():
            values = (row.get(column) for column in (COSTS[name].column, COSTS[name].measured) if column is not None)
            known = [value for value in values if value is not None]
            if not known or max(known) > limit:
                return False
        return True


def thin(rows: Sequence[Row], limit: int) -> list[Row]:
    """Return at most ``limit`` of ``rows``, evenly spread, both ends among them."""
    if len(rows) <= limit:
        return list(rows)
    chosen = np.unique(np.linspace(0, len(rows) - 1, max(limit, 0)).round().astype(int))
    return [rows[i] for i in chosen]


def _is_whole(row: Row) -> bool:
    """Tell whether a row of ``front.json`` has what every report reads."""
    return (
        isinstance(row.get("static"), bool)
        and isinstance(row.get("finalist"), bool)
        and all(isinstance(row.get(name), list) for name in _LISTS)
        and all(isinstance(row.get(name), (int, float)) for name in _NUMBERS)
        and all(name in row and isinstance(row[name], (int, float, type(None))) for name in _NUMBERS_OR_NONE)
        and all(isinstance(exit_, dict) and "attach" in exit_ for exit_ in row["exits"])
    )
