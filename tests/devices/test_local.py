from __future__ import annotations

import pytest

from aebnas.devices import local
from aebnas.devices.identity import identity_model
from aebnas.devices.local import LocalDevice
from aebnas.devices.measure import Measurement
from aebnas.devices.profile import HardwareProfile
from aebnas.devices.store import LatencyStore
from aebnas.errors import MeasurementError, ProfileError


def profile(**changes) -> HardwareProfile:
    return HardwareProfile(**{"name": "here", "description": "", "connection": "local", **changes})


def test_a_known_block_is_not_measured_again(tmp_path, monkeypatch):
    calls = []

    def measure(models, *, threads, provider):
        calls.append((len(models), threads, provider))
        return {name: Measurement(1.0, 2.0, 3.0, 4) for name in models}

    monkeypatch.setattr(local, "measure_blocks", measure)
    store = LatencyStore(tmp_path)
    models = {"a": identity_model((2,)), "b": identity_model((3,))}
    first = LocalDevice(profile(threads=2), store).measure(models)
    second = LocalDevice(profile(threads=2), store).measure({**models, "c": identity_model((4,))})
    assert calls == [(2, 2, "CPUExecutionProvider"), (1, 2, "CPUExecutionProvider")]
    assert set(first) == {"a", "b"} and set(second) == {"a", "b", "c"}


def test_a_real_block_is_measured(tmp_path):
    result = LocalDevice(profile(), LatencyStore(tmp_path)).measure({"copy": identity_model((2,))})["copy"]
    assert 0 < result.latency_ms <= result.median_ms <= result.p95_ms


def test_a_device_elsewhere_says_what_to_do(tmp_path):
    with pytest.raises(
        ProfileError, match="cannot be measured from here: choose objectives in MACs, or --device local"
    ):
        LocalDevice(profile(connection="none"), LatencyStore(tmp_path))


def test_a_provider_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        ProfileError, match=r"no provider 'MoonExecutionProvider', choose one of .*CPUExecutionProvider"
    ):
        LocalDevice(profile(provider="MoonExecutionProvider"), LatencyStore(tmp_path))


def test_a_block_that_fails_is_a_measurement_error(tmp_path):
    bad = identity_model((2,)).replace(b"Identity", b"NoSuchOp")
    with pytest.raises(MeasurementError, match="onnxruntime cannot load block 'bad'"):
        LocalDevice(profile(), LatencyStore(tmp_path)).measure({"bad": bad})
    assert list(tmp_path.iterdir()) == []
