from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aebnas.devices.target import memory
from aebnas.devices.target.errors import Refused
from aebnas.devices.target.memory import TINY_MODEL, resident_mib


def heavy_model(weights_mib: int) -> bytes:
    """Multiplies a vector with a matrix that cannot be shared, folded or compressed."""
    side = 1024
    values = np.random.default_rng(0).standard_normal((side, weights_mib * 2**20 // 4 // side)).astype(np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["output"])],
        "heavy",
        [value("input", TensorProto.FLOAT, ["batch", side])],
        [value("output", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(values, "w")],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@pytest.fixture
def written(tmp_path):
    def write(content: bytes) -> str:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        return str(path)

    return write


def test_the_tiny_model_is_a_good_one():
    onnx.checker.check_model(onnx.load_from_string(TINY_MODEL))


def test_a_model_that_is_as_tiny_as_the_baseline_takes_next_to_nothing(written):
    assert 0 <= resident_mib(written(TINY_MODEL), threads=1, children=1) < 4


def test_weights_are_resident(written):
    assert 32 < resident_mib(written(heavy_model(32)), threads=1, children=1) < 32 * 5


def test_the_median_of_several_processes_counts(monkeypatch):
    grown = iter([9.0, 1.0, 2.0])
    monkeypatch.setattr(memory, "_grown_mib", lambda *_: next(grown))
    assert resident_mib("model.onnx", threads=1) == 2


def test_a_model_that_is_none_is_refused(written):
    with pytest.raises(Refused, match=r"onnxruntime cannot load or run it: .*(?i:protobuf)") as refused:
        resident_mib(written(b"x"), threads=1)
    assert refused.value.kind == "block"


def test_a_provider_that_is_not_there_is_refused(written):
    with pytest.raises(Refused, match="no provider 'Moon'") as refused:
        resident_mib(written(TINY_MODEL), threads=1, provider="Moon")
    assert refused.value.kind == "provider"


@pytest.mark.parametrize(
    ("ending", "message"),
    [("os.kill(os.getpid(), 9)", "was killed by signal 9"), ("sys.exit('no such luck')", "ended with 1 no such luck")],
)
def test_a_process_that_does_not_live_to_tell_is_an_error_of_the_model(monkeypatch, written, ending, message):
    monkeypatch.setattr(memory, "_CHILD", f"import os, sys; {ending}")
    with pytest.raises(Refused, match=message):
        resident_mib(written(TINY_MODEL), threads=1)


def test_a_process_that_hangs_is_ended(monkeypatch, written):
    monkeypatch.setattr(memory, "_CHILD", "import time; time.sleep(600)")
    monkeypatch.setattr(memory, "_PATIENCE_S", 0.1)
    with pytest.raises(Refused, match=r"longer than 0\.1 s"):
        resident_mib(written(TINY_MODEL), threads=1)


@pytest.mark.parametrize(
    ("can_forget", "peak_before", "peak", "after", "grown"),
    [
        (True, 100, 80, 70, 30),  # set back: the peak is the model's
        (False, 100, 130, 70, 80),  # not set back, and higher than before: the peak is the model's
        (False, 100, 100, 70, 20),  # not set back, and that of loading the libraries: what stays is known
    ],
)
def test_the_peak_is_the_models_own(monkeypatch, can_forget, peak_before, peak, after, grown):
    residents, peaks = iter([50, after]), iter([peak_before, peak])
    monkeypatch.setattr(memory, "_run_once", lambda *_: None)
    monkeypatch.setattr(memory, "_forget_peak", lambda: can_forget)
    monkeypatch.setattr(memory, "_resident_mib", lambda: next(residents))
    monkeypatch.setattr(memory, "_peak_mib", lambda: next(peaks))
    assert memory._growth("model.onnx", {}) == grown


def test_a_system_without_proc_tells_its_peak(monkeypatch):
    here = memory._peak_mib()
    monkeypatch.setattr(memory, "_status_mib", lambda _: None)
    assert memory._resident_mib() == memory._peak_mib() == pytest.approx(here, rel=0.5)
