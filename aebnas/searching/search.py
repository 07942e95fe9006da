"""The main job: from an experiment to a verified front and exported networks."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aebnas.costs.model import LATENCY, MACS, CostModel
from aebnas.devices.local import LocalDevice
from aebnas.devices.profile import HardwareProfile, load_profile
from aebnas.devices.store import LatencyStore
from aebnas.errors import ExperimentError, RunError
from aebnas.exits.confidence import build_confidence
from aebnas.experiment import Experiment
from aebnas.export.gate import Gate, GatedExit
from aebnas.files import write_json
from aebnas.prepare import Prepared, prepare
from aebnas.progress import Progress
from aebnas.run import Run
from aebnas.run_folder import RunFolder
from aebnas.searching.choice import CostLimits
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.finalists import choose_finalists, finalist_rows, retrain, truncated_rows, verify
from aebnas.searching.loop import Archive, run_trials
from aebnas.searching.rows import BACKBONE_ID, Row, cost_column, front_rows, network_key, static_row
from aebnas.searching.study import open_study
from aebnas.searching.timer import DeviceTimer
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import build_genome
from aebnas.training.accelerator import pick_accelerator

logger = logging.getLogger(__name__)


def search(
    experiment: Experiment | Path | str | None = None,
    *,
    run_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Search, verify the finalists, and return the run; the same call goes on with an interrupted run.

    Args:
        experiment: An :class:`Experiment`, the path of an experiment file, or None for the embedded digits default.
        run_dir: Where everything is kept; ``runs/NAME`` by default.
        progress: Shows what is going on; silent by default.

    Raises:
        InputError: something given is wrong; the message names the key, file or flag and the fix.
        AebnasError: the search could not be finished.
    """
    chosen = _experiment(experiment)
    folder = RunFolder(Path(run_dir) if run_dir is not None else Path("runs") / chosen.name)
    with folder.lock():
        folder.start(chosen)
        _Search(chosen, folder, progress or Progress()).run()
    return Run(folder.path, experiment=chosen)


def _experiment(experiment: Experiment | Path | str | None) -> Experiment:
    if experiment is None:
        return Experiment.embedded()
    return experiment if isinstance(experiment, Experiment) else Experiment.from_yaml(experiment)


@dataclass
class _Search:
    experiment: Experiment
    folder: RunFolder
    progress: Progress

    def run(self) -> None:
        start = time.perf_counter()
        experiment, folder, progress = self.experiment, self.folder, self.progress
        # Everything that can be wrong with the input is looked at before anything takes long.
        profile, space = load_profile(experiment.device), load_space(experiment.space)
        device = pick_accelerator(experiment.accelerator)
        limits = _limits(experiment, profile)
        prepared = prepare(experiment, folder, device=device, progress=progress)
        prepared_s = time.perf_counter() - start
        costs = self._costs(profile, prepared)
        evaluator = Evaluator(experiment, prepared, costs, folder, device=device, progress=progress)
        genome = build_genome(
            space,
            prepared.backbone.attach_points,
            prepared.data.num_classes,
            regime=experiment.regime.name,
            confidence=experiment.confidence,
        )
        settings = experiment.search
        with open_study(folder, settings, experiment.seed) as study:
            archive = run_trials(study, genome, evaluator, settings, limits, progress)
        searched_s = time.perf_counter() - start - prepared_s
        rows = self._verified(archive, evaluator, prepared, profile, device)
        summary: dict[str, Any] = {
            "trials": settings.trials,
            "networks": len(archive.evaluations),
            "failed": sum(1 for evaluation in archive.evaluations.values() if evaluation.failure),
            "hypervolume": archive.hypervolume(),
            "cost": archive.cost,
            "missed_macs": costs.missed_macs,
            "seconds": {
                "data and backbone": prepared_s,
                "trials": searched_s,
                "finalists": time.perf_counter() - start - prepared_s - searched_s,
            },
        }
        write_json(folder.summary_file, summary)
        Run.write_front(folder, rows)

    def _costs(self, profile: HardwareProfile, prepared: Prepared) -> CostModel:
        timer = None
        if profile.connection == "local":
            store = LatencyStore(self.folder.latency)
            timer = DeviceTimer(LocalDevice(profile, store), prepared.data.input_shape)
        gate = Gate(build_confidence(self.experiment.confidence))
        model = CostModel(prepared.backbone, lambda branch: GatedExit(branch, gate), timer)
        if model.missed_macs:
            self.progress.say(
                f"note: thop misses {model.missed_macs:,} MACs of functional operations in this backbone; "
                "they are in no MACs figure below"
            )
        return model

    def _verified(
        self,
        archive: Archive,
        evaluator: Evaluator,
        prepared: Prepared,
        profile: HardwareProfile,
        device: torch.device,
    ) -> list[Row]:
        settings = self.experiment.search
        front = front_rows(archive, archive.limits, settings.cost_objectives)
        if not front:
            raise RunError(_nothing_feasible(archive))
        chosen = [front[i] for i in choose_finalists(front, archive, self.experiment)]
        finals = [final for final in retrain(chosen, evaluator, self.progress) if final.failure is None]
        retrained = {final.spec.key for final in finals}
        chosen = [row for row in chosen if network_key(row) in retrained]
        for final in finals:
            # Retrained in full, a network's search result is superseded.
            archive.replace(final)
        front = front_rows(archive, archive.limits, settings.cost_objectives)
        finalists = finalist_rows(chosen, finals, archive, self.experiment)
        statics = [static_row(BACKBONE_ID, evaluator.backbone), *truncated_rows(archive)]
        verified = verify(
            [*finalists, *statics],
            prepared,
            self.folder,
            device=device,
            threads=profile.threads,
            measured_here=profile.connection == "local",
            progress=self.progress,
        )
        names = {row["id"] for row in verified}
        rows = [*verified, *(row for row in front if row["id"] not in names)]
        return sorted(rows, key=lambda row: (row["static"], not row["finalist"], row[cost_column(archive.cost)]))


def _limits(experiment: Experiment, profile: HardwareProfile) -> CostLimits:
    limits = CostLimits.of(profile.limits)
    if profile.connection == "none":
        target = experiment.search.target
        wanted = [*experiment.search.objectives, *limits.limits, *([target.cost] if target else [])]
        if LATENCY in wanted:
            raise ExperimentError(
                f"device {profile.name!r} cannot be measured from here, so latency_ms can be no objective, target or "
                "limit: set search.objectives to [accuracy, macs], or use --device local"
            )
    return limits


def _nothing_feasible(archive: Archive) -> str:
    """Say why the front is empty, what came nearest, and which limit to relax."""
    # A network without branches is the backbone, which cannot fail.
    tried = [evaluation for evaluation in archive.evaluations.values() if evaluation.spec.branches]
    failures = [evaluation.failure for evaluation in tried if evaluation.failure]
    if failures and len(failures) == len(tried):
        return f"every candidate failed; the first reason: {failures[0]}"
    nearest: tuple[float, str] | None = None
    for evaluation in archive.evaluations.values():
        for point in evaluation.curve.points:
            over = dict(zip(archive.limits.limits, archive.limits.violations(evaluation, point), strict=True))
            if over and (nearest is None or max(over.values()) < nearest[0]):
                worst = max(over, key=lambda name: over[name])
                # As the profile's key says it: MACs in millions.
                key, unit = ("macs_m", 1e6) if worst == MACS else (worst, 1.0)
                limit = archive.limits.limits[worst] / unit
                nearest = (
                    over[worst],
                    f"{key} {limit * (1 + over[worst]):.4g} against a limit of {limit:.4g}, at "
                    f"{100 * point.accuracy:.2f} % validation accuracy: relax limits.{key}",
                )
    if nearest is None or nearest[0] <= 0:
        return "no candidate leaves early at any point: give search.trials more, or another space"
    return f"no candidate meets the limits ({archive.limits}); the nearest has {nearest[1]}, or search longer"
