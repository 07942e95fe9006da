"""A network as it will run in another precision than fp32: the very blocks that are exported, made once and kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import nn

from aebnas.backbones.build import state_fingerprint
from aebnas.branches.build import Branch
from aebnas.devices.target.session import RUNTIME_ERRORS, open_session
from aebnas.errors import BackboneError
from aebnas.export.blocks import block_bytes, export_block, output_shape
from aebnas.export.graphs import Grid, join, output_grid, set_output_shape
from aebnas.export.ports import LOGITS
from aebnas.export.precision import INT8, convert
from aebnas.files import digest

T = TypeVar("T")
Floats = npt.NDArray[np.float32]
# What the calibration images may take in memory, with their features at all borders of the segments.
CALIBRATION_BYTES = 256 << 20
_FEWEST_SAMPLES = 16
_BATCH = 32


class Records(Protocol):
    """Dictionaries of tensors by key, as a run keeps them."""

    def has(self, key: str) -> bool: ...

    def get(self, key: str) -> dict[str, Any]: ...

    def put(self, key: str, record: dict[str, Any]) -> None: ...


class Chain:
    """The segments of a backbone in one precision, and whatever branches hang between them.

    Every segment is converted once, by itself, and segments that run in a row are joined: so the tensor between two of
    them lies on one grid whether or not a branch reads it, and the logits of an exit do not depend on which other
    exits are on. Each segment takes over the grid that the one before it leaves.

    Args:
        segments: In evaluation mode; the last one ends in the logits.
        input_shape: Of one sample.
        precision: Not fp32.
        images: Gives training images, float32 (n, C, H, W), preprocessed, when they are needed: the values that they
            take inside the fp32 network are the ranges of int8. As many are used as fit in ``CALIBRATION_BYTES``.
        kept: Where blocks are kept: one that was judged is the one that is exported, whenever that is.
        key: Changes with the weights of the segments.
    """

    def __init__(
        self,
        segments: Sequence[nn.Module],
        input_shape: Sequence[int],
        precision: str,
        images: Callable[[], Floats],
        kept: Records,
        key: str,
    ) -> None:
        self._segments, self._images, self._kept = segments, images, kept
        self.precision = precision
        self.key = digest(key, precision)
        self._shapes = [tuple(input_shape)]
        for segment in segments[:-1]:
            self._shapes.append(output_shape(segment, self._shapes[-1]))

    @cached_property
    def blocks(self) -> list[onnx.ModelProto]:
        """The segments, with a free batch.

        Raises:
            BackboneError: one cannot be converted.
        """
        made: list[onnx.ModelProto] = []
        for number, segment in enumerate(self._segments):
            output = LOGITS if number == len(self._segments) - 1 else "output"
            grid = output_grid(made[-1]) if made else None
            make = partial(self._converted, segment, number, output, grid)
            made.append(self._block(digest(self.key, "segment", str(number)), make))
        return made

    def branch(self, branch: Branch, border: int) -> onnx.ModelProto:
        """Return ``branch``, in evaluation mode, on the output of segment ``border``.

        Raises:
            BackboneError: it cannot be converted.
        """
        make = partial(self._converted, branch, border + 1, LOGITS, self.grid(border))
        return self._block(self.branch_key(branch, border), make)

    def branch_key(self, branch: Branch, border: int) -> str:
        """Return what changes with all that the logits of ``branch`` depend on: its weights, and this chain."""
        return digest(self.key, str(border), branch.spec.key, state_fingerprint(branch))

    def grid(self, border: int) -> Grid | None:
        """Return the grid that the output of segment ``border`` lies on, None where it is not quantised."""
        return output_grid(self.blocks[border])

    def span(self, start: int, stop: int) -> onnx.ModelProto:
        """Return segments ``start`` to ``stop - 1`` as one block."""
        return join(self.blocks[start:stop])

    def _block(self, key: str, make: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
        if not self._kept.has(key):
            content = bytearray(block_bytes(make()))
            self._kept.put(key, {"block": torch.frombuffer(content, dtype=torch.uint8)})
        return onnx.load_from_string(self._kept.get(key)["block"].numpy().tobytes())

    def _converted(self, module: nn.Module, border: int, output: str, grid: Grid | None) -> onnx.ModelProto:
        block = export_block(module, self._shapes[border], output_names=[output])
        calibration = self._calibration[border] if self.precision == INT8 else None
        made = convert(block, self.precision, calibration, grid=grid)
        set_output_shape(made, output_shape(module, self._shapes[border]))
        return made

    @cached_property
    def _calibration(self) -> list[Floats]:
        """Inputs of every segment, in fp32."""
        per_sample = 4 * sum(math.prod(shape) for shape in self._shapes)
        inputs = [self._images()[: max(_FEWEST_SAMPLES, CALIBRATION_BYTES // per_sample)]]
        for segment in self._segments[:-1]:
            inputs.append(_outputs(segment, inputs[-1]))
        return inputs


@dataclass(frozen=True)
class DeployedNetwork:
    """A network in another precision than fp32; branch k hangs on the output of segment ``borders[k]`` of the chain."""

    chain: Chain
    borders: tuple[int, ...]
    branches: tuple[onnx.ModelProto, ...]

    def parts(self, mask: Sequence[bool]) -> tuple[list[onnx.ModelProto], list[onnx.ModelProto]]:
        """Return the segments and branches that run when only the branches in ``mask`` are on."""
        on = [number for number, wanted in enumerate(mask) if wanted]
        bounds = [0, *(self.borders[number] + 1 for number in on), len(self.chain.blocks)]
        segments = [self.chain.span(start, stop) for start, stop in itertools.pairwise(bounds)]
        return segments, [self.branches[number] for number in on]


class BlockSession:
    """A block, opened here to compute what it will compute on the device."""

    def __init__(self, block: onnx.ModelProto) -> None:
        self._session: ort.InferenceSession = _guarded(
            lambda: open_session(block_bytes(block), threads=torch.get_num_threads())
        )
        self.inputs = [given.name for given in block.graph.input]
        self._outputs = [output.name for output in block.graph.output]

    def run(self, batch: Floats) -> Floats:
        """Return the first output for ``batch``, the only input.

        Raises:
            BackboneError: onnxruntime cannot run the block.
        """
        return self.outputs({self.inputs[0]: batch})[self._outputs[0]]

    def outputs(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        """Return all outputs by name.

        Raises:
            BackboneError: onnxruntime cannot run the block.
        """
        return dict(zip(self._outputs, _guarded(lambda: self._session.run(None, dict(inputs))), strict=True))


def _guarded(run: Callable[[], T]) -> T:
    try:
        return run()
    except RUNTIME_ERRORS as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(
            f"a part of this network cannot run in the precision asked for ({reason}): choose another precision"
        ) from error


@torch.no_grad()
def _outputs(segment: nn.Module, inputs: Floats) -> Floats:
    """Return what ``segment`` makes of ``inputs``, on whatever device its weights are."""
    device = next((tensor.device for tensor in segment.parameters()), torch.device("cpu"))
    parts = [segment(part.to(device)).cpu() for part in torch.split(torch.from_numpy(inputs), _BATCH)]
    outputs: Floats = torch.cat(parts).numpy()
    return outputs
