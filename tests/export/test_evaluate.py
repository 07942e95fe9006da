from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from aebnas.devices.results import RunResult
from aebnas.devices.target.session import open_session
from aebnas.errors import InputError, ProfileError
from aebnas.export import evaluate as module
from aebnas.export.evaluate import evaluate_export
from aebnas.export.manifest import BACKBONE, PIXEL_FILE, SINGLE_FILE
from aebnas.export.session import EarlyExitSession


class FakeDevice:
    """Runs for real and tells made-up times: 1 ms for the exiting file, 3 and 7 ms in turns for the backbone."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def run(self, models, inputs, *, outputs, repeats, burst):
        self.asked.append((len(inputs), repeats))
        session = open_session(models[SINGLE_FILE], threads=1)
        answers = [session.run(outputs[SINGLE_FILE], {"input": image[None]}) for image in inputs]
        brought = {
            name: np.array([answer[place] for answer in answers]) for place, name in enumerate(outputs[SINGLE_FILE])
        }
        times_ms = {SINGLE_FILE: np.ones(len(inputs)), BACKBONE: np.resize([3.0, 7.0], len(inputs))}
        return {name: RunResult(times_ms[name], brought if name == SINGLE_FILE else {}) for name in models}


def test_times_are_those_of_the_device(exported, images):
    device = FakeDevice()
    labels = np.zeros(len(images), np.int64)
    result = evaluate_export(exported[2], images, labels, limit=20, repeats=5, device=device)
    assert result.samples == 20
    assert device.asked == [(20, 5)]
    assert result.latency_ms.mean == pytest.approx(1) and result.latency_ms.p95 == pytest.approx(1)
    assert result.backbone_latency_ms.mean == pytest.approx(5) and result.backbone_latency_ms.p95 == pytest.approx(7)
    assert result.speedup == pytest.approx(5)


def test_many_images_are_sent_in_pieces(exported, images, monkeypatch):
    monkeypatch.setattr(module, "_PIECE_BYTES", 4 * images[0].size * 20)
    device, labels = FakeDevice(), np.arange(50) % 3
    pieces = evaluate_export(exported[2], images[:50], labels, device=device)
    assert [count for count, _ in device.asked] == [20, 20, 10]
    monkeypatch.undo()
    assert evaluate_export(exported[2], images[:50], labels, device=FakeDevice()) == pieces


def test_without_a_device_it_is_measured_here(exported, images):
    result = evaluate_export(exported[2], images[:20], np.zeros(20, np.int64), repeats=1)
    assert result.latency_ms.mean > 0
    assert result.backbone_latency_ms.mean > 0


def test_accuracy_and_shares_are_counted(exported, toys, images):
    labels, exits, _ = toys[2].predict(images)
    static = EarlyExitSession(exported[2]).backbone(images)
    given = labels.copy()
    given[:30] = (given[:30] + 1) % 3
    result = evaluate_export(exported[2], images, given, device=FakeDevice())
    assert result.accuracy == pytest.approx(1 - 30 / len(images))
    assert result.backbone_accuracy == pytest.approx((static == given).mean())
    assert result.exit_shares == pytest.approx([(exits == number).mean() for number in range(3)])
    assert sum(result.exit_shares) == pytest.approx(1)


def test_the_json_has_the_promised_keys(exported, images):
    values = evaluate_export(exported[1], images[:5], np.zeros(5, np.uint8)).to_json()
    json.dumps(values, allow_nan=False)
    assert set(values) == {
        "accuracy",
        "samples",
        "exit_shares",
        "latency_ms",
        "backbone_accuracy",
        "backbone_latency_ms",
        "speedup",
        "predicted_ms",
        "balanced_accuracy",
        "backbone_balanced_accuracy",
        "pixels",
    }
    assert set(values["latency_ms"]) == set(values["backbone_latency_ms"]) == {"mean", "p50", "p95"}


@pytest.mark.parametrize(
    ("count", "labels", "message"),
    [
        (5, np.zeros(4, np.int64), "one integer for each of 5 images"),
        (5, np.zeros(5), "labels are float64"),
        (0, np.zeros(0, np.int64), "no images to evaluate"),
    ],
)
def test_what_does_not_fit_is_refused(exported, images, count, labels, message):
    with pytest.raises(InputError, match=message):
        evaluate_export(exported[1], images[:count], labels)


def test_the_provider_is_the_manifests_unless_given(exported, images, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "provider": "MoonExecutionProvider"}))
    labels = np.zeros(3, np.int64)
    with pytest.raises(ProfileError, match="MoonExecutionProvider"):
        evaluate_export(folder, images[:3], labels)
    assert evaluate_export(folder, images[:3], labels, provider="CPUExecutionProvider").samples == 3


def test_a_limit_takes_all_classes_of_data_in_class_order(exported, toys, images):
    labels, exits, _ = toys[2].predict(images)
    rows = np.argsort(labels, kind="stable")
    ordered, given = images[rows], labels[rows]
    assert len(np.unique(given[:30])) == 1 < len(np.unique(given))
    # Every sample is right but those of the first class, so the accuracy says how many come from the others.
    result = evaluate_export(exported[2], ordered, np.where(given == given[0], 2, given), limit=30, device=FakeDevice())
    chosen = np.random.default_rng(0).permutation(len(images))[:30]
    assert result.samples == 30
    assert result.accuracy == pytest.approx((given[chosen] != given[0]).mean())
    assert 0 < result.accuracy < 1
    assert result.exit_shares == pytest.approx([(exits[rows][chosen] == number).mean() for number in range(3)])


def test_a_limit_above_the_number_of_samples_takes_them_all(exported, images):
    assert evaluate_export(exported[1], images[:5], np.zeros(5, np.int64), limit=9).samples == 5


def test_a_limit_below_one_is_refused(exported, images):
    with pytest.raises(InputError, match="limit must be at least 1, not 0"):
        evaluate_export(exported[1], images[:5], np.zeros(5, np.int64), limit=0)


@pytest.mark.parametrize(("costs", "predicted"), [({"latency_ms_mean": 0.5}, 0.5), ({}, None), (None, None)])
def test_what_was_predicted_is_there_where_the_manifest_has_it(exported, images, tmp_path, costs, predicted):
    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "costs": costs}))
    result = evaluate_export(folder, images[:5], np.zeros(5, np.int64), device=FakeDevice())
    assert result.predicted_ms == predicted


@pytest.fixture(scope="module")
def pixels():
    """Raw images, (N, C, H, W)."""
    return np.random.default_rng(0).integers(0, 256, (60, 2, 8, 8), dtype=np.uint8)


def test_raw_pixels_give_the_figures_that_prepared_images_give(exported, pixels):
    labels = np.arange(60) % 3
    plain, raw = (evaluate_export(exported[2], pixels, labels, repeats=1, pixels=wanted) for wanted in (False, True))
    assert (plain.pixels, raw.pixels) == (False, True)
    for name in ("samples", "accuracy", "balanced_accuracy", "exit_shares", "backbone_accuracy"):
        assert getattr(raw, name) == getattr(plain, name), name
    assert 0 < max(raw.exit_shares) < 1 and raw.latency_ms.mean > 0 and raw.backbone_latency_ms.mean > 0
    last = evaluate_export(exported[2], pixels.transpose(0, 2, 3, 1), labels, repeats=1, pixels=True)
    assert (last.accuracy, last.exit_shares) == (plain.accuracy, plain.exit_shares)


def test_it_is_the_file_for_pixels_that_is_run_beside_a_backbone_that_takes_them(exported, pixels, tmp_path):
    class Asked(FakeDevice):
        def run(self, models, inputs, *, outputs, repeats, burst):
            assert (inputs.dtype, inputs.shape) == (np.uint8, (60, 8, 8, 2))
            assert models[SINGLE_FILE] == (exported[2] / PIXEL_FILE).read_bytes()
            session = open_session(models[BACKBONE], threads=1)
            given = [session.run(None, {"image": image[None]})[0].argmax() for image in np.ascontiguousarray(inputs)]
            assert sorted(given) == sorted(EarlyExitSession(exported[2]).backbone(pixels))
            times_ms = {name: np.ones(60) for name in models}
            none = {"label": np.zeros(60, np.int64), "exit": np.zeros(60, np.int64)}
            return {name: RunResult(times_ms[name], none) for name in models}

    assert evaluate_export(exported[2], pixels, np.zeros(60, np.int64), device=Asked(), pixels=True).accuracy == 1


def test_pixels_are_refused_where_there_are_none(exported, images, pixels, tmp_path):
    labels = np.zeros(5, np.int64)
    with pytest.raises(InputError, match="takes raw pixels, and these images are float32: leave out --uint8"):
        evaluate_export(exported[2], images[:5], labels, pixels=True)
    folder = tmp_path / "export"
    shutil.copytree(exported[2], folder)
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    del values["files"][PIXEL_FILE]
    path.write_text(json.dumps({**values, "pixels": {"left_out": "they are no 8-bit pixels"}}))
    with pytest.raises(InputError, match=r"has no model_uint8\.onnx \(they are no 8-bit pixels\): leave out --uint8"):
        evaluate_export(folder, pixels[:5], labels, pixels=True)
