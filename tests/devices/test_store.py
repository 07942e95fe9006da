from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from aebnas.devices.identity import identity_model
from aebnas.devices.measure import Measurement
from aebnas.devices.profile import HardwareProfile
from aebnas.devices.store import LatencyStore, latency_key
from aebnas.errors import RunError


def measurement(latency_ms: float) -> Measurement:
    return Measurement(latency_ms=latency_ms, median_ms=latency_ms + 1, p95_ms=latency_ms + 2, runs=7)


def test_what_is_put_is_got_also_by_another_store(tmp_path):
    LatencyStore(tmp_path / "latency").put("key", measurement(0.1 + 0.2))
    assert LatencyStore(tmp_path / "latency").get("key") == measurement(0.1 + 0.2)
    assert LatencyStore(tmp_path / "latency").get("other") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"latency_ms": 1}', '{"latency_ms": null}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "key.json").write_text(content)
    with pytest.raises(RunError, match=r"key\.json is damaged"):
        LatencyStore(tmp_path).get("key")


def test_only_what_is_unknown_is_measured_and_equal_keys_once(tmp_path):
    store, asked = LatencyStore(tmp_path), []

    def measure(models):
        asked.append(dict(models))
        return {key: measurement(float(model)) for key, model in models.items()}

    store.put("k1", measurement(9))
    result = store.measure_all(
        {"a": b"1", "b": b"2", "c": b"2", "d": b"3"}, lambda model: f"k{model.decode()}", measure
    )
    assert asked == [{"b": b"2", "d": b"3"}]
    assert {name: value.latency_ms for name, value in result.items()} == {"a": 9, "b": 2, "c": 2, "d": 3}
    again = store.measure_all({"d": b"3", "a": b"1"}, lambda model: f"k{model.decode()}", measure)
    assert list(again) == ["d", "a"] and len(asked) == 1


def test_no_models_need_no_measuring(tmp_path):
    assert LatencyStore(tmp_path).measure_all({}, str, lambda models: pytest.fail("nothing to measure")) == {}


def write_often(folder: Path, value: float) -> None:
    for _ in range(20):
        LatencyStore(folder).put("key", measurement(value))


def test_two_processes_may_write_one_key(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(tmp_path, value)) for value in (1.0, 2.0)]
    for writer in writers:
        writer.start()
    store, seen = LatencyStore(tmp_path), []
    while any(writer.is_alive() for writer in writers):
        seen.append(store.get("key"))
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert all(value in (None, measurement(1.0), measurement(2.0)) for value in seen)
    assert store.get("key") in (measurement(1.0), measurement(2.0))
    assert [path.name for path in tmp_path.iterdir()] == ["key.json"]


def test_the_key_follows_the_graph_and_the_profile():
    profile = HardwareProfile(name="a", description="", connection="local")
    key = latency_key(identity_model((2,)), profile)
    assert key == latency_key(identity_model((2,)), profile.model_copy(update={"notes": "new", "description": "new"}))
    others = [
        latency_key(identity_model((3,)), profile),
        latency_key(identity_model((2,)), profile.model_copy(update={"threads": 2})),
        latency_key(identity_model((2,)), profile.model_copy(update={"connection": "none"})),
        latency_key(identity_model((2,)), profile.model_copy(update={"provider": "CUDAExecutionProvider"})),
    ]
    assert len({key, *others}) == 5


def test_the_key_follows_the_runtime_version(monkeypatch):
    profile = HardwareProfile(name="a", description="")
    key = latency_key(identity_model((2,)), profile)
    monkeypatch.setattr("onnxruntime.__version__", "0.0.0")
    assert latency_key(identity_model((2,)), profile) != key
