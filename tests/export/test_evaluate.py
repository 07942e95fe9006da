from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from aebnas.errors import InputError, ProfileError
from aebnas.export.evaluate import evaluate_export
from aebnas.export.session import EarlyExitSession


class Clock:
    """Stands still but while a model runs: 1 ms for the exiting file, 3 ms (7 ms on odd samples) for the backbone."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        run, backbone = EarlyExitSession.run_single, EarlyExitSession.backbone_single

        def timed_run(session, image):
            self.now += 0.001
            self.calls.append("exiting")
            return run(session, image)

        def timed_backbone(session, image):
            self.now += 0.007 if self.calls.count("backbone") % 2 else 0.003
            self.calls.append("backbone")
            return backbone(session, image)

        monkeypatch.setattr(EarlyExitSession, "run_single", timed_run)
        monkeypatch.setattr(EarlyExitSession, "backbone_single", timed_backbone)

    def __call__(self) -> float:
        return self.now


def test_times_are_those_of_the_clock(exported, images, monkeypatch):
    labels = np.zeros(len(images), np.int64)
    clock = Clock(monkeypatch)
    result = evaluate_export(exported[2], images, labels, limit=20, warm_up=2, clock=clock)
    assert result.samples == 20
    assert result.latency_ms.mean == pytest.approx(1) and result.latency_ms.p95 == pytest.approx(1)
    assert result.backbone_latency_ms.mean == pytest.approx(5) and result.backbone_latency_ms.p95 == pytest.approx(7)
    assert result.speedup == pytest.approx(5)
    measured = clock.calls[4:]
    assert measured[:6] == ["exiting", "backbone", "backbone", "exiting", "exiting", "backbone"]
    assert len(measured) == 40


def test_accuracy_and_shares_are_counted(exported, toys, images):
    labels, exits, _ = toys[2].predict(images)
    static = EarlyExitSession(exported[2]).backbone(images)
    given = labels.copy()
    given[:30] = (given[:30] + 1) % 3
    result = evaluate_export(exported[2], images, given)
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
    with pytest.raises(ProfileError, match="no provider 'MoonExecutionProvider'"):
        evaluate_export(folder, images[:3], labels)
    assert evaluate_export(folder, images[:3], labels, provider="CPUExecutionProvider").samples == 3


def test_a_limit_takes_all_classes_of_data_in_class_order(exported, toys, images):
    labels, exits, _ = toys[2].predict(images)
    rows = np.argsort(labels, kind="stable")
    ordered, given = images[rows], labels[rows]
    assert len(np.unique(given[:30])) == 1 < len(np.unique(given))
    # Every sample is right but those of the first class, so the accuracy says how many come from the others.
    result = evaluate_export(exported[2], ordered, np.where(given == given[0], 2, given), limit=30, warm_up=1)
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
