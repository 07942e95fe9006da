"""One search and its folder, from the outside: its front, a choice from it, and its export."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aebnas.costs.kinds import COSTS, KINDS
from aebnas.errors import RunError, RunFailed
from aebnas.exits.curve import Target
from aebnas.exits.diagnostics import FRONT_COLUMNS
from aebnas.experiment import Experiment
from aebnas.experiment_search import TargetSettings
from aebnas.export.manifest import MANIFEST
from aebnas.files import read_json, write_json, write_text
from aebnas.prepare import Prepared, prepare
from aebnas.progress import Progress
from aebnas.rebuild import export_row, rebuild
from aebnas.run_folder import RunFolder
from aebnas.store import WeightStore

if TYPE_CHECKING:
    import pandas as pd

# What is predicted and measured of costs, and what says how far to trust it.
COST_COLUMNS = (
    *(kind.column for kind in KINDS),
    "latency_ms_low",
    "latency_ms_high",
    *(kind.measured for kind in KINDS if kind.measured is not None),
    "backbone_ms_measured",
    "speedup_measured",
    "resident_mib_measured",
    "energy_source",
)
COLUMNS = (
    "id",
    "finalist",
    "static",
    "exits",
    "regime",
    "confidence",
    "cascade",
    "options",
    "precision",
    "thresholds",
    "exit_shares",
    "accuracy_val",
    "accuracy_test",
    *COST_COLUMNS,
    *FRONT_COLUMNS,
)
BACKBONE_ID = "backbone"
# The best that is known of a cost first.
_COST_COLUMNS = ("latency_ms_measured", "latency_ms_mean", "macs_mean")


class Run:
    """A finished search.

    Example:
        >>> run = Run("runs/digits")  # doctest: +SKIP
        >>> run.export(run.pick(max_latency_ms=0.2), "out")  # doctest: +SKIP

    Args:
        path: The run folder.
        experiment: Only needed when model or data were given as Python objects; read from the folder otherwise.

    Raises:
        RunError: there is no run in that folder.
    """

    def __init__(self, path: Path | str, *, experiment: Experiment | None = None) -> None:
        self.folder = RunFolder(Path(path))
        self.experiment = experiment or self.folder.experiment()
        self._prepared: Prepared | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The front as plain values: finalists first, then the rest of the front, then static networks.

        Raises:
            RunError: the search has not finished, or ``front.json`` is damaged.
        """
        if not self.folder.front_file.exists():
            raise RunError(f"{self.folder.path} has no front yet: run the same `aebnas search` again, it goes on")
        rows = read_json(self.folder.front_file)
        if not isinstance(rows, list) or not all(map(_is_row, rows)):
            raise RunError(f"{self.folder.front_file} is damaged: delete it and run the same search again")
        return rows

    def front(self) -> pd.DataFrame:
        """Return the front: a row per operating point, costs in MACs and ms, accuracies in [0, 1]."""
        # Here: the process that leads a search needs none.
        import pandas as pd

        return pd.DataFrame(self.rows).reindex(columns=list(COLUMNS))

    def summary(self) -> dict[str, Any]:
        """Return how the search went: trials, networks, hypervolume, seconds."""
        summary: dict[str, Any] = read_json(self.folder.summary_file)
        return summary

    def pick(
        self,
        id: str | None = None,
        *,
        max_latency_ms: float | None = None,
        max_macs_m: float | None = None,
        min_accuracy: float | None = None,
    ) -> dict[str, Any]:
        """Choose one point.

        By ``id``; or among the finalists (all points if none qualifies, static ones where only those do) within the
        limits: the most accurate on validation, or with ``min_accuracy`` (0 to 1) the cheapest. With no limit at all:
        the best for the experiment's target if it has one, else the cheapest finalist that keeps the backbone's
        validation accuracy.

        Raises:
            RunError: no point qualifies; the message says what comes nearest.
        """
        rows = self.rows
        if id is not None:
            found = next((row for row in rows if row["id"] == id), None)
            if found is None:
                raise RunError(f"there is no point {id!r} on the front: `aebnas front` lists the ids")
            return found
        # Where no network that leaves early is better than the static ones, those are the choice.
        early = [row for row in rows if not row["static"]] or rows
        # And where only static ones are cheap enough.
        limited = [row for row in early if _within(row, max_latency_ms, max_macs_m)] or [
            row for row in rows if _within(row, max_latency_ms, max_macs_m)
        ]
        if not limited:
            nearest = min(rows, key=_cost, default=None)
            hint = f"the cheapest is {nearest['id']} with {_cost_text(nearest)}" if nearest else "the front is empty"
            raise RunError(f"no point is within the limits: {hint}")
        if min_accuracy is None:
            finalists = [row for row in limited if row["finalist"]] or limited
            if max_latency_ms is None and max_macs_m is None:
                return finalists[self._default(finalists, rows)]
            return max(finalists, key=lambda row: (row["accuracy_val"], -_cost(row)))
        enough = [row for row in limited if row["accuracy_val"] >= min_accuracy]
        if not enough:
            best = max(limited, key=lambda row: row["accuracy_val"])
            kind = "" if self.experiment.accuracy == "plain" else "balanced "
            raise RunError(
                f"no point has a {kind}validation accuracy of {min_accuracy:g}: the best is {best['id']} with "
                f"{best['accuracy_val']:.4f}"
            )
        return min([row for row in enough if row["finalist"]] or enough, key=_cost)

    def export(self, point: Mapping[str, Any], out: Path | str, *, progress: Progress | None = None) -> Path:
        """Write the network of ``point`` (a row of :meth:`pick`) as ONNX files to ``out``.

        Raises:
            RunError: weights are missing or ``out`` cannot be written.
        """
        target = Path(out)
        if target.exists() and (not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST).exists())):
            raise RunError(f"{target} exists and is no earlier export: choose another --out")
        ready = self.folder.exports / str(point["id"])
        if (ready / MANIFEST).exists():
            try:
                if target.exists() and target.samefile(ready):
                    return target
                target.parent.mkdir(parents=True, exist_ok=True)
                # Beside it first: on a full disk an earlier export stays whole.
                with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as beside:
                    shutil.copytree(ready, Path(beside) / "export")
                    if target.exists():
                        shutil.rmtree(target)
                    (Path(beside) / "export").rename(target)
            except OSError as error:
                # What copytree raises holds a list of every file that failed.
                several = isinstance(error, shutil.Error)
                reason = error.args[0][0][2] if several else error.strerror or error
                raise RunFailed(f"cannot write {target} ({reason}): free some space or choose another --out") from error
            return target
        prepared = self.prepared(progress)
        network = rebuild(point, prepared, self.folder)
        return export_row(point, network, prepared, target, self.folder.profile(), self.folder)

    def prepared(self, progress: Progress | None = None) -> Prepared:
        """Return the data and the trained backbone of this run, loaded once.

        Raises:
            RunError: the backbone was never trained, or its file is gone or damaged.
        """
        # One that is trained again may be another than the branches were trained on.
        if self._prepared is None and not WeightStore(self.folder.path).has("backbone"):
            raise RunError(f"{self.folder.backbone_file} is missing: run the same `aebnas search` again")
        if self._prepared is None:
            cpu = torch.device("cpu")
            self._prepared = prepare(self.experiment, self.folder, device=cpu, progress=progress or Progress())
        return self._prepared

    @staticmethod
    def write_front(folder: RunFolder, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``front.csv`` and ``front.json``."""
        write_text(folder.front_csv, as_csv(rows))
        write_json(folder.front_file, list(rows))

    def _default(self, finalists: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> int:
        target = self.experiment.search.target
        if target is not None:
            index = best_for_target(finalists, target)
            return most_accurate(finalists) if index is None else index
        if all(row.get("speedup_measured") for row in finalists):
            # Each was measured in turns with the backbone: their ratios compare better than their milliseconds.
            costs = [1.0 / row["speedup_measured"] for row in finalists]
        else:
            costs = [_cost(row) for row in finalists]
        priced = [{**row, "cost": cost} for row, cost in zip(finalists, costs, strict=True)]
        index = cheapest(priced, self._floor(rows), "cost")
        return most_accurate(finalists) if index is None else index

    def _floor(self, rows: Sequence[Mapping[str, Any]]) -> float:
        backbone = next((row for row in rows if row["id"] == BACKBONE_ID), None)
        if backbone is None:
            raise RunError(f"{self.folder.front_file} has no backbone: delete it and run the same search again")
        return float(backbone["accuracy_val"]) - self.experiment.search.accuracy_drop


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row that are for users; what is not known is None."""
    return {name: row.get(name) for name in COLUMNS}


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; lists stand in their cell as JSON, what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = plain(row).items()
        writer.writerow({name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in cells})
    return text.getvalue()


def cost_column(name: str) -> str:
    """Return the column that holds what is predicted of a cost."""
    return COSTS[name].column


def most_accurate(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return the index of the first of the rows that are most accurate on validation."""
    return max(range(len(rows)), key=lambda i: rows[i]["accuracy_val"])


def cheapest(rows: Sequence[Mapping[str, Any]], accuracy: float, column: str) -> int | None:
    """Return the index of the row that is cheapest by ``column`` with at least ``accuracy`` on validation."""
    # Accuracies are fractions of the same number of samples; the slack is far less than one sample.
    enough = [i for i, row in enumerate(rows) if row["accuracy_val"] >= accuracy - 1e-9 and row[column] is not None]
    return min(enough, key=lambda i: rows[i][column], default=None)


def best_for_target(rows: Sequence[Mapping[str, Any]], target: TargetSettings) -> int | None:
    """Return the index of the row that meets ``target`` best by its predicted mean cost, None where none is allowed."""
    if not rows:
        return None
    accuracy = np.array([row["accuracy_val"] for row in rows])
    costs = np.array([[row[cost_column(target.cost)] for row in rows]], dtype=np.float64)
    return Target(target.value, target.rule, 0, target.min_accuracy).choose(accuracy, costs)


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not {"id", "static", "finalist", *_COST_COLUMNS} <= row.keys():
        return False
    numbers = [
        row.get("accuracy_val"),
        row["macs_mean"],
        *(row[name] for name in _COST_COLUMNS if row[name] is not None),
    ]
    return all(isinstance(number, (int, float)) for number in numbers)


def _cost(row: Mapping[str, Any]) -> float:
    for column in _COST_COLUMNS:
        if row[column] is not None:
            return float(row[column])
    raise RunError(f"point {row['id']} has no cost: front.json is damaged, run the same search again")


def _cost_text(row: Mapping[str, Any]) -> str:
    latency = "" if row["latency_ms_mean"] is None else f"{_cost(row):.3f} ms and "
    return f"{latency}{row['macs_mean'] / 1e6:.2f} M MACs"


def _within(row: Mapping[str, Any], max_latency_ms: float | None, max_macs_m: float | None) -> bool:
    if max_macs_m is not None and row["macs_mean"] > max_macs_m * 1e6:
        return False
    if max_latency_ms is None:
        return True
    return row["latency_ms_mean"] is not None and _cost(row) <= max_latency_ms
