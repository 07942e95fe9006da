"""Trained networks of a run: what was seen is not trained again."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aebnas.branches.spec import NetworkSpec
from aebnas.experiment import Experiment
from aebnas.prepare import Prepared
from aebnas.progress import Progress, Stage
from aebnas.run_folder import RunFolder
from aebnas.searching.claimed import make_claimed
from aebnas.searching.curves import subject_of_branch, subject_of_network
from aebnas.searching.evaluation import Budget
from aebnas.searching.plan import Plan
from aebnas.searching.records import (
    Trained,
    curves_of,
    earlier_branches,
    put_branch,
    put_network,
    trained_branches,
    trained_network,
)
from aebnas.searching.rungs import Watch
from aebnas.searching.stopped import Kept, Record, Shelf
from aebnas.store import Claim
from aebnas.training.batch_norm import may_lag
from aebnas.training.candidates import BranchJob, TrainedBranch, train_branch, train_branches, train_network
from aebnas.training.features import FeatureStore
from aebnas.training.fit import logits_of
from aebnas.training.log import Epoch, open_log
from aebnas.training.regimes import REGIMES

Teach = Callable[..., list[TrainedBranch]]


class Trainer:
    """Trains networks under the settings that they choose for themselves, and keeps what it trained.

    On a frozen backbone a branch is trained once, whatever networks it is part of; where branches are trained one after
    the other, once for all that stand before it. Where the backbone moves, a network is trained as a whole. Training
    that another process is at is waited for.

    Args:
        regimes: Those that networks may have; if one freezes the backbone, its features are kept.
        verify: Compare the checksums of features that are there.
        teach: Trains branches that need not hear each other: :func:`~aebnas.training.branches.train_branches`, or what
            takes its arguments.
    """

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        folder: RunFolder,
        regimes: Sequence[str],
        *,
        device: torch.device,
        progress: Progress,
        verify: bool = False,
        teach: Teach | None = None,
    ) -> None:
        self._experiment, self._prepared, self._folder, self._device = experiment, prepared, folder, device
        self._teach = teach or train_branches
        self._log = open_log(experiment.training_log, folder.path)
        self._own: dict[tuple[Any, ...], Experiment] = {}
        # Asked for every plan, while there are few lengths of an epoch.
        self._lags = functools.cache(functools.partial(may_lag, prepared.backbone))
        # A regime that moves the backbone computes its own features: only the final logits, the teacher, are kept.
        frozen = any(REGIMES[name].kind != "whole" for name in regimes)
        self.budget_gib = experiment.cache_gib if frozen else 0.0
        self._features = FeatureStore(
            prepared.backbone,
            prepared.data,
            folder=folder.features,
            key=prepared.fingerprint,
            budget_gib=self.budget_gib,
            device=device,
            progress=progress,
            dtype=experiment.cache_dtype,
            copies=experiment.cache_copies,
            verify=verify,
        )

    @property
    def backbone_logits(self) -> Tensor:
        """What the trained backbone says of the validation split: (N, C)."""
        return self._features.logits("validation")

    def settings(self, spec: NetworkSpec) -> Experiment:
        """Return the experiment with the settings that ``spec`` chooses for itself."""
        key = (spec.regime, spec.confidence, spec.cascade, spec.options)
        if key not in self._own:
            self._own[key] = self._experiment.of_network(spec)
        return self._own[key]

    def plan(self, spec: NetworkSpec, budget: Budget) -> Plan:
        """Return how ``spec`` is trained."""
        plan = Plan(spec, budget, self.settings(spec), self._prepared.fingerprint)
        steps = plan.training.steps(self._samples(plan))
        return dataclasses.replace(plan, lags=self._lags(steps))

    def train(self, spec: NetworkSpec, budget: Budget, stage: Stage | None, watch: Watch | None = None) -> Trained:
        """Train what is not there yet.

        Args:
            watch: Asked after every epoch of an exit, and before a training that was stopped goes on; where it says no,
                that one is left as it is. Only about what may be stopped, see :class:`~aebnas.searching.plan.Plan`.

        Raises:
            TrainingError: the loss is not finite. BranchError: a branch does not fit its attach point. DamagedFile: a
                record was damaged; it has been put aside, and a second call makes it again.
        """
        plan, shown = self.plan(spec, budget), stage or Stage()
        allowed = watch if plan.stoppable else None
        if plan.whole:
            return self._network(plan, shown, allowed)
        return self._in_order(plan, shown) if plan.in_order else self._branches(plan, shown, allowed)

    def logits(self, weights: Mapping[str, Any]) -> Iterator[Tensor]:
        """Yield what every exit of a trained network, in fp32, says of the validation split: (N, C) each."""
        if "network" in weights:
            yield from self._folder.networks.get(weights["network"])["validation_logits"]
            return
        for key in weights["branches"]:
            yield self._folder.branches.get(key)["validation_logits"]
        yield self.backbone_logits

    def has(self, weights: Mapping[str, Any]) -> bool:
        """Tell whether the stores hold ``weights``."""
        if "network" in weights:
            return self._folder.networks.has(weights["network"])
        return all(self._folder.branches.has(key) for key in weights.get("branches", ()))

    def work(self, spec: NetworkSpec, budget: Budget) -> int:
        """Return how many samples training ``spec`` to its end will take in, over all epochs that are left."""
        plan = self.plan(spec, budget)
        if not spec.branches:
            return 0
        shelf = Shelf(self._folder.networks if plan.whole else self._folder.branches, plan)
        keys = [plan.network_key] if plan.whole else plan.branch_keys
        return self._samples(plan) * sum(map(shelf.left, keys))

    def _samples(self, plan: Plan) -> int:
        """Return how many samples a pass over the training split takes in."""
        train = len(self._prepared.data.train)
        return min(train, plan.samples or train)

    def _branches(self, plan: Plan, stage: Stage, watch: Watch | None) -> Trained:
        keys, shelf = plan.branch_keys, Shelf(self._folder.branches, plan)

        def find(number: int) -> Kept | None:
            return shelf.find(keys[number], None if watch is None else _branch_goes_on(watch, number))

        def make(claims: Mapping[int, Claim]) -> None:
            numbers = list(claims)
            stopped = [shelf.stopped(keys[number]) for number in numbers]
            jobs = [
                BranchJob(plan.spec.branches[number], None if found is None else found[1]["paused"])
                for number, found in zip(numbers, stopped, strict=True)
            ]

            def keep(job: int, trained: TrainedBranch) -> None:
                put_branch(shelf, keys[numbers[job]], trained)
                claims[numbers[job]].release()

            with contextlib.ExitStack() as stack:
                tells = [
                    stack.enter_context(
                        self._log.training(subject_of_branch(plan, number), resumed=job.resume is not None)
                    )
                    for number, job in zip(numbers, jobs, strict=True)
                ]

                def tell(job: int, epoch: Epoch) -> None:
                    if (told := tells[job]) is not None:
                        told(epoch)

                self._teach(
                    jobs,
                    self._features,
                    self._prepared.backbone,
                    plan.own.regime,
                    plan.training,
                    samples=plan.samples,
                    seed=self._experiment.seed,
                    device=self._device,
                    stage=stage,
                    watch=None if watch is None else lambda job, *what: watch(numbers[job], *what),
                    done=keep,
                    mixed=self._experiment.mixed_precision,
                    accuracy=self._experiment.accuracy,
                    told=None if None in tells else tell,
                )

        make_claimed(shelf.store, keys, lambda number: find(number) is None, make, lambda: stage.advance(0))
        return trained_branches(shelf.store, plan, [find(number) for number in range(len(keys))])

    def _in_order(self, plan: Plan, stage: Stage) -> Trained:
        shelf = Shelf(self._folder.branches, plan)
        for number, key in enumerate(plan.branch_keys):
            make = partial(self._make_next, plan, shelf, number, stage)
            make_claimed(shelf.store, [key], partial(_is_missing, shelf, key), make, lambda: stage.advance(0))
        return trained_branches(shelf.store, plan, list(map(Kept, plan.branch_keys)))

    def _make_next(self, plan: Plan, shelf: Shelf, number: int, stage: Stage, claims: Mapping[int, Claim]) -> None:
        """Train the branch of that number, which goes by those before it."""
        with self._log.training(subject_of_branch(plan, number)) as tell:
            trained = train_branch(
                plan.spec.branches[number],
                self._features,
                self._prepared.backbone,
                plan.own.regime,
                plan.training,
                samples=plan.samples,
                seed=self._experiment.seed,
                device=self._device,
                stage=stage,
                earlier=earlier_branches(shelf.store, plan, number, self._prepared.backbone),
                cascade=plan.own.cascade,
                confidence=plan.spec.confidence,
                mixed=self._experiment.mixed_precision,
                accuracy=self._experiment.accuracy,
                told=tell,
            )
        put_branch(shelf, plan.branch_keys[number], trained)

    def _network(self, plan: Plan, stage: Stage, watch: Watch | None) -> Trained:
        key, shelf = plan.network_key, Shelf(self._folder.networks, plan)

        def find() -> Kept | None:
            return shelf.find(key, None if watch is None else partial(_network_goes_on, watch))

        make = partial(self._make_network, plan, shelf, stage, watch)
        make_claimed(shelf.store, [key], lambda _: find() is None, make, lambda: stage.advance(0))
        return trained_network(shelf.store, find() or Kept(key))

    def _make_network(
        self, plan: Plan, shelf: Shelf, stage: Stage, watch: Watch | None, claims: Mapping[int, Claim]
    ) -> None:
        data, stopped = self._prepared.data, shelf.stopped(plan.network_key)
        with self._log.training(subject_of_network(plan), resumed=stopped is not None) as tell:
            network, results = train_network(
                plan.spec.branches,
                self._prepared.backbone,
                data,
                plan.own.regime,
                plan.training.epochs,
                initial=self._prepared.initial,
                teacher=self._features.logits("train") if plan.regime.target(plan.own.regime) == "backbone" else None,
                samples=plan.samples,
                seed=self._experiment.seed,
                device=self._device,
                stage=stage,
                cascade=plan.own.cascade,
                confidence=plan.spec.confidence,
                mixed=self._experiment.mixed_precision,
                accuracy=self._experiment.accuracy,
                watch=None if watch is None else partial(_any_goes_on, watch),
                resume=None if stopped is None else stopped[1]["paused"],
                told=tell,
            )
        logits = logits_of(network.to(self._device), data.validation, self._device)
        put_network(shelf, plan.network_key, network, logits, results)


def _is_missing(shelf: Shelf, key: str, number: int) -> bool:
    return not shelf.store.has(key)


def _branch_goes_on(watch: Watch, number: int) -> Callable[[int, Record], bool]:
    return lambda epochs, record: watch(number, epochs, max(accuracy for (accuracy,) in record["accuracies"]))


def _network_goes_on(watch: Watch, epochs: int, record: Record) -> bool:
    return _any_goes_on(watch, epochs, [max(curve) for curve in curves_of(record)])


def _any_goes_on(watch: Watch, epochs: int, accuracies: Sequence[float]) -> bool:
    """Tell whether any exit may go on, and with it the network."""
    # All are asked, also once one has said yes: a watch remembers what it was told.
    answers = [watch(number, epochs, accuracy) for number, accuracy in enumerate(accuracies)]
    return any(answers)
