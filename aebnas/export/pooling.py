"""Adaptive average pooling in ONNX, to any size: PyTorch's own exporter knows those that divide the maps evenly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.onnx import symbolic_helper

_NAME = "aten::adaptive_avg_pool2d"


@contextlib.contextmanager
def pooling_to_any_size(opset: int) -> Iterator[None]:
    """Let exports in this block have it; where the size does divide the maps, as PyTorch writes it."""
    torch.onnx.register_custom_op_symbolic(_NAME, _pool, opset)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic(_NAME, opset)  # type: ignore[attr-defined]


@symbolic_helper.parse_args("v", "is")
def _pool(graph: Any, maps: Any, wanted: list[int]) -> Any:
    if wanted == [1, 1]:
        return graph.op("GlobalAveragePool", maps)
    given = maps.type().varyingSizes()[-2:]
    if None in given:
        raise torch.onnx.OnnxExporterError("adaptive_avg_pool2d of maps whose size is not known")
    if all(size % goal == 0 for size, goal in zip(given, wanted, strict=True)):
        window = [size // goal for size, goal in zip(given, wanted, strict=True)]
        return graph.op("AveragePool", maps, kernel_shape_i=window, strides_i=window)
    # Windows that overlap, or are larger than what they are taken from: means over rows, then over columns.
    rows, columns = (_means(size, goal) for size, goal in zip(given, wanted, strict=True))
    over_rows = graph.op("MatMul", graph.op("Constant", value_t=rows), maps)
    return graph.op("MatMul", over_rows, graph.op("Constant", value_t=columns.T.contiguous()))


def _means(size: int, goal: int) -> Tensor:
    """Return what makes ``goal`` means of ``size`` values, (goal, size)."""
    means = torch.zeros(goal, size)
    for number in range(goal):
        start, end = number * size // goal, -(-(number + 1) * size // goal)
        means[number, start:end] = 1 / (end - start)
    return means
