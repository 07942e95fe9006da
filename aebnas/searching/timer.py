"""Blocks of torch modules, timed on a device as ONNX."""

from __future__ import annotations

from collections.abc import Mapping

from aebnas.costs.blocks import Block
from aebnas.devices.identity import identity_model
from aebnas.devices.local import LocalDevice
from aebnas.export.blocks import block_bytes, export_block
from aebnas.export.gate import GATED_OUTPUTS, GatedExit


class DeviceTimer:
    """Exports blocks and measures them on ``device``; what was measured before is remembered there."""

    def __init__(self, device: LocalDevice, input_shape: tuple[int, ...]) -> None:
        self._device, self._input_shape = device, input_shape

    def overhead_ms(self) -> float:
        """Return the latency of a graph that copies the network's input, in ms."""
        name = "overhead"
        return self._device.measure({name: identity_model(self._input_shape)})[name].latency_ms

    def latencies_ms(self, blocks: Mapping[str, Block]) -> Mapping[str, float]:
        """Return the latency of every block at batch 1, in ms; all unknown ones are measured interleaved."""
        models = {name: self._model(block) for name, block in blocks.items()}
        return {name: measured.latency_ms for name, measured in self._device.measure(models).items()}

    def _model(self, block: Block) -> bytes:
        outputs = GATED_OUTPUTS if isinstance(block.module, GatedExit) else ("output",)
        return block_bytes(export_block(block.module, block.shape, output_names=outputs, dynamic_batch=False))
