"""Blocks of torch modules, timed on a device as ONNX."""

from __future__ import annotations

from collections.abc import Mapping

from aebnas.costs.blocks import Block, Figures, ForcedPath
from aebnas.devices.identity import identity_model
from aebnas.devices.local import LocalDevice
from aebnas.export.blocks import block_bytes, export_block
from aebnas.export.gate import GATED_OUTPUTS, GatedExit

MIB = 1 << 20


class DeviceTimer:
    """Exports blocks and measures them on ``device``; without one, only their sizes are known."""

    def __init__(self, device: LocalDevice | None, input_shape: tuple[int, ...]) -> None:
        self._device, self._input_shape = device, input_shape
        self.active_w: float | None = None

    def overhead_ms(self) -> float | None:
        """Return the latency of a graph that copies the network's input, in ms; None without a device."""
        if self._device is None:
            return None
        name = "overhead"
        return self._device.measure({name: identity_model(self._input_shape)})[name].latency_ms

    def blocks(self, blocks: Mapping[str, Block]) -> Mapping[str, Figures]:
        """Return the figures of every block at batch 1; all unknown ones are measured interleaved."""
        models = {name: self._model(block) for name, block in blocks.items()}
        sizes = {name: len(model) / MIB for name, model in models.items()}
        if self._device is None:
            return {name: Figures(size) for name, size in sizes.items()}
        found = self._device.measure(models)
        return {
            name: Figures(sizes[name], latency_ms=one.latency_ms, median_ms=one.median_ms)
            for name, one in found.items()
        }

    def paths(self, paths: Mapping[str, ForcedPath]) -> Mapping[str, Figures]:
        """Return the figures of whole early-exit graphs, each forced to one of its exits."""
        return {}

    def _model(self, block: Block) -> bytes:
        outputs = GATED_OUTPUTS if isinstance(block.module, GatedExit) else ("output",)
        return block_bytes(export_block(block.module, block.shape, output_names=outputs, dynamic_batch=False))
