from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aebnas.devices.identity import identity_model
from aebnas.devices.target import session as module
from aebnas.devices.target.session import (
    CPU,
    RUNTIME_ERRORS,
    XNNPACK,
    ProviderRefused,
    int8_saturates,
    open_session,
    pool_threads,
    random_feeds,
)


def test_a_free_batch_is_fixed_and_every_dtype_is_fed():
    kinds = [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8,
             TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.INT32]  # fmt: skip
    names = [f"value_{kind}" for kind in kinds]
    inputs = [helper.make_tensor_value_info(name, kind, ["batch", 2]) for name, kind in zip(names, kinds, strict=True)]
    outputs = [helper.make_tensor_value_info(f"out_{n.name}", n.type.tensor_type.elem_type, [None, 2]) for n in inputs]
    nodes = [helper.make_node("Identity", [name], [f"out_{name}"]) for name in names]
    graph = helper.make_graph(nodes, "all", inputs, outputs)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    session = open_session(model, threads=1, batch=1)
    assert [node.shape for node in session.get_inputs()] == [[1, 2]] * len(kinds)
    feeds = random_feeds(session)
    dtypes = [onnx.helper.tensor_dtype_to_np_dtype(kind) for kind in kinds]
    assert [value.dtype for value in session.run(None, feeds)] == dtypes
    assert all(np.any(value) == np.issubdtype(value.dtype, np.floating) for value in feeds.values())


def test_an_open_dimension_is_one():
    assert random_feeds(open_session(identity_model((2,)), threads=1))["input"].shape == (1, 2)


def test_a_session_runs_as_it_is_told(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(identity_model((2,)))
    options = open_session(str(path), threads=2).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.use_per_session_threads and not options.enable_profiling


def test_a_profile_is_written_where_it_is_asked_for(tmp_path):
    session = open_session(identity_model((2,)), threads=1, profile_prefix=str(tmp_path / "profile"))
    session.run(None, random_feeds(session))
    assert session.end_profiling().startswith(str(tmp_path / "profile"))


def test_an_old_runtime_without_shared_threads_gets_threads_that_do_not_spin(monkeypatch):
    monkeypatch.setattr(module, "_CAN_SHARE", False)
    module.share_threads(2)
    options = open_session(identity_model((2,)), threads=2, shared_threads=True).get_session_options()
    assert options.use_per_session_threads and options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_model_that_is_none_raises_one_of_the_runtime_errors():
    with pytest.raises(RUNTIME_ERRORS, match="INVALID_PROTOBUF"):
        open_session(b"not a model", threads=1)


def test_a_provider_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ProviderRefused, match=f"no provider 'MoonExecutionProvider': it offers .*{CPU}"):
        open_session(identity_model((2,)), threads=1, provider="MoonExecutionProvider")


class Runtime:
    """Stands in for onnxruntime's sessions, in a build that has the provider ``Moon``."""

    def __init__(self, fails=(), falls_back=False) -> None:
        self.fails, self.falls_back, self.opened = fails, falls_back, []

    def open(self, model, sess_options, providers, enable_fallback):
        assert not enable_fallback
        self.opened.append((sess_options, providers))
        if providers[0][0] in self.fails:
            raise RuntimeError(f"{providers[0][0]} found no driver")
        self._providers = [CPU] if self.falls_back else [name for name, _ in providers]
        return self

    def get_providers(self):
        return self._providers


@pytest.fixture
def moon(monkeypatch):
    def install(**how) -> Runtime:
        runtime = Runtime(**how)
        monkeypatch.setattr(module.ort, "get_available_providers", lambda: ["Moon", XNNPACK, CPU])
        monkeypatch.setattr(module.ort, "InferenceSession", runtime.open)
        return runtime

    return install


def test_a_provider_gets_its_options_as_text_and_the_cpu_takes_the_rest(moon):
    runtime = moon()
    open_session(b"", threads=1, provider="Moon", provider_options={"device_id": 1, "fp16": True, "mode": "fast"})
    assert runtime.opened[0][1] == [("Moon", {"device_id": "1", "fp16": "True", "mode": "fast"}), (CPU, {})]


def test_a_provider_that_does_not_start_is_refused_with_its_reason(moon):
    moon(fails=("Moon",))
    with pytest.raises(ProviderRefused, match="provider 'Moon' does not start: Moon found no driver"):
        open_session(b"", threads=1, provider="Moon")


def test_a_provider_is_not_blamed_for_a_bad_model(moon):
    moon(fails=("Moon", CPU))
    with pytest.raises(RuntimeError, match=f"{CPU} found no driver") as raised:
        open_session(b"", threads=1, provider="Moon")
    assert not isinstance(raised.value, ProviderRefused)


def test_a_silent_fall_back_is_refused(moon):
    moon(falls_back=True)
    with pytest.raises(ProviderRefused, match=f"does not start: onnxruntime took {CPU}"):
        open_session(b"", threads=1, provider="Moon")


@pytest.mark.parametrize(("given", "threads"), [({}, "4"), ({"intra_op_num_threads": 3}, "3")])
def test_xnnpack_has_the_threads_and_onnxruntime_one(moon, given, threads):
    runtime = moon()
    open_session(b"", threads=4, provider=XNNPACK, provider_options=given)
    options, providers = runtime.opened[0]
    assert options.intra_op_num_threads == 1
    assert providers[0] == (XNNPACK, {"intra_op_num_threads": threads})
    assert pool_threads(4, CPU) == 4


@pytest.mark.parametrize(
    ("machine", "flags", "saturates"),
    [
        ("x86_64", "flags : avx2 avx512_vnni", False),
        ("AMD64", "flags : avx2 avx_vnni", False),
        ("x86_64", "flags : avx2 avx512f", True),
        ("x86_64", None, True),
        ("aarch64", None, False),
    ],
)
def test_int8_is_exact_where_the_fast_products_would_overflow(tmp_path, machine, flags, saturates):
    path = tmp_path / "cpuinfo"
    if flags is not None:
        path.write_text(flags)
    assert int8_saturates(str(path), machine) == saturates
