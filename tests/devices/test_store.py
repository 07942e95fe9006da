from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path

import pytest

from aebnas.devices.results import Measurement
from aebnas.devices.store import LatencyStore, Memory, user_folder


def measurement(latency_ms: float, **changes) -> Measurement:
    values = {"low_ms": latency_ms - 0.1, "high_ms": latency_ms + 0.1, "median_ms": latency_ms + 1}
    rest = {"p95_ms": latency_ms + 2, "runs": 7, "steady": True, "yardstick_ms": 0.1}
    return Measurement(**{"latency_ms": latency_ms, **values, **rest, **changes})


@pytest.mark.parametrize(
    "value",
    [
        measurement(0.1 + 0.2),
        measurement(1, steady=False, peak_memory_mib=0.5, energy_mj=1 / 3, energy_source="package-0"),
    ],
)
def test_what_is_put_is_got_also_by_another_store(tmp_path, value):
    LatencyStore(tmp_path / "latency").put("key", value)
    assert LatencyStore(tmp_path / "latency").get("key") == value
    assert LatencyStore(tmp_path / "latency").get("other") is None


def test_the_reference_of_a_device_is_kept(tmp_path):
    LatencyStore(tmp_path).put_reference("one", 0.125)
    assert LatencyStore(tmp_path).reference_ms("one") == 0.125
    assert LatencyStore(tmp_path).reference_ms("two") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text[:-9],
        lambda text: text.replace("7", "8"),
        lambda text: text.replace('"runs": 7', '"runs": "seven"'),
        lambda text: '{"checksum": 1, "values": [NaN]}',
    ],
)
def test_a_damaged_file_is_as_if_it_were_not_there_and_is_replaced(tmp_path, damage, caplog):
    store, path = LatencyStore(tmp_path), tmp_path / "key.json"
    store.put("key", measurement(1))
    path.write_text(damage(path.read_text()))
    assert store.get("key") is None
    assert f"{path} is damaged" in caplog.text
    store.put("key", measurement(2))
    assert store.get("key") == measurement(2)


def test_a_folder_that_cannot_be_written_is_warned_of_once(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    store = LatencyStore(tmp_path / "file" / "latency")
    for key in "abc":
        store.put(key, measurement(1))
        assert store.get(key) is None
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "measurements are not remembered: cannot write" in warnings[0].getMessage()


def test_the_users_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("AEBNAS_CACHE_DIR", str(tmp_path))
    assert user_folder() == tmp_path / "latency"
    monkeypatch.delenv("AEBNAS_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in user_folder().parents and user_folder().name == "latency"


def test_a_memory_looks_into_its_stores_in_order_and_writes_to_all(tmp_path):
    run, user = LatencyStore(tmp_path / "run"), LatencyStore(tmp_path / "user")
    run.put("both", measurement(1))
    user.put("both", measurement(2))
    user.put("user", measurement(3))
    memory = Memory([run, user])
    assert "both" in memory and memory["both"] == measurement(1)
    assert "user" in memory and run.get("user") == measurement(3)
    assert user.get("both") == measurement(2)
    assert "none" not in memory
    memory["new"] = measurement(4)
    assert run.get("new") == user.get("new") == measurement(4)


def test_a_memory_without_stores_remembers_too():
    memory = Memory([])
    memory["key"] = measurement(1)
    assert "key" in memory and memory["key"] == measurement(1)
    assert memory.reference_ms("device", 0.5) == memory.reference_ms("device", 0.7) == 0.5


def test_the_first_speed_of_a_device_is_its_reference_everywhere(tmp_path):
    run, user = LatencyStore(tmp_path / "run"), LatencyStore(tmp_path / "user")
    assert Memory([user]).reference_ms("device", 0.5) == 0.5
    assert Memory([run, user]).reference_ms("device", 0.7) == 0.5
    assert run.reference_ms("device") == 0.5


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


def test_what_is_not_steady_is_for_one_run_only(tmp_path):
    run, user = LatencyStore(tmp_path / "run"), LatencyStore(tmp_path / "user")
    memory = Memory([run, user])
    memory["shaky"], memory["sure"] = measurement(1, steady=False), measurement(2)
    assert "shaky" in Memory([run, user])
    assert "shaky" not in Memory([LatencyStore(tmp_path / "another run"), user])
    assert "sure" in Memory([LatencyStore(tmp_path / "another run"), user])
