"""Networks and branches are trained once, whatever happens in between."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from aebnas.branches.spec import BranchSpec, NetworkSpec, PartSpec
from aebnas.costs.blocks import Figures
from aebnas.costs.model import CostModel
from aebnas.errors import DeviceError, MeasurementError, TrainingError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.curve import Target
from aebnas.exits.grids import quantile_grid
from aebnas.exits.policy import Policy
from aebnas.exits.tuning import evaluate_thresholds
from aebnas.files import digest
from aebnas.progress import Progress, Stage
from aebnas.run_folder import RunFolder
from aebnas.searching import trainer as module
from aebnas.searching.costing import Kind
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.rungs import Ledger
from aebnas.store import WeightStore

CPU = torch.device("cpu")


@pytest.fixture
def trained(monkeypatch):
    """Names of the branches and networks that were trained."""
    calls = []
    branch, branches, network = module.train_branch, module.train_branches, module.train_network

    def count_branch(spec, *args, **options):
        calls.append(spec.attach)
        return branch(spec, *args, **options)

    def count_branches(jobs, *args, **options):
        calls.extend(job.spec.attach for job in jobs)
        return branches(jobs, *args, **options)

    def count_network(specs, *args, **options):
        calls.append("+".join(spec.attach for spec in specs))
        return network(specs, *args, **options)

    monkeypatch.setattr(module, "train_branch", count_branch)
    monkeypatch.setattr(module, "train_branches", count_branches)
    monkeypatch.setattr(module, "train_network", count_network)
    return calls


SPANS_MS = {"span -1 0": 0.25, "span 0 1": 0.5, "span -1 1": 0.5, "end -1": 2.0, "end 0": 1.0, "end 1": 0.75}


class FakeTimer:
    """Latencies that are at odds with MACs: branches are slow, the earlier the slower."""

    stateful = False

    def overhead_ms(self):
        return 0.125

    def blocks(self, blocks):
        times = {name: 0.125 + SPANS_MS.get(name, block.shape[-1] / 8) for name, block in blocks.items()}
        return {name: Figures(size_mib=0.5, latency_ms=time, median_ms=time) for name, time in times.items()}


@pytest.fixture
def open_evaluator(prepared, toy_experiment, tmp_path):
    def make(*, limited=(), timer=None, run="run", **options):
        costs = CostModel(prepared.backbone, timer)
        experiment = toy_experiment(**{"regime__training__epochs": 1, **options})
        folder = RunFolder(tmp_path / run)
        return Evaluator(
            experiment,
            prepared,
            {Kind("fp32", "max-probability"): costs},
            folder,
            limited=limited,
            device=CPU,
            progress=Progress(),
        )

    return make


@pytest.fixture
def network(prepared):
    first, second = (point.name for point in prepared.backbone.attach_points)

    def make(*numbers, regime="disjoint", head="pooled-linear"):
        names = [(first, second)[number] for number in numbers]
        return NetworkSpec(tuple(BranchSpec(name, (), PartSpec(head)) for name in names), regime)

    return make


def test_a_network_seen_twice_is_trained_once(open_evaluator, network, trained):
    evaluator = open_evaluator()
    first = evaluator.evaluate(network(0, 1))
    assert evaluator.evaluate(network(0, 1)) == first
    assert open_evaluator().evaluate(network(0, 1)) == first
    assert len(trained) == 2
    assert first.failure is None
    assert first.seconds > 0


def test_networks_share_their_branches(open_evaluator, network, trained, prepared):
    evaluator = open_evaluator()
    first, second = (point.name for point in prepared.backbone.attach_points)
    evaluator.evaluate(network(0, 1))
    evaluator.evaluate(network(0))
    evaluator.evaluate(network(1))
    assert trained == [first, second]
    evaluator.evaluate(network(0, head="grid-linear"))
    assert trained == [first, second, first]


@pytest.mark.parametrize("regime", ["joint", "mixed"])
def test_a_regime_that_moves_the_backbone_trains_whole_networks(open_evaluator, network, trained, regime, prepared):
    before = {name: tensor.clone() for name, tensor in prepared.backbone.state_dict().items()}
    evaluator = open_evaluator(regime__name=regime)
    both = network(0, 1, regime=regime)
    made = evaluator.evaluate(both)
    evaluator.evaluate(both)
    evaluator.evaluate(network(0, regime=regime))
    first, second = (point.name for point in prepared.backbone.attach_points)
    assert trained == [f"{first}+{second}", first]
    assert list(made.weights) == ["network"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in prepared.backbone.state_dict().items())


@pytest.mark.parametrize("options", [{"regime__training__lr": 0.01}, {"seed": 5}, {"regime__train_samples": 50}])
def test_other_training_settings_train_anew(open_evaluator, network, trained, options):
    open_evaluator().evaluate(network(0))
    open_evaluator(**options).evaluate(network(0))
    assert len(trained) == 2


def test_the_final_budget_trains_longer_on_everything(open_evaluator, network, monkeypatch, prepared):
    seen = []
    real = module.train_branches

    def spy(jobs, features, backbone, regime, training, *, samples, **options):
        seen.append((training.epochs, samples))
        return real(jobs, features, backbone, regime, training, samples=samples, **options)

    monkeypatch.setattr(module, "train_branches", spy)
    evaluator = open_evaluator(regime__train_samples=64, regime__final_epochs=3)
    evaluator.evaluate(network(0))
    final = evaluator.evaluate(network(0), "final")
    assert seen == [(1, 64), (3, None)]
    assert final.id.endswith("f")
    assert evaluator.known(network(0)) != evaluator.known(network(0), "final")


def test_no_branches_are_the_static_backbone(open_evaluator, network, trained):
    evaluator = open_evaluator()
    (point,) = evaluator.evaluate(network()).curve.points
    assert trained == []
    assert point.accuracy == pytest.approx(evaluator.backbone.accuracy)
    assert point.costs[0] == evaluator.backbone.costs["macs"]
    assert (point.thresholds, point.exit_shares) == ((), (1.0,))


def test_points_of_a_curve_are_what_their_thresholds_give(open_evaluator, network, prepared, tmp_path):
    """Every point against the plain rule on the stored logits: leave at the first exit that is sure enough."""
    evaluator = open_evaluator()
    made = evaluator.evaluate(network(0, 1))
    folder = RunFolder(tmp_path / "run")
    logits = [folder.branches.get(key)["validation_logits"] for key in made.weights["branches"]]
    images = torch.cat([batch.images for batch in prepared.data.validation.batches(512)])
    logits.append(prepared.backbone(images))
    labels = prepared.data.validation.labels.numpy()
    sure = np.stack([torch.softmax(z, 1).amax(1).numpy() for z in logits[:-1]])
    right = np.stack([z.argmax(1).numpy() == labels for z in logits])
    costs = evaluator.costs[Kind("fp32", "max-probability")].network(made.spec.branches)
    assert len(made.curve.points) > 2
    for point in made.curve.points:
        exits = Policy("max-probability", point.thresholds).leave_at(sure)
        shares = np.bincount(exits, minlength=3) / len(labels)
        mean = np.nan_to_num(costs.exit_costs([t is not None for t in point.thresholds])[0]) @ shares
        assert point.exit_shares == pytest.approx(tuple(shares), abs=0.02)
        assert point.accuracy == pytest.approx(right[exits, np.arange(len(labels))].mean(), abs=0.02)
        assert point.costs[0] == pytest.approx(mean, rel=0.02)
    for exit_, static in enumerate(made.truncated):
        assert static.accuracy == pytest.approx(right[exit_].mean())
        assert static.costs["macs"] == costs.truncated(exit_)[0]


def test_a_failed_candidate_is_kept_with_its_reason(open_evaluator, network, monkeypatch):
    def fail(*_, **__):
        raise TrainingError("the loss is nan")

    monkeypatch.setattr(module, "train_branches", fail)
    failed = open_evaluator().evaluate(network(0))
    assert (failed.failure, failed.curve.points) == ("the loss is nan", ())
    monkeypatch.undo()
    assert open_evaluator().evaluate(network(0)).failure == "the loss is nan"  # not tried again


def test_a_fault_of_the_program_is_not_a_failed_candidate(open_evaluator, network, monkeypatch, tmp_path):
    def fault(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(module, "train_branches", fault)
    with pytest.raises(ZeroDivisionError):
        open_evaluator().evaluate(network(0))
    assert not (tmp_path / "run" / "evaluations").exists()


def records(tmp_path):
    return list((tmp_path / "run" / "evaluations").iterdir())


@pytest.mark.parametrize("damage", ["truncated", "no keys", "other types", "branches of nothing"])
def test_a_damaged_evaluation_is_made_again_from_its_branches(open_evaluator, network, trained, tmp_path, damage):
    before = open_evaluator().evaluate(network(0, 1))
    (path,) = records(tmp_path)
    record = json.loads(path.read_text())
    texts = {
        "truncated": path.read_text()[:100],
        "no keys": "{}",
        "other types": json.dumps({**record, "curve": 3}),
        "branches of nothing": json.dumps({**record, "spec": {**record["spec"], "branches": [1]}}),
    }
    path.write_text(texts[damage])
    again = open_evaluator().evaluate(network(0, 1))
    assert again.curve == before.curve
    assert json.loads(path.read_text())["curve"] == record["curve"]
    assert len(trained) == 2  # the branches were kept


def test_a_damaged_branch_is_trained_again(open_evaluator, network, trained, tmp_path, caplog):
    before = open_evaluator().evaluate(network(0))
    (path,) = (tmp_path / "run" / "branches").glob("*.pt")
    path.write_bytes(path.read_bytes()[:300])
    (record,) = records(tmp_path)
    record.unlink()
    assert open_evaluator().evaluate(network(0)).curve == before.curve
    assert len(trained) == 2
    assert f"{path.name} is damaged (cut short, or its checksum differs): put aside" in caplog.text


def test_a_branch_that_another_process_puts_aside_before_it_is_read_is_trained_again(
    open_evaluator, network, trained, tmp_path, monkeypatch
):
    before = open_evaluator().evaluate(network(0))
    (record,) = records(tmp_path)
    record.unlink()
    real = WeightStore.get

    def too_late(store, key):
        monkeypatch.undo()
        store.path(key).unlink()
        return real(store, key)

    evaluator = open_evaluator()
    monkeypatch.setattr(WeightStore, "get", too_late)
    assert evaluator.evaluate(network(0)).curve == before.curve


@pytest.mark.parametrize("regime", ["disjoint", "mixed"])
def test_weights_that_were_deleted_are_trained_again(open_evaluator, network, trained, tmp_path, regime):
    evaluator = open_evaluator(regime__name=regime)
    before = evaluator.evaluate(network(0, regime=regime))
    store = "branches" if regime == "disjoint" else "networks"
    (path,) = (tmp_path / "run" / store).glob("*.pt")
    path.unlink()
    again = open_evaluator(regime__name=regime).evaluate(network(0, regime=regime))
    assert path.exists()
    assert len(trained) == 2
    assert again.curve == before.curve


GRID = 6
# Long enough that branches are worth something beside the backbone.
TRAINED = {"regime__training__epochs": 4, "search__grid": GRID}


@pytest.fixture
def every_point(prepared, tmp_path):
    """Every combination of thresholds of a network, tried one by one."""

    def evaluate(evaluator, made, run="run"):
        folder = RunFolder(tmp_path / run)
        logits = [folder.branches.get(key)["validation_logits"] for key in made.weights["branches"]]
        labels = prepared.data.validation.labels
        images = torch.cat([batch.images for batch in prepared.data.validation.batches(512)])
        right = np.stack([(z.argmax(1) == labels).numpy() for z in (*logits, prepared.backbone(images))])
        sure = np.stack([build_confidence("max-probability")(z).numpy() for z in logits])
        costs = evaluator.costs[Kind("fp32", "max-probability")].network(made.spec.branches)
        grids = [[None, *map(float, quantile_grid(row, GRID))] for row in sure]
        return [
            evaluate_thresholds(sure, right, costs.exit_costs, choice, reduction=costs.reduction)
            for choice in itertools.product(*grids)
        ]

    return evaluate


def best_within(points, limit):
    return max((point.accuracy for point in points if point.costs[1] <= limit * (1 + 1e-9)), default=None)


def test_a_limit_on_a_cost_that_is_no_objective_is_met_with_the_best_accuracy(open_evaluator, network, every_point):
    evaluator = open_evaluator(timer=FakeTimer(), limited=("latency_ms",), **TRAINED)
    made = evaluator.evaluate(network(0, 1))
    assert made.cost_names == ("macs", "latency_ms", "latency_p95_ms", "model_mib")
    everything = every_point(evaluator, made)
    limits = sorted({point.costs[1] for point in everything})
    assert len(limits) > 10
    wanted = [best_within(everything, limit) for limit in limits]
    assert [best_within(made.curve.points, limit) for limit in limits] == wanted
    # On the curve over the objectives alone it is not met, so this is not for nothing.
    plain = open_evaluator(timer=FakeTimer(), **TRAINED).evaluate(network(0, 1))
    assert [best_within(plain.curve.points, limit) for limit in limits] != wanted


def test_limits_that_came_later_are_solved_for_without_training(open_evaluator, network, trained):
    plain = open_evaluator(timer=FakeTimer()).evaluate(network(0, 1))
    assert len(trained) == 2
    limited = open_evaluator(timer=FakeTimer(), limited=("latency_ms",)).evaluate(network(0, 1))
    again = open_evaluator(timer=FakeTimer()).evaluate(network(0, 1))
    assert len(trained) == 2
    elsewhere = open_evaluator(timer=FakeTimer(), limited=("latency_ms",), run="other").evaluate(network(0, 1))
    assert limited.curve == elsewhere.curve != plain.curve
    assert again == plain


@pytest.mark.parametrize("cost", ["macs", "latency_ms"])
def test_a_two_sided_target_is_met_as_well_as_by_trying_everything(open_evaluator, network, every_point, cost):
    index, plain = ("macs", "latency_ms").index(cost), open_evaluator(timer=FakeTimer(), **TRAINED)
    first = plain.evaluate(network(0, 1))
    everything = every_point(plain, first)
    costs = sorted({point.costs[index] for point in everything})

    def best(points, value):
        accuracy, mean = np.array([p.accuracy for p in points]), np.array([p.costs for p in points]).T
        return Target(value, "two-sided", index).scores(accuracy, mean).max()

    values = np.linspace(0.5 * costs[0], 1.5 * costs[-1], 60)
    # Those for which the best is a point that no curve holds, and others.
    dominated = [value for value in values if best(everything, value) > best(first.curve.points, value) + 1e-9]
    assert dominated
    for number, value in enumerate([values[0], dominated[0], dominated[-1], costs[len(costs) // 2]]):
        evaluator = open_evaluator(
            timer=FakeTimer(),
            run=f"run{number}",
            **TRAINED,
            search__target={"cost": cost, "value": float(value), "rule": "two-sided"},
        )
        made = evaluator.evaluate(network(0, 1))
        # Thresholds between those of the grid may do better still.
        assert best(made.curve.points, value) >= best(everything, value) - 1e-9


@pytest.mark.parametrize("objectives", [("model_mib", "macs"), ("macs", "model_mib")])
def test_a_curve_over_sizes_is_sorted_and_none_of_its_points_beats_another(open_evaluator, network, objectives):
    evaluator = open_evaluator(timer=FakeTimer(), **TRAINED, search__objectives=("accuracy", *objectives))
    made = evaluator.evaluate(network(0, 1))
    points = made.curve.points
    costs = [tuple(made.cost(point, name) for name in objectives) for point in points]
    # Files that end where all leave, behind two exits too, are smaller than tuning knew.
    assert {made.cost(point, "model_mib") for point in points} > {0.5, 1.0}
    assert [cost[0] for cost in costs] == sorted(cost[0] for cost in costs)
    for one, other in itertools.permutations(range(len(points)), 2):
        no_worse = all(mine <= its for mine, its in zip(costs[one], costs[other], strict=True))
        assert not (no_worse and points[one].accuracy >= points[other].accuracy)


@pytest.mark.parametrize(
    ("options", "limited", "anew"),
    [
        ({}, (), False),
        ({}, ("latency_ms",), False),
        ({}, ("model_mib",), True),
        ({"search__objectives": ("accuracy", "model_mib")}, (), True),
        ({"search__target": {"cost": "model_mib", "value": 1.0}}, (), True),
    ],
)
def test_what_earlier_versions_chose_by_size_is_chosen_again(
    open_evaluator, network, trained, monkeypatch, options, limited, anew
):
    evaluator = open_evaluator(timer=FakeTimer(), limited=limited, **options)
    made = evaluator.evaluate(network(0))
    context = evaluator._trainer.plan(network(0), "search").context
    earlier = digest(network(0).key, "per-exit", context, *limited)
    records = {earlier: made.to_json()}
    monkeypatch.setattr(RunFolder, "read_evaluation", lambda folder, key: records.get(key))
    assert evaluator.known(network(0)) == (None if anew else made)
    assert evaluator.evaluate(network(0)).curve == made.curve and len(trained) == 1


def test_a_block_that_could_not_be_measured_is_tried_again(open_evaluator, network, trained, monkeypatch, tmp_path):
    evaluator = open_evaluator()

    def fail(*_):
        raise MeasurementError("the device does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(evaluator.costs[Kind("fp32", "max-probability")], "network", fail)
        failed = evaluator.evaluate(network(0))
    assert (failed.failure, failed.curve.points) == ("the device does not answer", ())
    assert evaluator.known(network(0)) is None
    assert not (tmp_path / "run" / "evaluations").exists()
    assert trained == []
    assert evaluator.evaluate(network(0)).failure is None


def test_what_was_stopped_stays_known_where_it_cannot_be_measured_now(open_evaluator, network, monkeypatch, tmp_path):
    class Stern(Ledger):
        def hopeless(self, spec, costs, curve):
            return True

    evaluator = open_evaluator(regime__training__epochs=2)
    ledger = Stern(["macs"], evaluator.backbone, len(evaluator.truth))
    partial = evaluator.evaluate(network(0), ledger=ledger)
    assert partial.partial

    def fail(*_):
        raise MeasurementError("the device does not answer")

    again = open_evaluator(regime__training__epochs=2)
    monkeypatch.setattr(again.costs[Kind("fp32", "max-probability")], "network", fail)
    assert again.evaluate(network(0), ledger=ledger).failure == "the device does not answer"
    assert again.known(network(0)) == partial


def test_a_device_that_is_lost_is_no_fault_of_the_candidate(open_evaluator, network, monkeypatch, tmp_path):
    evaluator = open_evaluator()

    def fail(*_):
        raise DeviceError("the connection was lost")

    monkeypatch.setattr(evaluator.costs[Kind("fp32", "max-probability")], "network", fail)
    with pytest.raises(DeviceError, match="the connection was lost"):
        evaluator.evaluate(network(0))
    assert not (tmp_path / "run" / "evaluations").exists()


class Counted(Stage):
    def __init__(self):
        self.steps = 0

    def advance(self, steps=1):
        self.steps += steps


@pytest.mark.parametrize(
    ("regime", "budget", "numbers", "samples"),
    [
        ("disjoint", "final", (0, 1), 240 * 3 * 2),
        ("disjoint", "final", (1,), 240 * 3),
        ("disjoint", "search", (0, 1), 64 * 1 * 2),
        ("joint", "final", (0, 1), 240 * 3),
        ("mixed", "search", (0, 1), 64 * 1),
        ("disjoint", "final", (), 0),
        ("joint", "final", (), 0),
    ],
)
def test_work_is_the_samples_that_training_takes_in(open_evaluator, network, regime, budget, numbers, samples):
    evaluator = open_evaluator(regime__name=regime, regime__train_samples=64, regime__final_epochs=3)
    spec, stage = network(*numbers, regime=regime), Counted()
    assert evaluator.work(spec, budget) == samples
    evaluator.evaluate(spec, budget, stage)
    assert stage.steps == samples
    assert evaluator.work(spec, budget) == 0


def test_branches_that_are_trained_are_no_work(open_evaluator, network):
    evaluator = open_evaluator(regime__final_epochs=3)
    evaluator.evaluate(network(0), "final")
    assert evaluator.work(network(0, 1)) == 240 * 3
    assert evaluator.work(network(0, 1), "search") == 240 * 2
