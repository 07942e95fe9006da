"""What is stopped is kept and gone on with; what another process trains is waited for."""

from __future__ import annotations

import copy
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from aebnas.branches.spec import BranchSpec, NetworkSpec, PartSpec
from aebnas.costs.model import CostModel
from aebnas.progress import Progress, Stage
from aebnas.run_folder import RunFolder
from aebnas.searching.costing import Kind
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.rungs import Ledger
from aebnas.searching.trainer import Trainer
from aebnas.training.candidates import train_branches

CPU = torch.device("cpu")


class Scripted(Ledger):
    """Stops a network's exit of that number after so many epochs; says for whom it was asked."""

    def __init__(self, ends):
        self.ends, self.asked = ends, []

    def hopeless(self, spec, costs, curve):
        self.asked.append((costs["macs"], len(curve)))
        return len(curve) >= self.ends.get(costs["macs"], 99)

    def add(self, evaluation):
        raise AssertionError


@pytest.fixture
def taught():
    """Every call of the teacher as (attach points, epochs to go on from)."""
    return []


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def open_evaluator(prepared, toy_experiment, folder, taught):
    def teach(jobs, *args, **options):
        begun = [0 if job.resume is None else len(job.resume["accuracies"]) for job in jobs]
        taught.append(([job.spec.attach for job in jobs], begun))
        with alone:  # torch's generator is the same for all threads
            return train_branches(jobs, *args, **options)

    alone = threading.Lock()

    def make(**options):
        experiment = toy_experiment(**{"regime__training__epochs": 4, **options})
        costs = {Kind("fp32", "max-probability"): CostModel(prepared.backbone, None)}
        return Evaluator(experiment, prepared, costs, folder, device=CPU, progress=Progress(), teach=teach)

    return make


@pytest.fixture
def points(prepared):
    return [point.name for point in prepared.backbone.attach_points]


@pytest.fixture
def network(points):
    def make(*numbers, regime="disjoint", **options):
        return NetworkSpec(tuple(BranchSpec(points[number]) for number in numbers), regime, **options)

    return make


def ends(evaluator, spec):
    """MACs of the static networks that end at each exit, by which a scripted ledger tells them apart."""
    return [costs["macs"] for costs in evaluator._ends(spec)]


def same(one, other):
    """Tell whether two evaluations say the same, but for the time they took and where their weights are."""
    return (one.curve, one.truncated, one.curves) == (other.curve, other.truncated, other.curves)


def test_a_stopped_branch_is_an_honest_network_and_goes_on_as_if_it_had_never_been_stopped(
    open_evaluator, network, folder, taught, points, tmp_path
):
    both, evaluator = network(0, 1), open_evaluator()
    first, *_ = ends(evaluator, both)
    partial = evaluator.evaluate(both, ledger=Scripted({first: 2}))
    assert partial.epochs == (2, None)
    assert partial.partial
    assert list(map(len, partial.curves)) == [2, 4]
    # Its figures are those of its weights as they are.
    logits = folder.branches.get(partial.weights["branches"][0])["validation_logits"]
    assert partial.truncated[0].accuracy == pytest.approx(float((logits.argmax(1) == evaluator.truth).float().mean()))
    assert partial.truncated[0].accuracy == pytest.approx(max(partial.curves[0]))
    assert evaluator.known(both) == partial
    # Another search trains it without a pause.
    plain = Evaluator(
        evaluator.experiment, evaluator._prepared, evaluator.costs, RunFolder(tmp_path / "plain"), device=CPU,
        progress=Progress(),
    )  # fmt: skip
    whole = plain.evaluate(both)
    again = open_evaluator().evaluate(both)
    assert same(again, whole)
    assert again.weights == whole.weights
    assert not again.partial
    assert taught == [(points[:2], [0, 0]), (points[:1], [2])]
    # What was said of the stopped one stays true.
    assert folder.branches.has(partial.weights["branches"][0])
    assert again.seconds > partial.seconds


def test_a_stopped_branch_serves_as_it_is_while_the_rule_stops_it(open_evaluator, network, taught, points):
    evaluator = open_evaluator()
    first = ends(evaluator, network(0))[0]
    stern, milder = Scripted({first: 1}), Scripted({first: 3})
    alone = evaluator.evaluate(network(0), ledger=stern)
    assert evaluator.evaluate(network(0), ledger=stern) == alone
    both = evaluator.evaluate(network(0, 1), ledger=stern)
    assert both.epochs == (1, None)
    assert both.weights["branches"][0] == alone.weights["branches"][0]
    assert taught == [(points[:1], [0]), (points[1:2], [0])]
    on = evaluator.evaluate(network(0), ledger=milder)
    assert on.epochs == (3,)
    assert on.curves[0][:1] == alone.curves[0]
    assert taught[2:] == [(points[:1], [1])]
    # The longest counts, for other networks too.
    assert evaluator.evaluate(network(0, 1), ledger=milder).epochs == (3, None)
    assert len(taught) == 3


def test_only_what_is_left_is_counted_as_work(open_evaluator, network, prepared):
    evaluator, samples = open_evaluator(), len(prepared.data.train)
    assert evaluator.work(network(0, 1), "search") == 2 * 4 * samples
    evaluator.evaluate(network(0, 1), ledger=Scripted({ends(evaluator, network(0))[0]: 1}))
    assert evaluator.work(network(0, 1), "search") == 3 * samples
    evaluator.evaluate(network(0, 1))
    assert evaluator.work(network(0, 1), "search") == 0


@pytest.mark.parametrize(
    ("options", "budget"),
    [
        ({"regime__name": "calex"}, "search"),
        ({"regime__name": "disjoint", "cascade": "inputs"}, "search"),
        ({"regime__name": "disjoint"}, "final"),
        ({"regime__name": "sequential", "regime__sequential__protection": "none"}, "search"),
    ],
)
def test_what_others_go_by_and_finalists_are_never_stopped(open_evaluator, network, options, budget):
    evaluator = open_evaluator(**options)
    spec = network(0, 1, regime=options["regime__name"], cascade=options.get("cascade", "none"))
    made = evaluator.evaluate(spec, budget, ledger=Scripted(dict.fromkeys(ends(evaluator, spec), 1)))
    assert made.failure is None
    assert not made.partial


def test_a_whole_network_stops_once_all_its_exits_would(open_evaluator, network, folder, tmp_path):
    evaluator = open_evaluator(regime__name="mixed")
    spec = network(0, 1, regime="mixed")
    first, second, last = ends(evaluator, spec)
    assert last == evaluator.backbone.costs["macs"]
    assert not evaluator.evaluate(network(0, regime="mixed"), ledger=Scripted({first: 1})).partial
    stopped = evaluator.evaluate(spec, ledger=Scripted({first: 1, second: 2, last: 3}))
    assert stopped.epochs == (3, 3, 3)
    assert list(map(len, stopped.curves)) == [3, 3, 3]
    record = folder.networks.get(stopped.weights["network"])
    for exit_, logits in enumerate(record["validation_logits"][:2]):
        right = float((logits.argmax(1) == evaluator.truth).float().mean())
        assert stopped.truncated[exit_].accuracy == pytest.approx(right)
    plain = Evaluator(
        evaluator.experiment, evaluator._prepared, evaluator.costs, RunFolder(tmp_path / "plain"), device=CPU,
        progress=Progress(),
    )  # fmt: skip
    assert same(evaluator.evaluate(spec), plain.evaluate(spec))


def test_a_damaged_stopped_record_is_made_again(open_evaluator, network, folder, taught, caplog):
    evaluator = open_evaluator()
    ledger = Scripted({ends(evaluator, network(0))[0]: 2})
    before = evaluator.evaluate(network(0), ledger=ledger)
    path = folder.branches.path(before.weights["branches"][0])
    path.write_bytes(path.read_bytes()[:400])
    (record,) = folder.evaluations.glob("*.json")
    record.unlink()
    assert same(evaluator.evaluate(network(0), ledger=ledger), before)
    assert [begun for _, begun in taught] == [[0], [0]]
    assert "is damaged" in caplog.text


def test_what_another_process_trains_is_waited_for(open_evaluator, network, folder, points, taught, prepared):
    """Others hold the claim of the first branch: the second is trained meanwhile, and then theirs is taken."""
    spec, evaluator = network(0, 1), open_evaluator()
    key = evaluator._trainer.plan(spec, "search").branch_keys[0]
    waits = threading.Event()

    class Seen(Stage):
        def advance(self, steps=1):
            if not steps:
                waits.set()

    made = []
    with folder.branches.try_claim(key):
        thread = threading.Thread(target=lambda: made.append(evaluator.evaluate(spec, stage=Seen())))
        thread.start()
        assert waits.wait(60)
        assert taught == [(points[1:2], [0])]
        other = Evaluator(
            evaluator.experiment, prepared, evaluator.costs, RunFolder(folder.path.parent / "other"), device=CPU,
            progress=Progress(),
        )  # fmt: skip
        theirs = other.evaluate(network(0))
        other_folder = RunFolder(folder.path.parent / "other")
        folder.branches.put(key, other_folder.branches.get(key))
    thread.join(60)
    assert made[0].truncated[0] == theirs.truncated[0]
    assert len(taught) == 1


HOLD = """
import sys, time
from pathlib import Path
from aebnas.store import WeightStore
claim = WeightStore(Path(sys.argv[1])).try_claim(sys.argv[2])
print("held" if claim else "taken", flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_was_training_is_taken_over(open_evaluator, network, folder, taught):
    spec, evaluator = network(0), open_evaluator()
    key = evaluator._trainer.plan(spec, "search").branch_keys[0]
    command = [sys.executable, "-c", HOLD, str(folder.branches.path(key).parent), key]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == "held"
        made = []
        thread = threading.Thread(target=lambda: made.append(evaluator.evaluate(spec)))
        thread.start()
        time.sleep(0.3)
        assert taught == []
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    thread.join(60)
    assert made[0].failure is None
    assert len(taught) == 1


def test_two_at_work_train_every_branch_once(open_evaluator, network, taught):
    """One begins with the network that the other one ends with."""
    specs = [network(0, 1), network(1), network(0)]
    made = {}

    def work(name, order):
        evaluator = open_evaluator()
        made[name] = {spec: evaluator.evaluate(spec) for spec in order}

    threads = [threading.Thread(target=work, args=(n, specs[:: 1 - 2 * n])) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len([point for points, _ in taught for point in points]) == 2
    assert all(same(made[0][spec], made[1][spec]) for spec in specs)


def test_a_branch_is_kept_as_soon_as_it_is_trained(open_evaluator, network, prepared, folder, toy_experiment):
    """A search that is killed in the second branch does not train the first one again."""
    spec = network(0, 1)

    def teach(jobs, *args, done, **options):
        train_branches(jobs[:1], *args, done=done, **options)
        raise KeyboardInterrupt

    trainer = Trainer(
        toy_experiment(regime__training__epochs=1), prepared, folder, ["disjoint"], device=CPU, progress=Progress(),
        teach=teach,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        trainer.train(spec, "search", None)
    first, second = trainer.plan(spec, "search").branch_keys
    assert folder.branches.keys() == [first]
    assert folder.branches.try_claim(second) is not None


def test_heads_of_their_own_are_branches_of_their_own(open_evaluator, points):
    evaluator = open_evaluator()
    specs = [NetworkSpec((BranchSpec(points[0], (), PartSpec(head)),)) for head in ("pooled-linear", "grid-linear")]
    keys = [evaluator._trainer.plan(spec, "search").branch_keys for spec in specs]
    assert keys[0] != keys[1]


def test_only_what_is_trained_otherwise_than_before_is_trained_again(prepared, toy_experiment, network, folder):
    """Where epochs are short, statistics follow; there alone a network has another key than before they did."""
    backbone = copy.deepcopy(prepared.backbone)
    for layer in backbone.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.05  # as good as the usual one in 100 steps

    def lags(budget, **options):
        experiment = toy_experiment(**{f"regime__{key}": value for key, value in options.items()})
        slow = dataclasses.replace(prepared, backbone=backbone)
        trainer = Trainer(experiment, slow, folder, ["joint"], device=CPU, progress=Progress())
        plan = trainer.plan(network(0, regime="joint"), budget)
        return plan.network_key != dataclasses.replace(plan, lags=False).network_key

    assert lags("search")
    assert not lags("search", training__batch_size=2)
    # As many samples and as large batches as those of the training that the key is of.
    assert lags("search", training__batch_size=2, train_samples=100)
    assert not lags("final", training__batch_size=2, train_samples=100)
