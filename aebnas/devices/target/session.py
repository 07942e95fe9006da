"""Opening an onnxruntime session as it is measured and as it is deployed."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as _state

# onnxruntime's exceptions share no base class of their own.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *(kind for kind in vars(_state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)
CPU = "CPUExecutionProvider"
XNNPACK = "XnnpackExecutionProvider"
_CAN_SHARE = hasattr(ort, "set_global_thread_pool_sizes")

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


class ProviderRefused(RuntimeError):
    """The provider asked for is not in this onnxruntime, or does not start on this machine; the message says which."""


def open_session(
    model: bytes | str,
    *,
    threads: int,
    provider: str = CPU,
    provider_options: Mapping[str, Any] | None = None,
    batch: int | None = None,
    shared_threads: bool = False,
    profile_prefix: str | None = None,
) -> ort.InferenceSession:
    """Open ``model`` with pinned threads, sequential execution, the provider asked for and no warnings.

    Args:
        model: A serialised ONNX model, or the path of one.
        threads: Threads inside one operator.
        provider: An onnxruntime execution provider; the CPU takes the nodes it does not support.
        provider_options: The provider's own options.
        batch: Fixes the dimension that is called ``batch``, so that shapes are known when the graph is optimised.
        shared_threads: The session uses the process's thread pool, which ``share_threads`` has made, so that the
            threads of many open sessions do not spin against each other.
        profile_prefix: Switches onnxruntime's profiling on; its file's path starts with this.

    Raises:
        ProviderRefused: onnxruntime would fall back to another provider.
        One of ``RUNTIME_ERRORS``: onnxruntime cannot load the model.
    """
    options = _session_options(pool_threads(threads, provider), batch, shared_threads, profile_prefix)
    if provider == CPU:
        return _load(model, options, [(CPU, {})])
    require_provider(provider)
    wanted = (provider, _provider_options(provider, provider_options or {}, threads))
    try:
        session = _load(model, options, [wanted, (CPU, {})])
    except RUNTIME_ERRORS as error:
        # A model that the CPU takes is a good one: then it is the provider that failed. One that it does not take
        # raises here, with what is wrong with the model.
        _load(model, options, [(CPU, {})])
        raise ProviderRefused(f"provider {provider!r} does not start: {error}") from error
    if provider not in session.get_providers():
        raise ProviderRefused(f"provider {provider!r} does not start: onnxruntime took {session.get_providers()[0]}")
    return session


def require_provider(provider: str) -> None:
    """Raise ProviderRefused if this onnxruntime was built without ``provider``."""
    if provider not in ort.get_available_providers():
        offered = ", ".join(ort.get_available_providers())
        raise ProviderRefused(f"this onnxruntime has no provider {provider!r}: it offers {offered}")


def pool_threads(threads: int, provider: str) -> int:
    """Return the threads of onnxruntime's own pool: XNNPACK has its own, and two would fight for the cores."""
    return 1 if provider == XNNPACK else threads


def share_threads(threads: int) -> None:
    """Make the thread pool that sessions opened with ``shared_threads`` use; once, before the first session.

    Where onnxruntime is too old for that, such sessions have pools of their own whose threads do not spin.
    """
    if _CAN_SHARE:
        ort.set_global_thread_pool_sizes(threads, 1)


def random_feeds(session: ort.InferenceSession) -> dict[str, np.ndarray]:
    """Return an array for every input of ``session``: normal for floats, zeros for others, 1 for open dimensions."""
    rng = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {}
    for node in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in node.shape]
        dtype = _DTYPES.get(node.type, np.float32)
        is_float = np.issubdtype(dtype, np.floating)
        feeds[node.name] = (rng.standard_normal(shape) if is_float else np.zeros(shape)).astype(dtype)
    return feeds


def _session_options(threads: int, batch: int | None, shared: bool, profile_prefix: str | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if int8_saturates():
        # Exact products instead, which take twice as long: an accuracy found on one processor has to hold on another.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if shared and _CAN_SHARE:
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if shared:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if batch is not None:
        options.add_free_dimension_override_by_name("batch", batch)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    return options


@lru_cache
def int8_saturates(cpuinfo: str = "/proc/cpuinfo", machine: str = "") -> bool:
    """Tell whether onnxruntime's fast int8 products can overflow on this processor: x86-64 without VNNI."""
    if (machine or platform.machine()).lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "vnni" not in Path(cpuinfo).read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux: it cannot be told
        return True


def _provider_options(provider: str, given: Mapping[str, Any], threads: int) -> dict[str, str]:
    options = {"intra_op_num_threads": threads, **given} if provider == XNNPACK else given
    return {key: str(value) for key, value in options.items()}


def _load(
    model: bytes | str, options: ort.SessionOptions, providers: list[tuple[str, dict[str, str]]]
) -> ort.InferenceSession:
    # Without enable_fallback=0 onnxruntime prints a banner and goes on with whatever provider works.
    return ort.InferenceSession(model, sess_options=options, providers=providers, enable_fallback=0)
