"""Whole searches: what they find, and what they do when something goes wrong on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
import yaml
from optuna.trial import TrialState
from torch.utils.data import TensorDataset

import aebnas
from aebnas.backbones.build import build_backbone
from aebnas.branches.spec import BranchSpec, NetworkSpec
from aebnas.costs.macs import count_macs
from aebnas.data.splits import TensorSplit
from aebnas.errors import ExperimentError, RunError, RunFailed, TrainingError
from aebnas.exits.curve import Curve
from aebnas.experiment import Experiment
from aebnas.experiment_search import SAMPLERS
from aebnas.export.session import EarlyExitSession
from aebnas.progress import Progress, Stage
from aebnas.rebuild import rebuild
from aebnas.run import Run
from aebnas.searching import joining
from aebnas.searching import search as search_module
from aebnas.searching import trainer as trainer_module
from aebnas.searching import verify as verify_module
from aebnas.searching import workplace as workplace_module
from aebnas.searching.loop import Archive
from aebnas.searching.rows import spec_of
from aebnas.searching.rungs import Ledger
from aebnas.searching.search import search

VARYING = ("latency_ms_measured", "backbone_ms_measured", "speedup_measured")


@pytest.fixture
def trained(monkeypatch):
    """Every branch that is trained, as (specification, epochs)."""
    calls, real = [], trainer_module.train_branches

    def spy(jobs, features, backbone, regime, training, **options):
        calls.extend((job.spec.key, training.epochs) for job in jobs)
        return real(jobs, features, backbone, regime, training, **options)

    monkeypatch.setattr(trainer_module, "train_branches", spy)
    return calls


def fail_in_training(monkeypatch, when, error):
    real = trainer_module.train_branches

    def train(jobs, features, backbone, regime, training, *, done, watch=None, **options):
        for number, job in enumerate(jobs):
            if when(job.spec, training):
                raise error
            kept = partial(lambda number, _, trained: done(number, trained), number)
            asked = watch and partial(lambda number, _, *what: watch(number, *what), number)
            real([job], features, backbone, regime, training, done=kept, watch=asked, **options)

    monkeypatch.setattr(trainer_module, "train_branches", train)


def study_of(run):
    return optuna.load_study(study_name="aebnas", storage=f"sqlite:///{run.folder.study_file}")


def exported_accuracy(run, point, split):
    images = torch.cat([batch.images for batch in split.batches(512)]).numpy()
    predicted = EarlyExitSession(run.folder.exports / point["id"]).run(images, mode="staged")
    return float((predicted.labels == split.labels.numpy()).mean())


def check_verified(run):
    """Finalists and static networks: the accuracies of their rows are those of their exported files."""
    data = run.prepared().data
    verified = [row for row in run.rows if row["finalist"] or row["static"]]
    for row in verified:
        for column, split in (("accuracy_test", data.test), ("accuracy_val", data.validation)):
            assert row[column] == pytest.approx(exported_accuracy(run, row, split), abs=1 / len(split) + 1e-6), row[
                "id"
            ]
    return verified


def test_finalists_and_static_networks_are_what_their_files_are(finished):
    verified = check_verified(finished)
    assert sum(row["finalist"] for row in verified) >= 2
    assert {row["id"].partition("-")[0] for row in verified if row["static"]} == {"backbone", "cut"}
    assert all(row["accuracy_test"] is None for row in finished.rows if row not in verified)
    assert all(row["latency_ms_measured"] is None for row in finished.rows)  # the device is not here


def test_mean_macs_are_exit_shares_times_what_is_executed(finished):
    backbone = finished.prepared().backbone
    names = [point.name for point in backbone.attach_points]
    early = [row for row in finished.rows if not row["static"]]
    for row in early:
        network = rebuild(row, finished.prepared(), finished.folder)
        passed, mean = 0.0, 0.0
        exits = zip(row["exits"], network.branches, row["thresholds"], row["exit_shares"], strict=False)
        for spec, branch, threshold, share in exits:
            if threshold is not None:
                point = names.index(spec["attach"])
                passed += count_macs(branch, backbone.attach_points[point].shape).macs
                mean += share * (count_macs(backbone.span(0, point + 1), backbone.input_shape).macs + passed)
        mean += row["exit_shares"][-1] * (count_macs(backbone.span(0, 3), backbone.input_shape).macs + passed)
        assert row["macs_mean"] == pytest.approx(mean)


def test_the_test_split_is_not_read_before_the_finalists(toy_data, toy_experiment, tmp_path, monkeypatch):
    class Sealed(TensorSplit):
        broken = False

        def __getattribute__(self, name):
            if name in ("images", "labels", "batches", "subset", "raw") and not Sealed.broken:
                raise AssertionError("the test split was read")
            return super().__getattribute__(name)

    def unseal(*args, **options):
        Sealed.broken = True
        return real(*args, **options)

    test = object.__new__(Sealed)
    test.__dict__.update(toy_data.test.__dict__)
    real = search_module.verify
    values = toy_experiment().model_dump() | {"datasets": dataclasses.replace(toy_data, test=test)}
    with pytest.raises(AssertionError, match="the test split was read"):
        test.labels
    monkeypatch.setattr(search_module, "verify", unseal)
    assert search(Experiment(**values), run_dir=tmp_path / "run").rows
    assert Sealed.broken


def test_the_same_seed_finds_the_same_front(finished, toy_experiment, tmp_path):
    again = search(toy_experiment(), run_dir=tmp_path / "run")
    assert again.rows == finished.rows


def test_searching_again_trains_nothing_and_keeps_the_front(copied, toy_experiment, trained):
    before = copied.rows
    again = search(toy_experiment(), run_dir=copied.folder.path)
    assert trained == []
    assert again.rows == before


def test_a_search_goes_on_with_more_trials(copied, toy_experiment, trained):
    earlier = study_of(copied).trials
    before = copied.summary()
    more = search(toy_experiment(search__trials=7), run_dir=copied.folder.path)
    trials = study_of(more).trials
    assert [(t.params, t.values) for t in trials[:4]] == [(t.params, t.values) for t in earlier]
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == 7
    assert more.summary()["hypervolume"] >= before["hypervolume"] - 1e-9
    assert more.experiment.search.trials == 7
    # What was trained before, with as many epochs, is not trained again.
    assert len(set(trained)) == len(trained)
    volumes = [trial.user_attrs["hypervolume"] for trial in trials]
    assert volumes == sorted(volumes)


def test_an_interrupted_search_goes_on(toy_experiment, finished, tmp_path, monkeypatch, trained):
    spec_count = []
    with monkeypatch.context() as patch:
        fail_in_training(patch, lambda *_: spec_count.append(1) or len(spec_count) == 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            search(toy_experiment(), run_dir=tmp_path / "run")
    done = len(trained)
    assert done == 1
    with pytest.raises(RunError, match="has no front yet"):
        Run(tmp_path / "run").rows
    run = search(toy_experiment(), run_dir=tmp_path / "run")
    trials = study_of(run).trials
    assert [trial.state for trial in trials if trial.state not in (TrialState.COMPLETE, TrialState.WAITING)] == [
        TrialState.FAIL
    ]
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == 4
    assert len(set(trained)) == len(trained)
    check_verified(run)


def test_an_interruption_among_the_finalists_costs_no_training(
    toy_experiment, tmp_path, monkeypatch, trained, finished
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(verify_module, "export_row", interrupt)
        with pytest.raises(KeyboardInterrupt):
            search(toy_experiment(), run_dir=tmp_path / "run")
    trained.clear()
    assert search(toy_experiment(), run_dir=tmp_path / "run").rows == finished.rows
    assert trained == []


def test_a_failing_candidate_is_recorded_and_the_search_goes_on(toy_experiment, tmp_path, monkeypatch):
    fail_in_training(monkeypatch, lambda spec, _: spec.layers, TrainingError("the loss is nan"))
    run = search(toy_experiment(search__trials=5), run_dir=tmp_path / "run")
    trials = study_of(run).trials
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert failed
    assert all(trial.user_attrs["failure"] == "the loss is nan" for trial in failed)
    assert len([trial for trial in trials if trial.state == TrialState.COMPLETE]) + len(failed) == 5
    assert run.summary()["failed"] >= 1
    assert not any(spec["layers"] for row in run.rows for spec in row["exits"])


def test_where_every_candidate_fails_the_reason_is_told(toy_experiment, tmp_path, monkeypatch):
    fail_in_training(monkeypatch, lambda *_: True, TrainingError("the loss is nan: lower the learning rate"))
    with pytest.raises(RunFailed, match=r"^every candidate failed; the first reason: the loss is nan"):
        search(toy_experiment(search__trials=2), run_dir=tmp_path / "run")


def test_a_finalist_that_fails_to_retrain_leaves_the_others_standing(toy_experiment, tmp_path, monkeypatch, finished):
    def has_layers(row):
        return any(spec["layers"] for spec in row["exits"])

    assert {has_layers(row) for row in finished.rows if row["finalist"]} == {True, False}
    fail_in_training(
        monkeypatch,
        lambda spec, training: training.epochs == 4 and spec.layers,
        TrainingError("the loss is nan"),
    )
    seen = Seen()
    run = search(toy_experiment(), run_dir=tmp_path / "run", progress=seen)
    assert {label for label, *_ in seen.stages} >= {"retraining finalists", "retraining truncated networks"}
    records = [json.loads(path.read_text()) for path in run.folder.evaluations.iterdir()]
    assert any(record["budget"] == "final" and record["failure"] == "the loss is nan" for record in records)
    # What is left of the failed network are points as they were searched.
    assert not any(row["finalist"] or row["static"] for row in run.rows if has_layers(row))
    assert any(row["finalist"] for row in run.rows)
    assert run.export(run.pick(), tmp_path / "out")


def test_no_network_on_the_front_was_stopped_also_where_finalists_became_worse(toy_experiment, tmp_path, monkeypatch):
    class Stern(Ledger):
        def hopeless(self, spec, costs, curve):
            return True

    def worse(rows, evaluator, progress):
        finals = retrain(rows, evaluator, progress)
        curves = [[dataclasses.replace(point, accuracy=0.1) for point in final.curve.points] for final in finals]
        # What is cut off counts for nothing here, so that it beats nobody.
        pairs = zip(finals, curves, strict=True)
        return [dataclasses.replace(final, curve=Curve(tuple(points)), truncated=()) for final, points in pairs]

    def instead_of_all_others(archive, final):
        left = {key: one for key, one in archive.evaluations.items() if one.partial or one.budget == "final"}
        archive.evaluations = {**left, final.spec.key: final}

    retrain = search_module.retrain
    monkeypatch.setattr(workplace_module, "Ledger", Stern)
    monkeypatch.setattr(search_module, "retrain", worse)
    monkeypatch.setattr(search_module, "retrain_truncated", lambda *_: None)
    monkeypatch.setattr(Archive, "replace", instead_of_all_others)
    monkeypatch.setattr(Archive, "statics", lambda archive: [archive.backbone])
    run = search(toy_experiment(search__trials=6), run_dir=tmp_path / "run")
    records = [json.loads(path.read_text()) for path in run.folder.evaluations.glob("*.json")]
    stopped = [record["weights"] for record in records if any(record["epochs"])]
    assert any(not row["static"] and not row["finalist"] for row in run.rows)
    assert not [row["id"] for row in run.rows if row["weights"] in stopped]


def test_where_no_finalist_can_be_retrained_the_search_has_failed(toy_experiment, tmp_path, monkeypatch):
    fail_in_training(monkeypatch, lambda _, training: training.epochs == 4, TrainingError("the loss is nan"))
    with pytest.raises(RunFailed, match=r"^no finalist is left: all failed when they were retrained"):
        search(toy_experiment(), run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "front.json").exists()


def test_static_networks_have_the_full_budget_and_nothing_on_the_front_is_below_them(toy_experiment, tmp_path, trained):
    run = search(toy_experiment(), run_dir=tmp_path / "run")
    cut = [row for row in run.rows if row["static"] and row["id"] != "backbone"]
    assert cut
    for row in cut:
        (branch,) = map(BranchSpec.from_json, row["exits"])
        assert (branch.key, 4) in trained
        assert row["id"] == f"cut-{row['weights']['branches'][0][:8]}"
    statics = [(row["accuracy_val"], row["macs_mean"]) for row in run.rows if row["static"]]
    for row in run.rows:
        if not row["static"] and not row["finalist"]:
            here = (row["accuracy_val"], row["macs_mean"])
            assert not any(a >= here[0] and m <= here[1] and (a, m) != here for a, m in statics)


@pytest.fixture
def limited_device(tmp_path):
    def make(**limits):
        path = tmp_path / "limited.yaml"
        path.write_text(f"name: limited\ndescription: d\nconnection: none\nlimits: {json.dumps(limits)}\n")
        return str(path)

    return make


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_searches_within_limits(toy_experiment, tmp_path, limited_device, sampler):
    device = limited_device(macs_m=0.018)
    run = search(
        toy_experiment(search__sampler=sampler, search__trials=4, search__finalists=1, device=device),
        run_dir=tmp_path / "run",
    )
    early = [row for row in run.rows if not row["static"]]
    assert any(row["finalist"] for row in early)
    assert all(row["macs_mean"] <= 18_000 for row in early)
    assert all(trial.constraints.keys() == {"macs"} for trial in study_of(run).trials if trial.values)


def test_limits_that_nothing_meets_name_the_nearest_and_what_to_relax(toy_experiment, tmp_path, limited_device):
    with pytest.raises(RunFailed) as caught:
        search(toy_experiment(search__trials=2, device=limited_device(macs_m=0.001)), run_dir=tmp_path / "run")
    nearest = min(
        point["costs"][0]
        for path in (tmp_path / "run" / "evaluations").iterdir()
        for point in json.loads(path.read_text())["curve"]
    )
    message = str(caught.value)
    assert "no candidate meets the limits" in message
    assert f"macs_m {nearest / 1e6:.4g} against a limit of 0.001" in message
    assert "relax limits.macs_m" in message


@pytest.mark.parametrize("rule", ["at-most", "two-sided"])
def test_a_target_is_what_trials_report(toy_experiment, tmp_path, rule):
    experiment = toy_experiment(
        search__target={"cost": "macs", "value": 17_000.0, "rule": rule}, search__starts=True, search__trials=2
    )
    run = search(experiment, run_dir=tmp_path / "run")
    for trial in study_of(run).trials:
        accuracy, macs = trial.values
        assert 0 < accuracy < 1
        assert macs <= 17_000 or rule == "two-sided"
    assert run.rows


def test_latency_of_a_device_that_is_not_here_is_refused_before_any_work(toy_experiment, tmp_path):
    with pytest.raises(
        ExperimentError, match=r"latency_ms can be no objective.*set search\.objectives to \[accuracy, m"
    ):
        search(toy_experiment(search__objectives=["accuracy", "latency_ms"]), run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "backbone.pt").exists()


def test_a_search_on_this_machine_measures(toy_experiment, tmp_path):
    experiment = toy_experiment(device="local", search__objectives=["accuracy", "latency_ms"], search__trials=2)
    run = search(experiment, run_dir=tmp_path / "run")
    assert all(row["latency_ms_mean"] > 0 for row in run.rows)
    measured = [row for row in run.rows if row["latency_ms_measured"] is not None]
    assert {row["id"] for row in measured} == {row["id"] for row in check_verified(run)}
    assert all(row["latency_ms_measured"] > 0 and row["backbone_ms_measured"] > 0 for row in measured)
    for row in measured:
        manifest = json.loads((run.folder.exports / row["id"] / "manifest.json").read_text())
        names = ("macs_mean", "latency_ms_mean", "latency_ms_measured")
        assert {*names, "model_mib"} <= manifest["costs"].keys()
        assert manifest["costs"].items() <= row.items()
        if row["id"] == "backbone":
            assert row["speedup_measured"] == 1.0
            assert row["latency_ms_measured"] == row["backbone_ms_measured"]
        else:
            assert row["speedup_measured"] == pytest.approx(row["backbone_ms_measured"] / row["latency_ms_measured"])


@pytest.mark.parametrize("regime", ["joint", "mixed"])
def test_a_regime_that_moves_the_backbone_is_searched_and_exported(toy_experiment, tmp_path, regime):
    run = search(toy_experiment(regime__name=regime, search__trials=2), run_dir=tmp_path / "run")
    verified = check_verified(run)
    assert any(row["finalist"] and "network" in row["weights"] for row in verified)
    assert all(row["regime"] == regime for row in run.rows if not row["static"])
    cut = next(row for row in verified if row["static"] and row["cut"] is not None)
    out = run.export(cut, tmp_path / "out")  # a branch of a network that has its own copy of the backbone
    assert EarlyExitSession(out).num_exits == 1


def test_features_outside_the_budget_find_the_same_networks(finished, toy_experiment, tmp_path):
    run = search(toy_experiment(cache_gib=0.0), run_dir=tmp_path / "run")
    kept, computed = ({row["id"]: row["accuracy_val"] for row in r.rows if row["static"]} for r in (finished, run))
    assert computed["backbone"] == kept["backbone"]
    assert max(computed.values()) == pytest.approx(max(kept.values()), abs=0.05)


def test_own_model_and_data(toy_data, toy_experiment, tmp_path):
    def dataset(split):
        return TensorDataset(torch.cat([batch.images for batch in split.batches(512)]), split.labels)

    torch.manual_seed(0)
    model = build_backbone(toy_experiment().backbone, num_classes=4, input_shape=(1, 8, 8))
    values = toy_experiment(search__trials=2).model_dump()
    bundle = aebnas.bundle_from_datasets(dataset(toy_data.train), dataset(toy_data.test), classes=("a", "b", "c", "d"))
    experiment = aebnas.Experiment(**{**values, "model": model, "datasets": bundle})
    run = aebnas.search(experiment, run_dir=tmp_path / "run")
    check_verified(run)
    session = EarlyExitSession(run.export(run.pick(), tmp_path / "out"))
    assert session.classes == ("a", "b", "c", "d")
    # From the folder alone: what is ready can be had, the rest needs the objects.
    alone = Run(tmp_path / "run")
    alone.export(alone.pick(), tmp_path / "ready")
    rest = next(row for row in alone.rows if not row["finalist"] and not row["static"])
    with pytest.raises(RunError, match="came from Python"):
        alone.export(rest, tmp_path / "rest")
    run.export(rest, tmp_path / "rest")
    with pytest.raises(RunError, match="came from Python"):
        search(Experiment.from_yaml(tmp_path / "run" / "experiment.yaml"), run_dir=tmp_path / "run")


def test_another_experiment_does_not_search_in_the_same_folder(copied, toy_experiment):
    before = copied.folder.experiment_file.read_text()
    with pytest.raises(RunError, match=r"holds a run whose regime\.training\.lr differs"):
        search(toy_experiment(regime__training__lr=0.5), run_dir=copied.folder.path)
    assert copied.folder.experiment_file.read_text() == before


def test_a_second_search_on_a_folder_that_is_held_by_something_else_is_told_by_whom(
    copied, toy_experiment, monkeypatch
):
    monkeypatch.setattr(joining, "PATIENCE_S", 0.5)
    with copied.folder.lock(), pytest.raises(RunError, match=r"is being searched by process \d+"):
        search(toy_experiment(), run_dir=copied.folder.path)


def test_a_second_search_of_another_experiment_is_told_which_key_differs(copied, toy_experiment):
    with copied.folder.lock(), pytest.raises(RunError, match=r"holds a run whose regime\.training\.lr differs"):
        search(toy_experiment(regime__training__lr=0.5), run_dir=copied.folder.path)


def test_a_damaged_database_is_named_and_costs_no_training_when_deleted(copied, toy_experiment, trained):
    path = copied.folder.study_file
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(RunError, match=r"study\.db cannot be used .*delete this one file"):
        search(toy_experiment(), run_dir=copied.folder.path)
    path.unlink()
    before = copied.rows
    assert search(toy_experiment(), run_dir=copied.folder.path).rows == before
    assert trained == []


def test_damaged_evaluations_are_made_again(copied, toy_experiment, trained):
    for path in copied.folder.evaluations.iterdir():
        path.write_text(path.read_text()[:50])
    before = copied.rows
    assert search(toy_experiment(), run_dir=copied.folder.path).rows == before
    assert trained == []  # from the branches that are kept


def test_a_damaged_backbone_is_named_and_made_again(copied, toy_experiment, caplog):
    path, before = copied.folder.backbone_file, copied.rows
    path.write_bytes(path.read_bytes()[:100])
    assert search(toy_experiment(), run_dir=copied.folder.path).rows == before
    assert "backbone.pt is damaged" in caplog.text


def test_a_damaged_branch_is_made_again(copied, toy_experiment):
    before = copied.rows
    path = copied.folder.branches.path(copied.pick()["weights"]["branches"][0])
    path.write_bytes(path.read_bytes()[:-100])
    assert search(toy_experiment(), run_dir=copied.folder.path).rows == before


@pytest.mark.parametrize("step", ["verify", "with_diagnostics"])
def test_a_branch_that_is_damaged_before_the_front_is_written_is_made_again(
    toy_experiment, finished, tmp_path, monkeypatch, caplog, step
):
    real, found = getattr(search_module, step), []

    def damage(rows, *args, **options):
        if not found:
            # Of a finalist first, then of a network that was searched alone.
            row = next(row for row in rows if not row["static"] and row["finalist"] == (step == "verify"))
            found.append(tmp_path / "run" / "branches" / f"{row['weights']['branches'][0]}.pt")
            found[0].write_bytes(found[0].read_bytes()[:-100])
        return real(rows, *args, **options)

    monkeypatch.setattr(search_module, step, damage)
    assert search(toy_experiment(), run_dir=tmp_path / "run").rows == finished.rows
    assert f"{found[0]} is damaged" in caplog.text


def test_no_trial_starts_after_the_time_is_up(copied, toy_experiment, trained):
    stopped = search(toy_experiment(search__trials=50, search__timeout=1e-9), run_dir=copied.folder.path)
    assert trained == []
    assert len(study_of(copied).trials) == 4
    assert (stopped.summary()["trials"], stopped.summary()["stopped_by_timeout"]) == (4, True)
    enough = search(toy_experiment(search__trials=4, search__timeout=1e-9), run_dir=copied.folder.path)
    assert (enough.summary()["trials"], enough.summary()["stopped_by_timeout"]) == (4, False)


class Seen(Progress):
    def __init__(self):
        self.stages, self.lines, self.ends = [], [], {}

    @contextlib.contextmanager
    def stage(self, label, total, done=0):
        counted = Steps()
        yield counted
        self.stages.append((label, total, done, counted.steps))
        self.ends[label] = counted.ends

    def say(self, text):
        self.lines.append(text)


class Steps(Stage):
    steps, ends = 0, None

    def advance(self, steps=1):
        self.steps += steps

    def within(self, seconds):
        self.ends = seconds


def test_the_stage_of_trials_knows_when_it_ends(toy_experiment, copied):
    seen = Seen()
    search(toy_experiment(search__trials=5, search__timeout=600), run_dir=copied.folder.path, progress=seen)
    assert seen.ends["trials (at most 600 s)"] == 600
    search(toy_experiment(search__trials=5), run_dir=copied.folder.path, progress=seen)
    assert seen.ends["trials"] is None


def test_progress_of_a_search_that_goes_on_begins_where_it_stopped(toy_experiment, copied, tmp_path):
    new, more = Seen(), Seen()
    search(toy_experiment(), run_dir=tmp_path / "new", progress=new)
    search(toy_experiment(search__trials=6), run_dir=copied.folder.path, progress=more)
    assert ("trials", 4, 0, 4) in new.stages
    assert ("trials", 6, 4, 2) in more.stages
    retrained = [stage for stage in new.stages if stage[0].startswith("retraining")]
    assert [label for label, *_ in retrained] == ["retraining finalists", "retraining truncated networks"]
    again = Seen()
    search(toy_experiment(), run_dir=tmp_path / "new", progress=again)
    assert ("trials", 4, 4, 0) in again.stages
    assert ("retraining finalists", 0, 0, 0) in again.stages


def test_a_limit_on_the_size_is_met_by_predicted_and_real_files(copied, toy_experiment, limited_device, trained):
    smallest, *_, largest = sorted({row["model_mib"] for row in copied.rows if not row["static"]})
    limit = (smallest + largest) / 2
    run = search(toy_experiment(device=limited_device(model_mib=limit)), run_dir=copied.folder.path)
    early = [row for row in run.rows if not row["static"]]
    assert all(row["model_mib"] <= limit for row in early)
    assert any(row["finalist"] for row in early)
    # Static networks are beside the finalists to compare with, whatever their size.
    for row in run.rows:
        if row["finalist"] or row["static"]:
            size = (run.folder.exports / row["id"] / "model.onnx").stat().st_size / 2**20
            assert row["model_mib_measured"] == size
            assert row["model_mib"] == pytest.approx(size, rel=0.02, abs=0.002)


def test_where_every_file_is_too_large_the_search_has_failed(copied, toy_experiment, limited_device):
    with pytest.raises(RunFailed, match=r"no candidate meets the limits .*: relax limits\.model_mib, or search longer"):
        search(toy_experiment(device=limited_device(model_mib=1e-4)), run_dir=copied.folder.path)


def test_edited_limits_hold_when_a_search_goes_on(copied, toy_experiment, limited_device):
    macs = sorted(row["macs_mean"] for row in copied.rows if not row["static"])
    limit = macs[len(macs) // 2]
    assert macs[-1] > limit
    run = search(toy_experiment(device=limited_device(macs_m=limit / 1e6)), run_dir=copied.folder.path)
    assert all(row["macs_mean"] <= limit for row in run.rows if not row["static"])
    assert any(row["finalist"] for row in run.rows)
    assert run.folder.profile().limits.macs_m == limit / 1e6


@pytest.mark.parametrize(
    ("name", "line", "key"),
    [
        ("device", "threads: 2", r"device\.threads"),
        ("device", "provider: CUDAExecutionProvider", r"device\.provider"),
        ("space", "starts: [[conv1]]", r"space\.starts"),
    ],
)
def test_an_edited_space_or_profile_does_not_go_on(copied, toy_experiment, tmp_path, name, line, key):
    path = tmp_path / f"edited-{name}.yaml"
    path.write_text((Path(getattr(toy_experiment(), name)).read_text()) + line + "\n")
    kept = (copied.folder.path / f"{name}.yaml").read_text()
    with pytest.raises(RunError, match=rf"holds a run whose {key} differs: choose another folder with --run-dir"):
        search(toy_experiment(**{name: str(path)}), run_dir=copied.folder.path)
    assert (copied.folder.path / f"{name}.yaml").read_text() == kept


def test_files_that_moved_or_were_put_in_another_order_go_on(copied, toy_experiment, toy_files, tmp_path, trained):
    for name in ("data.npz", "device.yaml"):
        (tmp_path / name).write_bytes((toy_files / name).read_bytes())
    space = yaml.safe_load((toy_files / "space.yaml").read_text())
    space["heads"] = dict(reversed(space["heads"].items()))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    moved = toy_experiment(
        data__path=tmp_path / "data.npz",
        device=str(tmp_path / "device.yaml"),
        space=str(tmp_path / "space.yaml"),
        search__trials=5,
    )
    run = search(moved, run_dir=copied.folder.path)
    assert run.summary()["trials"] == 5  # whose genes the study knows in their first order
    assert run.summary()["data"] == copied.summary()["data"]
    with np.load(toy_files / "data.npz") as arrays:
        np.savez(tmp_path / "data.npz", **{**arrays, "x_test": arrays["x_test"][::-1]})
    with pytest.raises(RunError, match=r"backbone\.pt belongs to other data or another model"):
        search(moved, run_dir=copied.folder.path)


@pytest.mark.parametrize(("rule", "value"), [("at-most", 16_000.0), ("two-sided", 16_000.0), ("two-sided", 19_000.0)])
def test_the_pick_is_the_best_for_the_target_of_all_retrained_networks(toy_experiment, tmp_path, rule, value):
    run = search(
        toy_experiment(search__target={"cost": "macs", "value": value, "rule": rule}), run_dir=tmp_path / "run"
    )
    finalists = {spec_of(row).key for row in run.rows if row["finalist"]}
    records = [json.loads(path.read_text()) for path in run.folder.evaluations.iterdir()]
    points = [
        (point["accuracy"], point["costs"][0])
        for record in records
        if record["budget"] == "final" and NetworkSpec.from_json(record["spec"]).key in finalists
        for point in record["curve"]
        if max(point["exit_shares"]) < 1
    ]

    def score(accuracy, macs):
        if rule == "at-most":
            return accuracy if macs <= value else -1
        return 100 * accuracy - 10 * abs(macs - value) / value

    pick = run.pick()
    assert pick["finalist"]
    assert score(pick["accuracy_val"], pick["macs_mean"]) == pytest.approx(max(score(*point) for point in points))
    assert rule == "two-sided" or pick["macs_mean"] <= value


def test_an_experiment_file_is_searched_by_its_path(finished, tmp_path):
    run = search(finished.folder.experiment_file, run_dir=tmp_path / "run")
    np.testing.assert_equal(run.rows, finished.rows)
