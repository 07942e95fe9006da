"""A finished run from the outside: its front, a choice from it, its export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import aebnas
from aebnas.errors import RunError, RunFailed
from aebnas.exits.confidence import build_confidence
from aebnas.exits.policy import Policy
from aebnas.experiment import Experiment
from aebnas.experiment_search import TargetSettings
from aebnas.export.session import EarlyExitSession
from aebnas.rebuild import rebuild
from aebnas.run import COLUMNS, Run, best_for_target, cheapest
from aebnas.run_folder import RunFolder

KEYS = {
    "id", "finalist", "static", "exits", "regime", "confidence", "thresholds", "exit_shares", "accuracy_val",
    "accuracy_test", "macs_mean", "latency_ms_mean", "latency_ms_measured",
}  # fmt: skip


def row(name, accuracy, macs, *, finalist=False, static=False, predicted=None, measured=None):
    return {
        "id": name,
        "finalist": finalist,
        "static": static,
        "accuracy_val": accuracy,
        "macs_mean": macs * 1e6,
        "latency_ms_mean": predicted,
        "latency_ms_measured": measured,
    }


ROWS = [
    row("cheap", 0.85, 2, finalist=True, predicted=0.2, measured=0.5),
    row("good", 0.90, 5, finalist=True, predicted=0.6, measured=0.4),
    row("between", 0.88, 1, predicted=0.1),
    row("best", 0.95, 4, predicted=0.3),
    row("cut", 0.99, 0.5, static=True, predicted=0.05),
    row("backbone", 0.90, 10, static=True, predicted=1.0, measured=1.0),
]


@pytest.fixture
def run(tmp_path, start):
    def make(rows=ROWS, **search):
        folder = RunFolder(tmp_path / "run")
        start(folder, Experiment(search=search))
        folder.front_file.write_text(json.dumps(rows))
        return Run(folder.path)

    return make


@pytest.mark.parametrize(
    ("wish", "chosen"),
    [
        ({}, "good"),  # the cheapest finalist that keeps the backbone's accuracy
        ({"id": "between"}, "between"),
        ({"id": "cut"}, "cut"),
        ({"max_macs_m": 5}, "good"),
        ({"max_macs_m": 4.9}, "cheap"),  # a finalist comes before a better point that was not verified
        ({"max_macs_m": 1.5}, "between"),
        ({"max_latency_ms": 0.45}, "good"),  # by the measured latency where there is one
        ({"max_latency_ms": 0.35}, "best"),
        ({"max_latency_ms": 0.5, "max_macs_m": 2}, "cheap"),
        ({"min_accuracy": 0.8}, "good"),  # 0.4 ms measured against 0.5 ms
        ({"min_accuracy": 0.94}, "best"),
        ({"min_accuracy": 0.85, "max_macs_m": 3}, "cheap"),
        ({"min_accuracy": 0.86, "max_macs_m": 3}, "between"),
    ],
)
def test_a_choice_by_hand(run, wish, chosen):
    assert run().pick(**wish)["id"] == chosen


def test_the_default_may_lose_what_the_experiment_allows(run):
    rows = [row("cheap", 0.85, 2, finalist=True), row("good", 0.90, 5, finalist=True), ROWS[-1]]
    assert run(rows).pick()["id"] == "good"
    assert run(rows, accuracy_drop=0.05).pick()["id"] == "cheap"


def test_the_default_is_the_best_finalist_where_none_keeps_the_accuracy(run):
    rows = [row("better", 0.86, 3, finalist=True), row("cheap", 0.85, 2, finalist=True), ROWS[2], ROWS[-1]]
    assert run(rows).pick()["id"] == "better"  # though a point that was not verified is more accurate
    assert run(rows[2:]).pick()["id"] == "between"  # where nothing was verified


def speedup(rows, **values):
    return [{**each, "speedup_measured": values.get(each["id"])} for each in rows]


def test_the_default_compares_what_was_measured_in_turns_with_the_backbone(run):
    rows = [row("one", 0.9, 5, finalist=True, predicted=0.6, measured=0.4)]
    rows += [row("two", 0.9, 4, finalist=True, predicted=0.5, measured=0.5), ROWS[-1]]
    assert run(rows).pick()["id"] == "one"
    assert run(speedup(rows, one=1.5, two=2.0)).pick()["id"] == "two"
    assert run(speedup(rows, one=2.5, two=2.0)).pick()["id"] == "one"


@pytest.mark.parametrize(
    ("target", "chosen"),
    [
        # Finalists of 0.85 at 0.2 ms and 2 M MACs, 0.90 at 0.6 ms and 5 M MACs: by what is predicted.
        ({"cost": "macs", "value": 5e6}, "good"),
        ({"cost": "macs", "value": 4.9e6}, "cheap"),
        ({"cost": "latency_ms", "value": 0.6}, "good"),
        ({"cost": "latency_ms", "value": 0.59}, "cheap"),
        ({"cost": "macs", "value": 2e6, "rule": "two-sided"}, "cheap"),  # 85 against 75
        ({"cost": "macs", "value": 4e6, "rule": "two-sided"}, "good"),  # 80 against 87.5
        ({"cost": "macs", "value": 2e6, "rule": "two-sided", "min_accuracy": 0.9}, "good"),
        ({"cost": "macs", "value": 1e6}, "good"),  # none meets it: the most accurate
    ],
)
def test_the_default_is_the_finalist_that_meets_the_target_best(run, target, chosen):
    assert run(target=target).pick()["id"] == chosen


def test_the_cheapest_row_with_an_accuracy():
    rows = [{"accuracy_val": a, "macs_mean": c} for a, c in ((0.9, 30), (0.95, 40), (0.9, 20), (0.8, 5), (0.99, None))]
    assert cheapest(rows, 0.9, "macs_mean") == 2
    assert cheapest(rows, 0.92, "macs_mean") == 1
    assert cheapest(rows, 0.97, "macs_mean") is None


def test_nothing_is_best_of_nothing():
    assert best_for_target([], TargetSettings(value=1.0)) is None
    assert best_for_target([{"accuracy_val": 0.9, "macs_mean": 3.0}], TargetSettings(cost="macs", value=2.0)) is None


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"id": "gone"}, r"no point 'gone' on the front: `aebnas front` lists the ids"),
        (
            {"max_latency_ms": 0.01},
            r"no point is within the limits: the cheapest is cut with 0\.050 ms and 0\.50 M",
        ),
        ({"max_macs_m": 0.4}, r"no point is within the limits: the cheapest is cut"),
        ({"min_accuracy": 0.96}, r"no point has a validation accuracy of 0\.96: the best is best with 0\.9500"),
        ({"min_accuracy": 0.94, "max_macs_m": 3}, r"accuracy of 0\.94: the best is between"),
    ],
)
def test_an_impossible_choice_names_the_nearest(run, wish, message):
    with pytest.raises(RunError, match=message):
        run().pick(**wish)


def test_where_nothing_leaves_early_a_static_network_is_picked(run):
    backbone = ROWS[-1]
    cut = {**backbone, "id": "cut-1", "macs_mean": backbone["macs_mean"] / 2}
    assert run([cut, backbone]).pick()["id"] == "cut-1"
    worse = {**cut, "accuracy_val": backbone["accuracy_val"] - 0.1}
    assert run([worse, backbone]).pick()["id"] == "backbone"
    assert run([worse, backbone]).pick(min_accuracy=worse["accuracy_val"])["id"] == "cut-1"


def test_where_only_a_static_network_is_within_the_limits_it_is_picked(run):
    assert run().pick(max_macs_m=0.9)["id"] == "cut"
    assert run().pick(max_macs_m=1)["id"] == "between"


def test_a_latency_limit_needs_latencies(run):
    with pytest.raises(RunError, match="no point is within the limits"):
        run([row("a", 0.9, 1, finalist=True), row("backbone", 0.9, 10, static=True)]).pick(max_latency_ms=5)


def test_a_folder_without_a_finished_run_is_told(run, tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        Run(tmp_path / "nowhere")
    unfinished = run()
    unfinished.folder.front_file.unlink()
    with pytest.raises(RunError, match="has no front yet: run the same `aebnas search` again"):
        unfinished.rows


@pytest.mark.parametrize("text", ["[{", "{}", "[1]", '[{"name": 1}]', '[{"id": "a", "static": true}]'])
def test_a_damaged_front_is_named(run, text):
    damaged = run()
    damaged.folder.front_file.write_text(text)
    with pytest.raises(RunError, match=r"front\.json is damaged"):
        damaged.rows


def test_the_front_of_a_search(finished):
    rows = finished.rows
    assert all(row.keys() >= KEYS for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)
    frame = finished.front()
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["id"]) == [row["id"] for row in rows]
    assert len(finished.folder.front_csv.read_text().splitlines()) == len(rows) + 1
    summary = finished.summary()
    assert (summary["trials"], summary["stopped_by_timeout"]) == (4, False)
    data = finished.prepared().data
    assert summary["data"] == {"fingerprint": data.fingerprint, "train": 240, "validation": 80, "test": 120}
    assert finished.pick()["finalist"]


def images_of(split):
    return torch.cat([batch.images for batch in split.batches(512)])


def predict(run, point, split):
    """Return labels of every sample by the plain rule: all logits, then the first exit that is sure enough."""
    network = rebuild(point, run.prepared(), run.folder)
    with torch.no_grad():
        logits = network(images_of(split))
    policy = Policy(point["confidence"], tuple(point["thresholds"]))
    measure = build_confidence(point["confidence"])
    exits = policy.leave_at(np.stack([measure(z).numpy() for z in logits[:-1]]))
    return torch.stack(logits).argmax(2).numpy()[exits, np.arange(len(exits))], exits


def agreement(folder, point, run):
    split = run.prepared().data.validation
    prediction = EarlyExitSession(folder).run(images_of(split).numpy())
    labels, exits = predict(run, point, split)
    switched_on = [number for number, threshold in enumerate(point["thresholds"]) if threshold is not None]
    numbers = np.array([*switched_on, len(point["thresholds"])])
    return (prediction.labels == labels).sum(), (numbers[prediction.exits] == exits).sum(), len(labels)


@pytest.mark.parametrize("finalist", [True, False])
def test_an_exported_point_does_what_its_row_says(finished, tmp_path, finalist):
    point = next(row for row in finished.rows if row["finalist"] == finalist and not row["static"])
    out = finished.export(point, tmp_path / "out")
    assert out == tmp_path / "out"
    same_labels, same_exits, samples = agreement(out, point, finished)
    assert min(same_labels, same_exits) >= samples - 1
    labels = finished.prepared().data.validation.labels.numpy()
    predicted = EarlyExitSession(out).run(images_of(finished.prepared().data.validation).numpy())
    assert (predicted.labels == labels).mean() == pytest.approx(point["accuracy_val"], abs=1 / samples + 1e-9)
    assert EarlyExitSession(out).manifest["extra"]["id"] == point["id"]


@pytest.mark.parametrize("kind", ["backbone", "cut"])
def test_an_exported_static_network_does_what_its_row_says(finished, tmp_path, kind):
    point = next(row for row in finished.rows if row["id"].startswith(kind))
    out = finished.export(point, tmp_path / "out")
    session, split = EarlyExitSession(out), finished.prepared().data.validation
    assert session.num_exits == 1
    accuracy = (session.run(images_of(split).numpy()).labels == split.labels.numpy()).mean()
    assert accuracy == pytest.approx(point["accuracy_val"], abs=1 / len(split) + 1e-9)


def test_a_finalist_without_its_ready_export_is_exported_anew(copied, tmp_path):
    point = copied.pick()
    ready = EarlyExitSession(copied.export(point, tmp_path / "ready"))
    shutil.rmtree(copied.folder.exports)
    anew = EarlyExitSession(copied.export(point, tmp_path / "anew"))
    images = images_of(copied.prepared().data.test).numpy()
    np.testing.assert_array_equal(ready.run(images).labels, anew.run(images).labels)


def test_an_export_onto_a_full_disk_leaves_the_earlier_one(finished, tmp_path, monkeypatch):
    point, out = finished.pick(), tmp_path / "out"
    finished.export(point, out)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(source, target, **_):
        Path(target).mkdir()
        (Path(target) / "manifest.json").write_text("half")
        raise shutil.Error([(str(source), str(target), "No space left on device")])

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(RunFailed, match=r"cannot write .*out \(No space left on device\): free some space or choose"):
        finished.export(point, out)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_export_replaces_an_earlier_one_and_nothing_else(finished, tmp_path):
    first, second = [row for row in finished.rows if not row["static"]][:2]
    finished.export(first, tmp_path / "out")
    finished.export(second, tmp_path / "out")
    assert EarlyExitSession(tmp_path / "out").manifest["extra"]["id"] == second["id"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for target in ("mine", "file"):
        with pytest.raises(RunError, match=rf"{target} exists and is no earlier export: choose another --out"):
            finished.export(first, tmp_path / target)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    finished.export(first, tmp_path / "empty")


def test_nothing_of_an_earlier_export_is_left(finished, tmp_path):
    fewer = next(row for row in finished.rows if row["id"] == "backbone")
    more = next(row for row in finished.rows if row["finalist"])
    finished.export(more, tmp_path / "out")
    assert (tmp_path / "out" / "staged" / "branch_0.onnx").exists()
    finished.export(fewer, tmp_path / "out")
    finished.export(fewer, tmp_path / "new")
    files = [
        {path.relative_to(folder) for path in folder.rglob("*")} for folder in (tmp_path / "out", tmp_path / "new")
    ]
    assert files[0] == files[1]


def test_an_export_onto_itself_keeps_it(copied):
    point = copied.pick()
    ready = copied.folder.exports / point["id"]
    before = {path: path.read_bytes() for path in ready.rglob("*") if path.is_file()}
    assert copied.export(point, ready) == ready
    assert {path: path.read_bytes() for path in ready.rglob("*") if path.is_file()} == before


def test_a_run_without_its_backbone_is_refused(copied, tmp_path):
    point = next(row for row in copied.rows if not row["finalist"] and not row["static"])
    copied.folder.backbone_file.unlink()
    with pytest.raises(RunError, match=r"backbone\.pt is missing: run the same `aebnas search` again"):
        copied.export(point, tmp_path / "out")
    assert not copied.folder.backbone_file.exists()  # nothing was trained in its place


def test_an_export_needs_neither_the_profile_nor_the_space_file(toy_experiment, tmp_path):
    files = {name: tmp_path / f"{name}.yaml" for name in ("space", "device")}
    for name, path in files.items():
        path.write_text(Path(getattr(toy_experiment(), name)).read_text())
    files["device"].write_text(files["device"].read_text() + "threads: 2\n")
    experiment = toy_experiment(search__trials=2, **{name: str(path) for name, path in files.items()})
    aebnas.search(experiment, run_dir=tmp_path / "run")
    for path in files.values():
        path.rename(path.with_suffix(".moved"))
    run = Run(tmp_path / "run")
    point = next(row for row in run.rows if not row["finalist"] and not row["static"])
    out = run.export(point, tmp_path / "out")  # written anew: it was no finalist
    assert EarlyExitSession(out).manifest["threads"] == 2


# threshold 0


def at_thresholds(run, thresholds):
    """A row of a network with two branches of the run, as it would be at ``thresholds``."""
    point = next(row for row in run.rows if row["finalist"] and len(row["thresholds"]) == 2)
    network = rebuild(point, run.prepared(), run.folder)
    with torch.no_grad():
        logits = network(images_of(run.prepared().data.validation))
    policy = Policy(point["confidence"], thresholds)
    measure = build_confidence(point["confidence"])
    exits = policy.leave_at(np.stack([measure(z).numpy() for z in logits[:-1]]))
    shares = (np.bincount(exits, minlength=3) / len(exits)).tolist()
    return {**point, "id": "mine", "finalist": False, "thresholds": list(thresholds), "exit_shares": shares}


@pytest.mark.parametrize(
    ("thresholds", "executed"),
    [
        ((0.4, 0.6), [0, 1]),
        ((None, 0.6), [1]),
        ((0.4, None), [0]),
        ((0.4, 0.0), [0, 1]),
        ((0.0, 0.6), [0]),
        ((None, 0.0), [1]),
        ((None, None), []),
        ((2.0, 0.3), [0, 1]),  # at which nobody leaves: it is executed all the same
        ((2.0, 0.0), [0, 1]),
    ],
)
def test_a_manifest_holds_the_exits_that_are_executed(finished, tmp_path, thresholds, executed):
    point = at_thresholds(finished, thresholds)
    out = finished.export(point, tmp_path / "out")
    session = EarlyExitSession(out)
    extra = session.manifest["extra"]
    assert extra["branches"] == [point["exits"][number] for number in executed]
    ends_early = 0.0 in thresholds
    numbers = [*executed, *([] if ends_early else [2])]
    assert extra["exit_shares"] == [point["exit_shares"][number] for number in numbers]
    assert sum(extra["exit_shares"]) == pytest.approx(1.0)
    assert session.num_exits == len(extra["exit_shares"])
    images = images_of(finished.prepared().data.validation).numpy()
    taken = np.bincount(session.run(images).exits, minlength=session.num_exits) / len(images)
    np.testing.assert_allclose(taken, extra["exit_shares"], atol=1 / len(images) + 1e-9)


@pytest.mark.parametrize(("thresholds", "branch"), [((0.0, 0.6), 0), ((0.0, None), 0), ((None, 0.0), 1)])
def test_at_threshold_0_the_export_is_the_truncated_network(finished, tmp_path, thresholds, branch):
    point = at_thresholds(finished, thresholds)
    cut = {**point, "static": True, "cut": branch, "thresholds": [], "exit_shares": [1.0], "id": "cut"}
    images = images_of(finished.prepared().data.test).numpy()
    one, other = (EarlyExitSession(finished.export(row, tmp_path / row["id"])) for row in (point, cut))
    assert (one.num_exits, other.num_exits) == (1, 1)
    ours, theirs = one.run(images), other.run(images)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(ours.confidence, theirs.confidence)
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("mine", "cut")]
    assert sizes[0] == sizes[1]  # nothing that lies behind is written


def test_damaged_or_missing_weights_are_named(copied, tmp_path):
    point = next(row for row in copied.rows if not row["finalist"] and not row["static"])
    path = copied.folder.branches.path(point["weights"]["branches"][0])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunError, match=rf"{path.name} is damaged"):
        copied.export(point, tmp_path / "out")
    with pytest.raises(RunError, match=rf"{path.name} is missing"):  # it was put aside
        copied.export(point, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_damaged_backbone_is_not_trained_again_by_an_export(copied, tmp_path, caplog):
    """Another one could come of it, on which no branch was trained."""
    path = copied.folder.backbone_file
    path.write_bytes(path.read_bytes()[:-200])
    point = next(row for row in copied.rows if not row["finalist"] and not row["static"])
    with pytest.raises(RunError, match=r"backbone\.pt is missing: run the same `aebnas search` again"):
        copied.export(point, tmp_path / "out")
    assert "backbone.pt is damaged" in caplog.text


def test_rebuilt_branches_give_the_logits_that_were_tuned(finished):
    point = next(row for row in finished.rows if not row["static"])
    network = rebuild(point, finished.prepared(), finished.folder)
    assert not network.training
    with torch.no_grad():
        logits = network(images_of(finished.prepared().data.validation))
    for ours, key in zip(logits, point["weights"]["branches"], strict=False):
        torch.testing.assert_close(ours, finished.folder.branches.get(key)["validation_logits"], rtol=0.02, atol=0.02)


def test_the_public_names_are_there():
    for name in aebnas.__all__:
        assert getattr(aebnas, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        aebnas.serach
