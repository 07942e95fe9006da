"""One torch module as one ONNX block."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import onnx
import torch
from torch import nn

from aebnas.errors import BackboneError
from aebnas.export.pooling import pooling_to_any_size

OPSET = 17
BATCH = "batch"


def export_block(
    module: nn.Module,
    input_shapes: Sequence[int] | Sequence[Sequence[int]],
    *,
    input_names: Sequence[str] = ("input",),
    output_names: Sequence[str] = ("output",),
    dynamic_batch: bool = True,
) -> onnx.ModelProto:
    """Export ``module``, in eval mode, as an ONNX model of opset 17 that takes float32 tensors.

    The module's own train/eval flags are put back afterwards.

    Args:
        module: Takes one float32 tensor per entry of ``input_names``, gives one tensor per entry of ``output_names``.
        input_shapes: Shape of one sample, without the batch; or one such shape per input.
        input_names: Names of the inputs.
        output_names: Names of the outputs.
        dynamic_batch: The first dimension of every input and output is free and called ``batch``; else it is 1.

    Raises:
        BackboneError: the module uses an operation that ONNX does not have.
    """
    shapes = _as_shapes(input_shapes)
    # Traced with two samples when the batch is free, so that nothing is specialised on a batch of one.
    batch = 2 if dynamic_batch else 1
    examples = tuple(torch.zeros(batch, *shape, device=_device(module)) for shape in shapes)
    axes = {name: {0: BATCH} for name in (*input_names, *output_names)} if dynamic_batch else None
    # The annotation knows paths only; the TorchScript exporter takes a file object as well.
    buffer: Any = io.BytesIO()
    with (
        _eval_mode(module),
        torch.no_grad(),
        warnings.catch_warnings(),
        _no_graph_dump(),
        _attention_unfused(),
        pooling_to_any_size(OPSET),
    ):
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module,
                examples,
                buffer,
                input_names=list(input_names),
                output_names=list(output_names),
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BackboneError(
                f"{type(module).__name__} cannot be written as ONNX ({reason}): replace the operation it names"
            ) from error
    return onnx.load_from_string(buffer.getvalue())


def output_shape(module: nn.Module, input_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of one sample, without the batch, that eval-mode ``module`` makes of ``input_shape``."""
    with _eval_mode(module), torch.no_grad():
        output: torch.Tensor = module(torch.zeros(1, *input_shape, device=_device(module)))
    return tuple(output.shape[1:])


def block_bytes(model: onnx.ModelProto) -> bytes:
    """Serialise ``model``; equal models give equal bytes."""
    return bytes(model.SerializeToString(deterministic=True))


def _as_shapes(shapes: Sequence[int] | Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    if all(isinstance(size, int) for size in shapes):
        return [tuple(cast("Sequence[int]", shapes))]
    return [tuple(shape) for shape in cast("Sequence[Sequence[int]]", shapes)]


def _device(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in module.parameters()), torch.device("cpu"))


@contextlib.contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def _attention_unfused() -> Iterator[None]:
    """Let attention be the operations that it is made of: ONNX does not have the fused one that eval mode takes."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextlib.contextmanager
def _no_graph_dump() -> Iterator[None]:
    """Keep off the screen the whole graph that torch prints, from C++, when an export fails.

    It is told to print there on stderr, which is not buffered, and stderr leads nowhere for that long.
    """
    choose_stream = getattr(torch._C, "_jit_set_onnx_log_output_stream", None)
    if choose_stream is None:
        yield
        return
    choose_stream("stderr")
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
