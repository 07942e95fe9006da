"""A finished search: what is diagnosed of its points, and of what it exported."""

import json
import shutil

import numpy as np
import pytest

from aebnas.diagnosing.diagnosis import diagnose
from aebnas.diagnosing.of_export import subject_of_export
from aebnas.diagnosing.of_run import subject_of_run
from aebnas.errors import DataError, InputError, RunError
from aebnas.exits.diagnostics import reachable_exits
from aebnas.exits.policy import thresholds_from_json


def early_rows(run):
    rows = [row for row in run.rows if row["finalist"] and not row["static"]]
    return [row for row in rows if len(reachable_exits(thresholds_from_json(row["thresholds"]))) > 1]


@pytest.fixture(scope="module")
def point(finished):
    return early_rows(finished)[0]


@pytest.fixture
def export(finished, point, tmp_path):
    return finished.export(point, tmp_path / "onnx")


def edit(export, change):
    path = export / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_a_point_of_a_run_is_what_the_front_says_of_it(finished, point):
    subject = subject_of_run(finished, point["id"])
    found = diagnose(subject)
    validation, test = (found.splits[name] for name in ("validation", "test"))
    assert validation.network.accuracy == pytest.approx(point["accuracy_val"])
    assert test.network.accuracy == pytest.approx(point["accuracy_test"])
    assert validation.macs_mean == pytest.approx(point["macs_mean"])
    shares = [point["exit_shares"][exit_] for exit_ in subject.exits]
    assert [exit_.share for exit_ in validation.network.exits] == pytest.approx(shares)
    backbone = next(row for row in finished.rows if row["id"] == "backbone")
    assert subject.backbone_macs == backbone["macs_mean"]
    early = [exit_.every for exit_ in validation.network.exits[:-1]]
    assert point["futile_val"] == pytest.approx(validation.network.futile)
    assert point["premature_val"] == pytest.approx(validation.network.premature)
    # The search took its logits from features that it keeps in half precision.
    assert point["eefp_val"] == pytest.approx(validation.network.eefp, abs=0.01)
    for column, name in (("ece_val", "ece"), ("auroc_val", "auroc"), ("eaurc_val", "excess_aurc")):
        assert point[column] == pytest.approx(np.mean([getattr(scores, name) for scores in early]), abs=0.01)
    assert (validation.network.samples, test.network.samples) == (80, 120)


def test_an_export_says_what_its_run_says(finished, point, export):
    there, here = diagnose(subject_of_export(export)), diagnose(subject_of_run(finished, point["id"]))
    assert there.subject.names[:-1] == here.subject.names[:-1]
    for name in ("validation", "test"):
        exported, rebuilt = there.splits[name], here.splits[name]
        np.testing.assert_array_equal(exported.outcomes.labels, rebuilt.outcomes.labels)
        np.testing.assert_array_equal(exported.outcomes.exits, rebuilt.outcomes.exits)
        np.testing.assert_allclose(exported.outcomes.confidences, rebuilt.outcomes.confidences, atol=1e-5)
        assert exported.network.futile == rebuilt.network.futile
        assert exported.network.premature == rebuilt.network.premature
        # A batch-norm is part of its convolution in the files.
        assert exported.macs_mean == pytest.approx(rebuilt.macs_mean, rel=0.2)
        assert exported.macs_mean <= rebuilt.macs_mean


def test_static_points_are_refused(finished):
    with pytest.raises(InputError, match="backbone is a static network: there is no exit to diagnose; choose another"):
        subject_of_run(finished, "backbone")


def test_a_static_export_is_refused(finished, tmp_path):
    backbone = finished.pick("backbone")
    with pytest.raises(InputError, match="has no early exit, so there is nothing to diagnose: export another point"):
        subject_of_export(finished.export(backbone, tmp_path / "static"))


def test_data_from_python_are_not_at_hand(export):
    edit(export, lambda values: values["extra"].update(data={"name": "custom"}))
    with pytest.raises(DataError, match="searched on data from Python"):
        subject_of_export(export)


def test_data_that_have_changed_are_told(export, tmp_path, toy_files):
    edit(export, lambda values: values.update(classes=["a", "b", "c", "d"]))
    with pytest.raises(DataError, match=r"npz has other images or classes than manifest\.json says"):
        subject_of_export(export)


def test_data_that_are_gone_are_named(export):
    edit(export, lambda values: values["extra"]["data"].update(path="gone.npz"))
    with pytest.raises(DataError, match=r"gone\.npz"):
        subject_of_export(export)


def test_a_damaged_block_is_named(export):
    (export / "staged" / "branch_0.onnx").write_bytes(b"no model")
    with pytest.raises(RunError, match=r"branch_0\.onnx is damaged"):
        subject_of_export(export)


def test_weights_that_are_gone_are_named(finished, point, tmp_path):
    shutil.copytree(finished.folder.path, tmp_path / "run", ignore=shutil.ignore_patterns("*.db"))
    for path in (tmp_path / "run" / "branches").glob("*.pt"):
        path.unlink()
    run = type(finished)(tmp_path / "run")
    with pytest.raises(RunError, match="branches"):
        subject_of_run(run, point["id"])
