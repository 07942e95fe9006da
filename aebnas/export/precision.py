"""The precisions that a network can be deployed in, and turning a block into one of them."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import onnx

from aebnas.branches.spec import FP32
from aebnas.errors import BackboneError
from aebnas.export.graphs import Grid, join, sample_shape, sort_nodes, split_gate

FP16, INT8 = "fp16", "int8"
PRECISIONS = (FP32, FP16, INT8)
_TIMING_SAMPLES = 1


def convert(
    block: onnx.ModelProto,
    precision: str,
    calibration: npt.NDArray[np.float32] | None = None,
    *,
    grid: Grid | None = None,
) -> onnx.ModelProto:
    """Return ``block`` in ``precision``; its inputs and outputs stay float32.

    Of a gated exit only what computes the logits is converted: the gate decides in float32. ``fp16`` halves the
    weights everywhere, but is computed as such only where the provider can; ``int8`` is :func:`int8.quantise`.

    Args:
        block: In fp32, with a batch of 1 or a free one.
        calibration: For int8: inputs of the block, float32 (n, ...), whose ranges of values become its grids.
        grid: For int8: the grid that the input lies on already, as the block before leaves it.

    Raises:
        BackboneError: the block cannot be converted, or is a cascaded branch.
    """
    if precision == FP32:
        return block
    body, gate = split_gate(block)
    if len(body.graph.input) > 1:
        raise refuse_cascade(precision)
    try:
        made = _fp16(body) if precision == FP16 else _int8(body, calibration, grid)
    except Exception as error:  # the tools raise anything on a graph that they did not expect
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise BackboneError(
            f"a part of this network cannot be converted to {precision} ({reason}): leave {precision} out of the "
            "device's precision"
        ) from error
    return made if gate is None else join([made, gate], keep_inner=True)


def convert_for_timing(block: onnx.ModelProto, precision: str, grid: Grid | None = None) -> onnx.ModelProto:
    """Return ``block`` in ``precision`` as it is timed: the same operations, on grids that fit no real data.

    Args:
        block: In fp32, with a batch of 1 or a free one.
        grid: For int8: the grid that the input lies on already.

    Raises:
        BackboneError: the block cannot be converted.
    """
    shape = (_TIMING_SAMPLES, *sample_shape(block))
    return convert(block, precision, np.random.default_rng(0).standard_normal(shape, dtype=np.float32), grid=grid)


def refuse_cascade(precision: str) -> BackboneError:
    """Return the error for a cascaded branch that is to run in ``precision``, which is not fp32."""
    return BackboneError(
        f"cascaded branches run in fp32 only: leave {precision} out of the device's precision, or set cascade to none"
    )


def _int8(block: onnx.ModelProto, calibration: npt.NDArray[np.float32] | None, grid: Grid | None) -> onnx.ModelProto:
    from aebnas.export.int8 import quantise

    if calibration is None or not len(calibration):
        raise ValueError("int8 needs samples to calibrate on")
    return quantise(block, calibration, grid)


def _fp16(block: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(block)
    with warnings.catch_warnings():
        # Weights beyond the range of fp16 become its ends, which it warns of one by one.
        warnings.simplefilter("ignore")
        made: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    # The casts of inputs stand at the end, where only onnxruntime does not mind.
    sort_nodes(made.graph)
    return made
