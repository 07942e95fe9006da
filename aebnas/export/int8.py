"""Static int8 quantisation of one block by onnxruntime's own tools."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from aebnas.export.graphs import Grid, without_unused
from aebnas.export.ports import LOGITS

# Samples that are run at once while ranges are collected: all their activations are in memory together.
CALIBRATION_BATCH = 32
# Severities of onnxruntime's log; it can be told one, but not asked for it: warnings are its own default.
_WARNING, _ERROR = 2, 3
# What multiplies by weights: where the last of these stands, the work is done that int8 makes faster.
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantise(block: onnx.ModelProto, samples: npt.NDArray[np.float32], grid: Grid | None = None) -> onnx.ModelProto:
    """Return ``block`` with weights of 8 bits per channel and activations of 8 bits (QDQ), float32 in and out.

    Ranges are the smallest and the largest value that each tensor takes on ``samples``. Logits stay float, and so does
    all that lies between them and the last convolution or linear layer: on a grid of 256 values logits would tie.

    Args:
        samples: Inputs of the block, float32 (n, ...).
        grid: The grid of the input, where it lies on one already: it is quantised to the same values again.

    Raises:
        Exception: of whatever kind onnxruntime's tools raise on what they cannot convert.
    """
    options: dict[str, Any] = {
        "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
        # Else a branch that begins with pooling would leave int8 for it, and come back behind it.
        "ForceQuantizeNoInputCheck": True,
    }
    source = block.graph.input[0].name
    if grid is not None:
        fixed = {"scale": np.array(grid.scale, np.float32), "zero_point": np.array(grid.zero_point, np.uint8)}
        options["TensorQuantOverrides"] = {source: [fixed]}
    with tempfile.TemporaryDirectory(prefix="aebnas-int8-") as folder, _quiet():
        plain, ready, made = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "made"))
        onnx.save(_with_names(block), plain)
        # Folds constants, and gives layers with equal biases one each: a shared one would not be quantised.
        quant_pre_process(str(plain), str(ready), auto_merge=True)
        prepared = without_unused(onnx.load(ready))
        onnx.save(prepared, ready)
        quantization.quantize_static(
            str(ready),
            str(made),
            _Samples(source, samples, free_batch=not block.graph.input[0].type.tensor_type.shape.dim[0].dim_value),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            nodes_to_exclude=_before_logits(prepared.graph),
            extra_options=options,
        )
        return without_unused(onnx.load(made))


class _Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Feeds samples to the tools, one by one where the batch is fixed."""

    def __init__(self, name: str, samples: npt.NDArray[np.float32], *, free_batch: bool) -> None:
        size = CALIBRATION_BATCH if free_batch else 1
        self._batches = iter([{name: samples[at : at + size]} for at in range(0, len(samples), size)])

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self._batches, None)


def _with_names(block: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose nodes all have names: without one, a node cannot be excluded."""
    named = onnx.ModelProto()
    named.CopyFrom(block)
    for number, node in enumerate(named.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return named


def _before_logits(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes between the last weighted ones and the logits."""
    producers = {name: node for node in graph.node for name in node.output}
    waiting = [output.name for output in graph.output if output.name == LOGITS]
    found: dict[str, None] = {}
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.op_type not in _WEIGHTED and node.name not in found:
            found[node.name] = None
            waiting += node.input
    return list(found)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tools' remarks off the screen; they log to the root logger, which would even be set up by that."""
    root = logging.getLogger()
    nowhere, before = logging.NullHandler(), root.level
    root.addHandler(nowhere)  # the root logger sets itself up on the first message that finds no handler
    root.setLevel(logging.CRITICAL)
    ort.set_default_logger_severity(_ERROR)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_WARNING)
        root.setLevel(before)
        root.removeHandler(nowhere)
