"""A search by balanced accuracy on unbalanced data, from the first epoch to what is exported."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from aebnas.branches.spec import BranchSpec, NetworkSpec
from aebnas.cli import main
from aebnas.comparing.compare import compare
from aebnas.diagnosing.diagnosis import diagnose
from aebnas.diagnosing.of_export import subject_of_export
from aebnas.diagnosing.of_run import subject_of_run
from aebnas.errors import RunError
from aebnas.exits.accuracy import accuracy_of, largest_deviation
from aebnas.exits.confidence import build_confidence
from aebnas.exits.curve import Curve
from aebnas.exits.decision import answers_of
from aebnas.exits.policy import thresholds_from_json
from aebnas.exits.tuning import evaluate_answers
from aebnas.export.manifest import read_manifest
from aebnas.export.session import EarlyExitSession
from aebnas.export.source import test_images as images_of_test
from aebnas.progress import Progress
from aebnas.report.front import Front
from aebnas.report.table import notes
from aebnas.report.uncertainty import Uncertainty
from aebnas.run import Run
from aebnas.run_folder import RunFolder
from aebnas.searching.evaluation import Evaluation, StaticPoint
from aebnas.searching.plan import Plan
from aebnas.searching.rungs import Ledger, Rule
from aebnas.searching.search import search
from aebnas.searching.workplace import _deviation

CPU = torch.device("cpu")


class Heard(Progress):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def unbalanced(toy_files, toy_experiment):
    """The toy data with a class that is ten times as rare as the others."""
    path = toy_files / "unbalanced.npz"
    with np.load(toy_files / "data.npz") as arrays:
        parts = {}
        for name, rare in (("train", 8), ("test", 6)):
            labels = arrays[f"y_{name}"]
            most = {2: rare}
            rows = np.concatenate([np.flatnonzero(labels == label)[: most.get(label)] for label in range(4)])
            parts |= {f"x_{name}": arrays[f"x_{name}"][rows], f"y_{name}": labels[rows]}
        np.savez(path, **parts)

    def make(**options):
        return toy_experiment(data__path=str(path), name="unbalanced", accuracy="balanced", **options)

    return make


@pytest.fixture(scope="module")
def heard():
    return Heard()


@pytest.fixture(scope="module")
def run(unbalanced, heard, tmp_path_factory):
    options = {"regime__training__class_weights": "balanced", "backbone_training__class_weights": "balanced"}
    return search(unbalanced(**options), run_dir=tmp_path_factory.mktemp("balanced") / "run", progress=heard)


@pytest.fixture(scope="module")
def finalist(run):
    return next(row for row in run.rows if row["finalist"])


def balanced(predicted, labels):
    truth = labels.numpy()
    return accuracy_of(np.asarray(predicted) == truth, truth, "balanced")


def test_the_front_is_told_in_balanced_accuracy(run):
    prepared = run.prepared()
    for split, column in (("validation", "accuracy_val"), ("test", "accuracy_test")):
        part = getattr(prepared.data, split)
        (batch,) = part.batches(1024)
        said = prepared.backbone(batch.images).argmax(1)
        row = next(row for row in run.rows if row["id"] == "backbone")
        assert row[column] == pytest.approx(balanced(said, part.labels), abs=1e-6)


def test_how_sure_it_is_can_be_told_without_the_data(run):
    data, sure = run.prepared().data, Uncertainty.of(run.experiment, run.summary(), None)
    for split in ("validation", "test"):
        counts = np.bincount(getattr(data, split).labels.numpy())
        assert len(set(counts)) > 1 and sure.counts[split].tolist() == counts.tolist()
        assert sure.half(0.9, split) == pytest.approx(1.96 * largest_deviation(0.9, counts))


def test_finalists_are_tuned_and_tested_by_it(run, finalist):
    for split, column in (("validation", "accuracy_val"), ("test", "accuracy_test")):
        part = getattr(run.prepared().data, split)
        said = subject_of_run(run, finalist["id"]).splits[split].logits
        measure, thresholds = build_confidence(finalist["confidence"]), thresholds_from_json(finalist["thresholds"])
        points = {
            kind: evaluate_answers(
                answers_of(measure, said, part.labels, accuracy=kind), lambda mask: np.zeros((1, 3)), thresholds
            )
            for kind in ("plain", "balanced")
        }
        assert finalist[column] == pytest.approx(points["balanced"].accuracy, abs=1e-6)
        # Shares are of the samples as they come.
        if split == "validation":
            assert finalist["exit_shares"] == pytest.approx(list(points["plain"].exit_shares))


def test_the_export_knows_and_measures_it(run, finalist, tmp_path, capsys):
    out = run.export(finalist, tmp_path / "out")
    assert json.loads((out / "manifest.json").read_text())["extra"]["accuracy"] == "balanced"
    session = EarlyExitSession(out)
    images, labels = images_of_test(read_manifest(out))
    predicted = session.run(images, "staged")
    assert predicted.names == [str(label) for label in predicted.labels]
    assert main(["evaluate", str(out), "--json", "--per-class"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx((predicted.labels == labels).mean())
    assert found["balanced_accuracy"] == pytest.approx(finalist["accuracy_test"], abs=1e-6)
    per_class = found["per_class"]
    assert [one["name"] for one in per_class] == ["0", "1", "2", "3"]
    assert np.mean([one["recall"] for one in per_class]) == pytest.approx(found["balanced_accuracy"])
    for one in per_class:
        own = labels == one["label"]
        assert one["samples"] == own.sum()
        assert one["recall"] == pytest.approx((predicted.labels == labels)[own].mean())
        assert one["exit_shares"] == pytest.approx(
            [(predicted.exits[own] == exit_).mean() for exit_ in range(session.num_exits)]
        )
        assert one["latency_ms_mean"] > 0
    assert main(["evaluate", str(out), "--json"]) == 0
    assert "per_class" not in json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(out), "--per-class"]) == 0
    shown = capsys.readouterr().out
    assert "balanced" in shown and "Class by class" in shown


def test_a_diagnosis_of_either_tells_it(run, finalist, tmp_path):
    of_run = diagnose(subject_of_run(run, finalist["id"]))
    of_export = diagnose(subject_of_export(run.export(finalist, tmp_path / "out")))
    for found in (of_run, of_export):
        values = found.to_json()
        assert values["accuracy"] == "balanced" and "mean over classes" in values["definitions"]["accuracy"]
        assert values["test"]["accuracy"] == pytest.approx(finalist["accuracy_test"], abs=1e-6)
        recalls = [one["recall"] for one in values["test"]["classes"]]
        assert np.mean(recalls) == pytest.approx(values["test"]["accuracy"])
        assert [one["samples"] for one in values["test"]["classes"]] == [30, 30, 6, 30]
        assert values["test"]["oracle"]["accuracy"] >= values["test"]["accuracy"]
        best = max(tuned.points["validation"].accuracy for tuned in found.curve)
        assert best >= values["validation"]["accuracy"] - 1e-9


def test_it_is_said_in_words(run, heard):
    assert any("balanced accuracy on validation" in text for text in heard.said)
    assert not any("leaves such classes out" in text for text in heard.said)


def test_a_class_without_samples_is_told_once(run, unbalanced, tmp_path):
    data = run.prepared().data
    test = data.test.subset(torch.nonzero(data.test.labels != 1)[:, 0])
    given = unbalanced().model_copy(update={"datasets": dataclasses.replace(data, test=test)})
    heard = Heard()
    search(given, run_dir=tmp_path / "run", progress=heard)
    notes = [text for text in heard.said if "leaves such classes out" in text]
    assert notes == ["note: test has no sample of 1: balanced accuracy leaves such classes out"]


def test_another_accuracy_is_another_run(run, unbalanced):
    with pytest.raises(RunError, match="accuracy differs"):
        search(run.experiment.override({"accuracy": "plain"}), run_dir=run.folder.path)


def test_what_is_trained_by_another_accuracy_has_another_key(unbalanced):
    spec = NetworkSpec((BranchSpec("a"),))
    keys = [
        Plan(spec, "search", experiment, "data").branch_keys
        for experiment in (
            unbalanced(),
            unbalanced().override({"accuracy": "plain"}),
            unbalanced(regime__training__class_weights="balanced"),
        )
    ]
    assert len({tuple(key) for key in keys}) == 3
    assert "class_weights" not in Plan(spec, "search", unbalanced(), "data").context


def test_a_pick_by_accuracy_is_by_the_balanced_one(run):
    best = max(row["accuracy_val"] for row in run.rows if not row["static"])
    assert run.pick(min_accuracy=best)["accuracy_val"] == best
    with pytest.raises(RunError, match="no point has a"):
        run.pick(min_accuracy=min(1.0, best + 0.01))


def test_the_slack_of_rungs_is_that_of_a_balanced_accuracy(run):
    deviation = _deviation(run.experiment, run.prepared())
    counts = torch.bincount(run.prepared().data.validation.labels).tolist()
    assert deviation(0.8) == largest_deviation(0.8, counts)
    assert deviation(0.8) > np.sqrt(0.8 * 0.2 / sum(counts))
    assert _deviation(run.experiment.override({"accuracy": "plain"}), run.prepared()) is None


def test_a_ledger_asks_how_much_an_accuracy_may_be_off():
    """Two finished branches gained nothing: what is 0.1 below the backbone goes on only if it may be off by so much."""

    def finished(key):
        static, spec = StaticPoint(0.8, {"macs": 9.0}), NetworkSpec((BranchSpec(key),))
        weights = {"branches": [key]}
        return Evaluation(spec, "search", ("macs",), Curve(()), (static,), weights, 1.0, None, ((0.8, 0.8),), (None,))

    for off, hopeless in ((0.01, True), (0.06, False)):
        made = Ledger(
            ("macs",),
            StaticPoint(0.9, {"macs": 10.0}),
            10_000,
            Rule(extra=0.0, deviations=2.0, fewest=2),
            deviation=lambda accuracy, off=off: off,
        )
        for key in ("x", "y"):
            made.add(finished(key))
        assert made.hopeless(NetworkSpec((BranchSpec("a"),)), {"macs": 20.0}, [0.8]) == hopeless


def test_a_comparison_tells_it_too(unbalanced, tmp_path):
    options = {"compare__variants": ("disjoint",), "compare__exits": 2, "compare__epochs": 4, "compare__seeds": 1}
    found = compare(unbalanced(**options), run_dir=tmp_path / "one")
    (result,) = found.results["disjoint"].values()
    assert {round(12 * 2 * 3 * 30 * accuracy, 6) % 1 for accuracy in result.accuracies_test} == {0.0}
    plain = compare(unbalanced(**options).override({"accuracy": "plain"}), run_dir=tmp_path / "two")
    (other,) = plain.results["disjoint"].values()
    assert {round(96 * accuracy, 6) % 1 for accuracy in other.accuracies_test} == {0.0}
    kept = [json.loads((tmp_path / name / "about.json").read_text())["accuracy"] for name in ("one", "two")]
    assert kept == ["balanced", "plain"]


def test_a_run_of_before_goes_on(finished, tmp_path):
    """An experiment file without the key is one by plain accuracy."""
    text = finished.folder.experiment_file.read_text()
    assert "accuracy: plain" in text
    kept = RunFolder(tmp_path)
    kept.experiment_file.write_text("".join(line for line in text.splitlines(True) if not line.startswith("accuracy:")))
    assert Run(tmp_path).experiment.accuracy == "plain"


def test_the_table_says_which_accuracy_it_holds(run, finished):
    said = [" ".join(notes(Front.of(one), 5)) for one in (run, finished)]
    assert ["balanced accuracy" in text for text in said] == [True, False]
