"""The search benchmark: its parts against what is simple, and its quick form; its figures are not judged here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from aebnas.branches.spec import BranchSpec, NetworkSpec, PartSpec
from aebnas.exits.tuning import Target, solve
from aebnas.experiment_search import SearchSettings
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.training.branches import BranchJob, train_branches
from aebnas.training.features import FeatureStore
from benchmarks import search as benchmark
from benchmarks.hypervolume import Contest, Run, judged
from benchmarks.launch import run_search, start_run
from benchmarks.rate import best_point, reference_networks
from benchmarks.reference import evaluate, run_candidates
from benchmarks.replay import CPU, Step, Theatre
from benchmarks.section import Section
from benchmarks.table import Table, VirtualClock
from benchmarks.threshold_loop import ThresholdLoop, score_of

_RANDOM = {"sampler": "random", "starts": False, "rungs": False, "surrogate": False}
CONV = PartSpec.of("conv", kernel=1)


@pytest.fixture(scope="module")
def features(prepared, tmp_path_factory):
    return FeatureStore(
        prepared.backbone,
        prepared.data,
        folder=tmp_path_factory.mktemp("features"),
        key=prepared.fingerprint,
        budget_gib=1,
        device=CPU,
        progress=Progress(),
    )


@pytest.fixture(scope="module")
def quick_home(tmp_path_factory):
    return tmp_path_factory.mktemp("quick")


def test_the_loop_of_the_reference_finds_what_the_solver_finds():
    generator = np.random.default_rng(0)
    confidences, correct = generator.random((2, 60), dtype=np.float32), generator.random((3, 60)) < 0.7

    def cost_of(mask):
        return np.array([[10.0, 20.0, 30.0]]) + np.cumsum([*mask, False])

    loop = ThresholdLoop(confidences, correct, cost_of, 18.0)
    best, winner = loop.best(loop.combinations((0.25, 0.5)))
    grids = [np.array([0.25, 0.5], dtype=np.float32)] * 2
    ours = solve(confidences, correct, cost_of, Target(18.0, "two-sided"), grids=grids)
    assert len(loop.combinations((0.25, 0.5))) == 9
    assert score_of(ours.accuracy, ours.costs[0], 18.0) == pytest.approx(best, abs=1e-9)
    assert loop.score(winner) == best


def test_a_virtual_clock_counts_work_and_trainings_but_nothing_away():
    now = [100.0]
    clock = VirtualClock(4.0, lambda: now[0])
    now[0] += 2
    with clock.away():
        now[0] += 50
    clock.train(1.5)
    assert clock() == pytest.approx(2 + 4 * 1.5)
    assert clock.trained_s == 6.0


def test_a_table_answers_as_training_would_and_charges_for_what_was_asked(prepared, features, toy_experiment, tmp_path):
    settings = toy_experiment().regime
    point = prepared.backbone.attach_points[0].name
    spec = BranchSpec(point, (CONV, PartSpec.of("batch-norm"), PartSpec.of("relu")))
    given = (features, prepared.backbone, settings, settings.training)
    common = {"samples": 100, "seed": 0, "device": CPU}
    clock = VirtualClock()
    table = Table(tmp_path / "table", "context", clock)

    (whole,) = table.teach([BranchJob(spec)], *given, **common)
    (real,) = train_branches([BranchJob(spec)], *given, **common)
    assert whole.accuracies == real.accuracies
    assert whole.paused is None
    assert torch.equal(whole.validation_logits, real.validation_logits.half().float())
    epochs, seconds = settings.training.epochs, clock.trained_s
    assert (table.branches, table.epochs) == (1, epochs)
    assert seconds > 0

    (stopped,) = table.teach([BranchJob(spec)], *given, **common, watch=lambda number, done, accuracy: done < 2)
    (paused,) = train_branches([BranchJob(spec)], *given, **common, watch=lambda number, done, accuracy: done < 2)
    assert stopped.accuracies == paused.accuracies
    assert torch.equal(stopped.validation_logits, paused.validation_logits.half().float())
    assert clock.trained_s == pytest.approx(seconds * (1 + 2 / epochs))

    (gone_on,) = table.teach([BranchJob(spec, stopped.paused)], *given, **common)
    assert gone_on.accuracies == whole.accuracies
    assert clock.trained_s == pytest.approx(2 * seconds)
    assert (table.branches, table.epochs) == (2, 2 * epochs)


def test_a_replayed_search_is_the_same_again(toy_experiment, tmp_path):
    theatre = Theatre.open(toy_experiment(), tmp_path, train=120, scale=1.0, progress=Progress())
    assert len(theatre.prepared.data.train) == 120
    first, second = (theatre.replay({"search.trials": 5, "search.sampler": "random"}, 0) for _ in range(2))
    assert [step.hypervolume for step in first] == [step.hypervolume for step in second]
    assert [step.trained_s for step in first] == [step.trained_s for step in second]
    assert len(first) == 5
    times = [step.seconds for step in first]
    assert times == sorted(times)


def test_hypervolume_over_time_by_hand():
    run = Run({}, 0, [Step(2.0, 1.0, 0.5, 1, 1), Step(6.0, 1.0, 0.8, 1, 1), Step(12.0, 1.0, 0.9, 1, 1)])
    assert [run.at(seconds) for seconds in (1, 2, 11, 12)] == [0.0, 0.5, 0.8, 0.9]
    # Nothing for 2 s, 0.5 for 4 s, 0.8 for 4 s.
    assert run.mean_until(10.0) == pytest.approx((0.5 * 4 + 0.8 * 4) / 10)


def test_the_default_and_random_are_among_what_is_compared(toy_experiment):
    contest = Contest(toy_experiment(), None, 10.0, 1.0, ("nsga2", "tpe", "gp", "random"), 3)
    variants = contest.variants()
    assert len({json.dumps(variant) for variant in variants}) == len(variants) == 11
    runs = [
        Run(variant, seed, [Step(1.0, 1.0, number / 100, 1, 1)])
        for number, variant in enumerate(variants)
        for seed in (0, 1)
    ]
    figures = judged(runs, contest).figures
    default = next(number for number, variant in enumerate(variants) if variant["sampler"] == SearchSettings().sampler)
    assert figures["hypervolume_default"] == pytest.approx(default / 100)
    plain = next(number for number, variant in enumerate(variants) if variant == {**variant, **_RANDOM})
    assert figures["hypervolume_random"] == pytest.approx(plain / 100)


def test_the_reference_trains_and_chooses_thresholds_by_its_grid(toy_experiment, prepared, tmp_path):
    experiment, folder = toy_experiment(), RunFolder(tmp_path / "run")
    specs = reference_networks(experiment, prepared, 2)
    # The same attach points, the same cost apart; the layers are drawn.
    assert len({tuple(branch.attach for branch in spec.branches) for spec in specs}) == 1
    exits = len(specs[0].branches)
    target = prepared.backbone.macs / 2
    here = evaluate(experiment, folder, specs[0], target=target, samples=64, epochs=1)
    assert 0 <= here.accuracy <= 1
    assert len(here.thresholds) == exits
    assert here.score == pytest.approx(score_of(here.accuracy, here.macs, target))
    # In a process of its own, it is the same.
    (there,), seconds = run_candidates(
        experiment, folder.path, specs[:1], target=target, samples=64, epochs=1, processes=1
    )
    assert (there.accuracy, there.macs, there.thresholds) == (here.accuracy, here.macs, here.thresholds)
    assert there.total_s <= seconds


def test_a_candidate_of_the_reference_that_fails_says_why(toy_experiment, tmp_path):
    nowhere = NetworkSpec((BranchSpec("nowhere"),))
    with pytest.raises(RuntimeError, match=r"candidate 0 of the reference failed[^$]*nowhere"):
        run_candidates(toy_experiment(), tmp_path / "run", [nowhere], target=1.0, samples=64, epochs=1, processes=1)


def test_a_search_in_processes_of_its_own_tells_its_trials_and_memory(toy_experiment, finished, tmp_path):
    experiment = toy_experiment(search__trials=3, search__finalists=1)
    start_run(experiment, tmp_path / "run", finished.folder.path)
    found = run_search(experiment, tmp_path / "run", memory=True)
    assert len(found.trials) == 3
    assert 0 < found.trials_s < found.total_s
    assert found.per_hour == pytest.approx(3600 * 3 / found.trials_s)
    assert 0.05 < found.peak_gib < 20
    target = finished.prepared().backbone.macs / 2
    score, accuracy, macs = best_point(RunFolder(tmp_path / "run"), target)
    assert score == pytest.approx(score_of(accuracy, macs, target))
    with pytest.raises(RuntimeError, match=r"differs"):
        run_search(toy_experiment(search__trials=3, seed=5), tmp_path / "run")


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("hypervolume", {"hypervolume_default", "hypervolume_random"}),
        ("scaling", {"scaling_2_workers"}),
        ("storage", set()),
        ("memory", {"peak_memory_over_budget_gib"}),
        ("accelerator", {"candidates_per_minute_cpu"}),
        ("rate", {"candidates_per_hour_ratio", "candidates_per_hour_ratio_joint"}),
    ],
)
def test_each_section_runs_in_the_quick_form(section, keys, quick_home):
    file = quick_home / "figures.json"
    words = ["--quick", "--only", section, "--json", str(file), "--run-dir", str(quick_home / "run")]
    assert benchmark.main(words) == 0
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert keys <= figures.keys()
    assert all(value is None or isinstance(value, (int, float, str)) for value in figures.values())


def test_sections_add_to_the_figures_that_are_there(tmp_path, monkeypatch, capsys):
    file = tmp_path / "figures.json"
    for name, value in (("storage", 1.0), ("memory", 2.0), ("storage", 3.0)):
        monkeypatch.setitem(benchmark.SECTIONS, name, lambda _, name=name, value=value: Section({name: value}, []))
        assert benchmark.main(["--only", name, "--json", str(file), "--run-dir", str(tmp_path)]) == 0
    assert json.loads(file.read_text(encoding="utf-8")) == {"storage": 3.0, "memory": 2.0}
    file.write_text("[1]")
    assert benchmark.main(["--only", "storage", "--json", str(file), "--run-dir", str(tmp_path)]) == 2
    assert "holds no figures" in capsys.readouterr().err
