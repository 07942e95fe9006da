"""Measuring finalists on the test split."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
import yaml

from aebnas.devices.device import Device
from aebnas.devices.profile import HardwareProfile
from aebnas.files import write_text
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.searching import verify as module
from aebnas.searching.choice import CostLimits
from aebnas.searching.evaluation import StaticPoint
from aebnas.searching.rows import static_row
from aebnas.searching.verify import verify

CPU = torch.device("cpu")


@pytest.fixture
def measured(prepared, tmp_path, monkeypatch):
    """Verify the static backbone; return the rows, and what it was measured on."""
    seen, real = [], module.evaluate_export

    def spy(out, images, labels, *, device):
        seen.append((images, labels))
        return real(out, images, labels, device=device)

    monkeypatch.setattr(module, "evaluate_export", spy)

    def run(data=prepared.data, connection="local", limits=None):
        profile = HardwareProfile(name="mine", description="d", connection=connection)
        row = static_row("backbone", StaticPoint(0.9, {"macs": 100.0, "latency_ms": 1.0}))
        here, folder = dataclasses.replace(prepared, data=data), RunFolder(tmp_path / "run")
        write_text(folder.profile_file, yaml.safe_dump(profile.model_dump(mode="json")))
        options = {"accelerator": CPU, "limits": CostLimits(limits or {}), "progress": Progress()}
        with Device(profile) if profile.measurable else contextlib.nullcontext() as target:
            return verify([row], here, folder, target=target, **options), seen

    return run


def by_class(data):
    return dataclasses.replace(data, test=data.test.subset(torch.argsort(data.test.labels, stable=True)))


def test_of_test_data_sorted_by_class_all_classes_are_measured(measured, prepared, monkeypatch):
    monkeypatch.setattr(module, "MEASURED_SAMPLES", 30)
    data = by_class(prepared.data)
    assert len(set(data.test.labels[:30].tolist())) == 1
    rows, ((images, labels),) = measured(data)
    assert images.shape == (30, 1, 8, 8)
    counts = np.bincount(labels, minlength=4)
    assert counts.sum() == 30
    assert counts.min() >= 3
    # Every image goes with its own label, and none is measured twice.
    (batch,) = data.test.batches(512)
    positions = [int(np.flatnonzero((batch.images.numpy() == image).all((1, 2, 3)))[0]) for image in images]
    assert len(set(positions)) == 30
    np.testing.assert_array_equal(batch.labels.numpy()[positions], labels)
    # The accuracy is that on all of test.
    right = prepared.backbone(batch.images).argmax(1) == batch.labels
    assert rows[0]["accuracy_test"] == pytest.approx(float(right.float().mean()))


def test_all_of_a_small_test_split_is_measured(measured, prepared):
    _, ((_, labels),) = measured()
    assert len(labels) == len(prepared.data.test)
    assert sorted(labels) == sorted(prepared.data.test.labels.tolist())


def test_the_same_images_are_measured_every_time(measured, monkeypatch):
    monkeypatch.setattr(module, "MEASURED_SAMPLES", 30)
    measured()
    _, (one, other) = measured()
    np.testing.assert_array_equal(one[0], other[0])


def test_what_is_not_here_is_not_measured(measured):
    (row,), seen = measured(connection="none")
    assert seen == []
    assert (row["latency_ms_measured"], row["speedup_measured"]) == (None, None)
    assert row["accuracy_test"] is not None


def test_a_static_network_may_be_larger_than_the_limit(measured):
    (row,), _ = measured(connection="none", limits={"model_mib": 1e-4})
    assert row["model_mib_measured"] > 1e-4


def test_memory_and_tail_are_measured_beside_the_mean(measured):
    (row,), _ = measured()
    assert row["latency_ms_measured"] > 0
    assert row["latency_ms_p95_measured"] > 0
    assert row["resident_mib_measured"] > 0
    assert row["speedup_measured"] == 1.0
