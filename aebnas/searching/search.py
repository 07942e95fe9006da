"""The main job: from an experiment to a verified front and exported networks."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch

from aebnas.branches.spec import FP32
from aebnas.data.placing import check_data_dir
from aebnas.data.splits import Split
from aebnas.devices.device import Device
from aebnas.devices.profile import HardwareProfile, load_profile
from aebnas.devices.store import LatencyStore, user_folder
from aebnas.errors import RunError, RunFailed
from aebnas.experiment import Experiment
from aebnas.files import write_json
from aebnas.locks import Busy, Quiet
from aebnas.prepare import say_left_out
from aebnas.progress import Progress
from aebnas.run import Run, cost_column
from aebnas.run_folder import RunFolder
from aebnas.searching.choice import CostLimits
from aebnas.searching.composed import with_paths
from aebnas.searching.costing import (
    Kind,
    by_precision,
    check_cascade,
    check_sensor,
    latency_summary,
    limits_of,
)
from aebnas.searching.diagnosed import with_diagnostics
from aebnas.searching.evaluator import MOST_DAMAGED
from aebnas.searching.feasible import hopeless
from aebnas.searching.finalists import choose_finalists, eligible_rows, finalist_rows, retrain
from aebnas.searching.joining import join
from aebnas.searching.loop import Archive
from aebnas.searching.meeting import Meeting, meet
from aebnas.searching.rows import Row, front_rows, network_key, with_interval
from aebnas.searching.said import say_costs, say_crowded, say_done, say_guessing
from aebnas.searching.sampler import make_sampler
from aebnas.searching.settle import settle, settle_front
from aebnas.searching.starts import starting_genes
from aebnas.searching.statics import backbone_rows, retrain_truncated, truncated_rows
from aebnas.searching.study import Address, finished, queue, remember_password
from aebnas.searching.verify import verify
from aebnas.searching.watch import Leader, by_worker
from aebnas.searching.workplace import Workplace, quiet_here
from aebnas.spaces.definition import load_space
from aebnas.store import DamagedFile
from aebnas.training.accelerator import pick_accelerator

logger = logging.getLogger(__name__)


def search(
    experiment: Experiment | Path | str | None = None,
    *,
    run_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Search, verify the finalists, and return the run; the same call goes on with an interrupted run.

    Where another process searches in the same folder already, this one helps it, and returns its run.

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
    chosen, address = _addressed(chosen, folder)
    # Everything that can be wrong with the input is looked at before anything is written or takes long.
    profile, space = load_profile(chosen.device), load_space(chosen.space)
    limits, accelerator = limits_of(chosen, profile), pick_accelerator(chosen.accelerator)
    check_cascade(chosen, profile)
    check_data_dir(chosen.data)
    shown, quiet = progress or Progress(), quiet_here()
    while True:
        try:
            with folder.lock(), _reached(profile, folder, shown, quiet) as target:
                check_sensor(chosen, limits, target)
                folder.start(chosen, space, profile)
                with meet(folder, address, shown.say, first=True) as met:
                    _take_the_lead(met, chosen, shown)
                    _Search(chosen, met, limits, accelerator, target, shown, quiet).run()
            break
        except Busy as busy:
            if join(folder, chosen, address, busy, shown):
                break
    return Run(folder.path, experiment=chosen)


def _addressed(experiment: Experiment, folder: RunFolder) -> tuple[Experiment, Address]:
    """Return the experiment as it may be kept on a disk, without a password, and the address with it."""
    settings = experiment.search
    if settings.storage is None:
        return experiment, Address.of(folder, experiment)
    kept = experiment.override({"search.storage": remember_password(settings.storage)})
    return kept, Address.of(folder, kept, settings.storage)


def _take_the_lead(met: Meeting, experiment: Experiment, progress: Progress) -> None:
    """Lead the search that meets there.

    Raises:
        RunError: it is another search, or another process leads it.
    """
    folder, study = met.folder, met.address.study
    before = met.invitation()
    key = None if before is None else before.difference(experiment, folder.space(), folder.profile())
    if key is not None:
        raise RunError(f"the study {study} is of a search whose {key} differs: choose another name with --study")
    if not met.take_over(progress.say):
        raise RunError(
            f"the search {study} is led by {met.leader()} already: help it with `aebnas worker`, or choose another "
            "name with --study"
        )
    if met.alone_here():
        folder.sweep()
    met.fetch_backbone()


@contextlib.contextmanager
def _reached(profile: HardwareProfile, folder: RunFolder, progress: Progress, quiet: Quiet) -> Iterator[Device | None]:
    """Give the device that is measured on, None for one that cannot be; say now if it lacks what measuring needs."""
    if not profile.measurable:
        yield None
        return
    stores = (LatencyStore(folder.latency), LatencyStore(user_folder()))
    with Device(profile, stores, progress.say, hush=quiet.measuring) as device:
        device.require()
        yield device


def _experiment(experiment: Experiment | Path | str | None) -> Experiment:
    if experiment is None:
        return Experiment.embedded()
    return experiment if isinstance(experiment, Experiment) else Experiment.from_yaml(experiment)


@dataclass
class _Search:
    experiment: Experiment
    met: Meeting
    limits: CostLimits
    accelerator: torch.device
    target: Device | None
    progress: Progress
    quiet: Quiet

    def run(self) -> None:
        start = time.perf_counter()
        experiment, folder, met = self.experiment, self.met.folder, self.met
        say_crowded(self.accelerator, self.progress)
        place = Workplace.open(
            experiment,
            folder,
            limits=self.limits,
            accelerator=self.accelerator,
            target=self.target,
            progress=self.progress,
            quiet=self.quiet,
        )
        models = place.costs
        say_left_out(experiment, place.prepared.data, self.progress)
        say_guessing(place, self.progress)
        say_costs(place, self.progress)
        prepared_s = time.perf_counter() - start
        settings = experiment.search
        study = self._study(place)
        say_done(finished(study), settings.trials, self.progress)
        leader = Leader(place, met, study, self.progress)
        archive, trials = leader.run(), finished(study)
        searched_s = time.perf_counter() - start - prepared_s
        with self.quiet.working():
            archive, rows = self._judged(archive, study, place)
        data = place.prepared.data
        scored = {"validation": data.validation, "test": data.test}
        summary: dict[str, Any] = {
            "trials": trials,
            "stopped_by_timeout": trials < settings.trials,
            "data": {
                "fingerprint": data.fingerprint,
                "train": len(data.train),
                "validation": len(data.validation),
                "test": len(data.test),
            },
            "classes": {name: _class_sizes(split, data.num_classes) for name, split in scored.items()},
            "networks": len(archive.evaluations),
            "failed": sum(1 for evaluation in archive.evaluations.values() if evaluation.failure),
            "hypervolume": archive.hypervolume(),
            "cost": archive.cost,
            "missed_macs": by_precision(models, experiment.confidence)[FP32].missed_macs,
            "latency": latency_summary(models, self.target),
            "workers": by_worker(study),
            "seconds": {
                "data and backbone": prepared_s,
                "trials": searched_s,
                "finalists": time.perf_counter() - start - prepared_s - searched_s,
            },
        }
        write_json(folder.summary_file, summary)
        Run.write_front(folder, rows)
        leader.close()

    def _study(self, place: Workplace) -> optuna.Study:
        settings, seed = self.experiment.search, self.experiment.seed
        study = self.met.study(settings)
        # It moves on with the number of trials, so that a search that goes on does not repeat itself.
        begun = len(study.get_trials(deepcopy=False))
        study.sampler = make_sampler(settings, seed + begun, place.genome)
        queue(study, starting_genes(place.genome, self.experiment, place.folder.space()))
        return study

    def _judged(
        self, archive: Archive, study: optuna.Study, place: Workplace, tries: int = MOST_DAMAGED
    ) -> tuple[Archive, list[Row]]:
        """Return the rows of the front and what they come from; records that turn out to be damaged are made again."""
        try:
            if place.ledger is not None:
                settle(archive, place.evaluator, place.ledger, place.progress)
            return archive, self._verified(archive, place)
        except DamagedFile as damage:
            if not tries:
                raise
            logger.warning("%s; it is made again", damage)
        found = Archive.of(place)
        found.sync(study.get_trials(deepcopy=False), place.evaluator, make=True)
        return self._judged(found.in_order(), study, place, tries - 1)

    def _verified(self, archive: Archive, place: Workplace) -> list[Row]:
        settings, evaluator, progress = self.experiment.search, place.evaluator, place.progress
        eligible = eligible_rows(archive, self.experiment)
        reason = None if eligible else hopeless(archive)
        if reason is not None:
            raise RunFailed(reason)
        chosen = [eligible[i] for i in choose_finalists(eligible, archive, self.experiment)]
        finals = [final for final in retrain(chosen, evaluator, progress) if final.failure is None]
        if chosen and not finals:
            raise RunFailed("no finalist is left: all failed when they were retrained; search longer")
        retrained = {final.spec.key for final in finals}
        chosen = [row for row in chosen if network_key(row) in retrained]
        for final in finals:
            # Retrained in full, a network's search result is superseded.
            archive.replace(final)
        retrain_truncated(archive, evaluator, progress)
        # Where training in full has made a network worse, what it was better than is on the front.
        settle_front(archive, evaluator, progress)
        front = front_rows(archive, archive.limits, settings.cost_objectives)
        finalists = finalist_rows(chosen, finals, archive, self.experiment)
        statics = [*backbone_rows(archive), *truncated_rows(archive)]
        verified = verify(
            [*finalists, *statics],
            place.prepared,
            place.folder,
            accelerator=self.accelerator,
            limits=self.limits,
            target=self.target,
            progress=progress,
        )
        if not any(row["finalist"] for row in verified):
            # A result too, and an honest one: what leaves early is no better than what is simply cut off.
            self.progress.say(
                "no network that leaves early is better here than the static ones, which are all that the front holds: "
                "give search.trials more, or another space"
            )
        # Of all finalists, those that were left out among them.
        names = {row["id"] for row in [*finalists, *statics]}
        rows = [*verified, *(row for row in front if row["id"] not in names)]
        rows = with_diagnostics(rows, evaluator)
        priced = [(row, evaluator.costs[_kind(row, self.experiment)]) for row in rows]
        rows = [with_paths(with_interval(row, costs), costs) for row, costs in priced]
        return sorted(rows, key=lambda row: (row["static"], not row["finalist"], row[cost_column(archive.cost)]))


def _class_sizes(split: Split, classes: int) -> list[int]:
    """Return the samples of every class, which the uncertainty of a balanced accuracy hangs on."""
    sizes: list[int] = torch.bincount(split.labels, minlength=classes).tolist()
    return sizes


def _kind(row: Row, experiment: Experiment) -> Kind:
    return Kind(row["precision"], row["confidence"] or experiment.confidence)
