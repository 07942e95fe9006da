"""onnxruntime's execution providers: their short names, and the package that brings each."""

from __future__ import annotations

from collections.abc import Iterable

from aebnas.registry import unknown_name

_SUFFIX = "ExecutionProvider"
SHORT_NAMES = {
    "CPU": "CPUExecutionProvider",
    "XNNPACK": "XnnpackExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "TensorRT": "TensorrtExecutionProvider",
    "OpenVINO": "OpenVINOExecutionProvider",
    "CoreML": "CoreMLExecutionProvider",
    "NNAPI": "NnapiExecutionProvider",
    "QNN": "QNNExecutionProvider",
    "ROCm": "ROCMExecutionProvider",
    "DirectML": "DmlExecutionProvider",
}
_FROM_SOURCE = "build onnxruntime with it (--use_{flag}): no package on PyPI has it"
_FROM_PACKAGE = "put the package {package} in the place of onnxruntime (uninstall that first)"
_INSTALL = {
    "CPU": "install the package onnxruntime again: every build of it has this provider",
    "XNNPACK": _FROM_SOURCE.format(flag="xnnpack"),
    "CUDA": _FROM_PACKAGE.format(package="onnxruntime-gpu") + "; on a Jetson, the one that NVIDIA offers for it",
    "TensorRT": _FROM_PACKAGE.format(package="onnxruntime-gpu") + "; on a Jetson, the one that NVIDIA offers for it",
    "OpenVINO": _FROM_PACKAGE.format(package="onnxruntime-openvino"),
    "CoreML": "use a Mac: its onnxruntime has it",
    "NNAPI": "use the onnxruntime of an Android app; it cannot be measured from here",
    "QNN": _FROM_PACKAGE.format(package="onnxruntime-qnn"),
    "ROCm": _FROM_SOURCE.format(flag="rocm"),
    "DirectML": _FROM_PACKAGE.format(package="onnxruntime-directml"),
}


def full_name(name: str) -> str:
    """Return onnxruntime's name of a provider that is called by its short name, in any case, or in full.

    Raises:
        ValueError: it is neither; whether a target offers it is another question.
    """
    shorts = {short.lower(): full for short, full in SHORT_NAMES.items()}
    if name.lower() in shorts:
        return shorts[name.lower()]
    if not name.endswith(_SUFFIX) or name == _SUFFIX:
        raise ValueError(unknown_name("provider", name, SHORT_NAMES))
    return name


def short_name(full: str) -> str:
    """Return the name that a profile may use for onnxruntime's ``full`` name of a provider."""
    return next((short for short, known in SHORT_NAMES.items() if known == full), full)


def offer(providers: Iterable[str]) -> str:
    """Return onnxruntime's ``providers`` as a profile names them, in one line; not the one that runs elsewhere."""
    return ", ".join(short_name(full) for full in providers if full != "AzureExecutionProvider")


def how_to_install(full: str) -> str:
    """Return, as a request, what brings a provider that is not there."""
    return _INSTALL.get(short_name(full), "install an onnxruntime that was built with it")
