"""Blocks of torch modules, timed on a device as ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx
from torch import nn

from aebnas.costs.blocks import Block, Figures, ForcedPath
from aebnas.devices.device import Device, Job
from aebnas.devices.identity import identity_model
from aebnas.devices.results import Measurement
from aebnas.export.blocks import block_bytes, export_block
from aebnas.export.gate import GATED_OUTPUTS, Gate, GatedExit
from aebnas.export.single_file import Stage, assemble

MIB = 1 << 20
# Thresholds that let everything leave, and nothing.
_LEAVE, _GO_ON = -math.inf, math.inf


def exporter(gate: Gate) -> Callable[[Block], onnx.ModelProto]:
    """Return what writes a block as ONNX, in fp32 and at batch 1, with ``gate`` behind its logits if it is gated."""

    def export(block: Block) -> onnx.ModelProto:
        row = nn.Sequential(*block.parts)
        if not block.gated:
            return export_block(row, block.shape, dynamic_batch=False)
        return export_block(GatedExit(row, gate), block.shape, output_names=GATED_OUTPUTS, dynamic_batch=False)

    return export


class DeviceTimer:
    """Exports blocks and measures them on ``device``; without one, only their sizes are known.

    Args:
        device: What was measured before is remembered there.
        input_shape: Of one sample.
        export: Turns a block into the graph that will run, in the precision that it will run in.
    """

    def __init__(
        self,
        device: Device | None,
        input_shape: tuple[int, ...],
        export: Callable[[Block], onnx.ModelProto],
    ) -> None:
        self._device, self._input_shape, self._export = device, input_shape, export

    def overhead_ms(self) -> float | None:
        """Return the latency of a graph that copies the network's input, in ms; None without a device."""
        if self._device is None:
            return None
        name = "overhead"
        return self._device.measure({name: Job(identity_model(self._input_shape))})[name].latency_ms

    def blocks(self, blocks: Mapping[str, Block]) -> Mapping[str, Figures]:
        """Return the figures of every block at batch 1; all unknown ones are measured interleaved."""
        return self._measured({name: Job(block_bytes(self._export(block))) for name, block in blocks.items()})

    def paths(self, paths: Mapping[str, ForcedPath]) -> Mapping[str, Figures]:
        """Return the figures of whole early-exit graphs, each forced to one of its exits."""
        made: dict[int, onnx.ModelProto] = {}

        def export(block: Block) -> onnx.ModelProto:
            # The paths of one network share their blocks.
            if id(block) not in made:
                made[id(block)] = self._export(block)
            return made[id(block)]

        return self._measured({name: _forced(path, export) for name, path in paths.items()})

    def _measured(self, jobs: Mapping[str, Job]) -> dict[str, Figures]:
        measured = {} if self._device is None else self._device.measure(jobs)
        return {name: _figures(len(job.model) / MIB, measured.get(name)) for name, job in jobs.items()}


def _forced(path: ForcedPath, export: Callable[[Block], onnx.ModelProto]) -> Job:
    stages = [
        Stage(export(segment), export(branch), _LEAVE if number == path.exit else _GO_ON)
        for number, (segment, branch) in enumerate(path.stages)
    ]
    model = assemble(stages, export(path.final))
    return Job(block_bytes(model), variant=f"leaves at exit {path.exit}")


def _figures(size_mib: float, measured: Measurement | None) -> Figures:
    if measured is None:
        return Figures(size_mib)
    return Figures(
        size_mib,
        latency_ms=measured.latency_ms,
        median_ms=measured.median_ms,
        memory_mib=measured.peak_memory_mib,
        energy_mj=measured.energy_mj,
        energy_source=measured.energy_source,
    )
