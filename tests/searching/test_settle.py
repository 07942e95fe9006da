"""Before finalists are chosen, no network on the front is one whose training was stopped."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from aebnas.branches.spec import BranchSpec, NetworkSpec, PartSpec
from aebnas.costs.model import CostModel
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.searching.choice import CostLimits
from aebnas.searching.costing import Kind
from aebnas.searching.evaluation import StaticPoint
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.finalists import eligible_rows
from aebnas.searching.loop import Archive
from aebnas.searching.rows import network_key
from aebnas.searching.rungs import Ledger
from aebnas.searching.settle import settle


class Stages(Progress):
    def __init__(self):
        self.seen = []

    def stage(self, label, total, done=0):
        self.seen.append((label, total))
        return super().stage(label, total, done)


class Stern(Ledger):
    """Stops everything after one epoch, as long as it is told to."""

    stern = True

    def hopeless(self, spec, costs, curve):
        return self.stern


@pytest.fixture
def evaluator(prepared, toy_experiment, tmp_path):
    experiment = toy_experiment(regime__training__epochs=3)
    costs = {Kind("fp32", "max-probability"): CostModel(prepared.backbone, None)}
    return Evaluator(
        experiment, prepared, costs, RunFolder(tmp_path / "run"), device=torch.device("cpu"), progress=Progress()
    )


@pytest.fixture
def specs(prepared):
    names = [point.name for point in prepared.backbone.attach_points]
    heads = [PartSpec("pooled-linear"), PartSpec("grid-linear")]
    return [NetworkSpec(tuple(BranchSpec(name, (), head) for name in names)) for head in heads]


@pytest.fixture
def found(evaluator, specs):
    """An archive of networks that were all stopped, and the ledger that stopped them."""
    ledger = Stern(["macs"], evaluator.backbone, len(evaluator.truth))
    archive = Archive(evaluator.backbone, "macs", CostLimits({}))
    for spec in specs:
        archive.add(evaluator.evaluate(spec, ledger=ledger))
    return archive, ledger


def test_what_is_on_the_front_is_trained_to_its_end(evaluator, specs, found):
    archive, ledger = found
    assert all(evaluation.epochs == (1, 1) for evaluation in archive.evaluations.values())
    progress = Stages()
    settle(archive, evaluator, ledger, progress)
    rows = eligible_rows(archive, evaluator.experiment)
    assert rows
    assert not any(archive.evaluations[network_key(row)].partial for row in rows)
    assert {label for label, _ in progress.seen} == {"training on what was stopped"}
    # Two of three epochs of 2 branches are left.
    samples = len(evaluator._prepared.data.train)
    assert progress.seen[0][1] % (2 * 2 * samples) == 0
    for evaluation in archive.evaluations.values():
        assert evaluation.partial or evaluation == evaluator.evaluate(evaluation.spec)


def test_what_is_beaten_stays_as_it_was_left(evaluator, found):
    archive, ledger = found
    # Nothing early is better than a backbone that costs nothing.
    archive.backbone = StaticPoint(1.0, {"macs": 0.0, "latency_ms": 0.0})
    before = dict(archive.evaluations)
    progress = Stages()
    settle(archive, evaluator, ledger, progress)
    assert archive.evaluations == before
    assert progress.seen == []


def test_what_the_ledger_would_no_longer_stop_is_trained_to_its_end(evaluator, found):
    archive, ledger = found
    archive.backbone = StaticPoint(1.0, {"macs": 0.0, "latency_ms": 0.0})
    ledger.stern = False
    settle(archive, evaluator, ledger, Progress())
    assert not any(evaluation.partial for evaluation in archive.evaluations.values())
    assert all(list(map(len, evaluation.curves)) == [3, 3] for evaluation in archive.evaluations.values())


def test_what_was_trained_on_counts_as_it_is_now(evaluation, archive):
    left = dataclasses.replace(evaluation([(0.9, 20, 1)]), epochs=(1,))
    now = dataclasses.replace(evaluation([(0.9, 30, 1)]), epochs=(None,))
    made = archive(left)
    made.add(now)
    assert made.hypervolume() == archive(now).hypervolume() < archive(left).hypervolume()
    assert made.best_note() == archive(now).best_note()
