"""A finished run from the outside: its front, a choice from it, its export."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import aebnas
from aebnas.errors import RunError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.policy import Policy
from aebnas.experiment import Experiment
from aebnas.export.session import EarlyExitSession
from aebnas.rebuild import rebuild
from aebnas.run import COLUMNS, Run
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
def run(tmp_path):
    def make(rows=ROWS, **search):
        folder = RunFolder(tmp_path / "run")
        folder.start(Experiment(search=search))
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


def test_the_default_is_the_best_where_none_keeps_the_accuracy(run):
    assert run([ROWS[0], ROWS[2], ROWS[-1]]).pick()["id"] == "between"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"id": "gone"}, r"no point 'gone' on the front: `aebnas front` lists the ids"),
        (
            {"max_latency_ms": 0.01},
            r"no point is within the limits: the cheapest is between with 0\.100 ms and 1\.00 M",
        ),
        ({"max_macs_m": 0.9}, r"no point is within the limits: the cheapest is between"),
        ({"min_accuracy": 0.96}, r"no point has a validation accuracy of 0\.96: the best is best with 0\.9500"),
        ({"min_accuracy": 0.94, "max_macs_m": 3}, r"accuracy of 0\.94: the best is between"),
    ],
)
def test_an_impossible_choice_names_the_nearest(run, wish, message):
    with pytest.raises(RunError, match=message):
        run().pick(**wish)


def test_a_front_without_early_exits_has_nothing_to_pick(run):
    with pytest.raises(RunError, match="the front is empty"):
        run([ROWS[-1]]).pick()


def test_a_latency_limit_needs_latencies(run):
    with pytest.raises(RunError, match="no point is within the limits"):
        run([row("a", 0.9, 1, finalist=True), ROWS[-1]]).pick(max_latency_ms=5)


def test_a_folder_without_a_finished_run_is_told(run, tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        Run(tmp_path / "nowhere")
    unfinished = run()
    unfinished.folder.front_file.unlink()
    with pytest.raises(RunError, match="has no front yet: run the same `aebnas search` again"):
        unfinished.rows


@pytest.mark.parametrize("text", ["[{", "{}", "[1]", '[{"name": 1}]'])
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
    assert finished.summary()["trials"] == 4
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


def test_damaged_or_missing_weights_are_named(copied, tmp_path):
    point = next(row for row in copied.rows if not row["finalist"] and not row["static"])
    path = copied.folder.branches.path(point["weights"]["branches"][0])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunError, match=rf"{path.name} is damaged"):
        copied.export(point, tmp_path / "out")
    path.unlink()
    with pytest.raises(RunError, match=rf"{path.name} is missing"):
        copied.export(point, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


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
