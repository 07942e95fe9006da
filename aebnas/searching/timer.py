"""Blocks of torch modules, timed on a device as ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from torch import Tensor, nn

from aebnas.costs.blocks import Block, Figures, MixedRun, TrialNetwork
from aebnas.devices.device import Device, Job
from aebnas.devices.identity import identity_model
from aebnas.devices.results import Measurement
from aebnas.exits.confidence import Confidence
from aebnas.exits.decision import Decider
from aebnas.export.blocks import block_bytes, export_block
from aebnas.export.deployed import BlockSession, Floats
from aebnas.export.forced import forced_job
from aebnas.export.gate import Decision, export_exit
from aebnas.export.ports import CONFIDENCE, INPUT, LOGITS, NEXT_STATE, PREVIOUS, STATE
from aebnas.export.single_file import Stage, assemble
from aebnas.progress import Progress

MIB = 1 << 20
# Fewer blocks than this (those of one network among them) are measured in a moment, inside of other stages.
_MANY = 24
# A threshold that lets nothing leave.
_GO_ON = math.inf


def exporter(decider: Decider) -> Callable[[Block], onnx.ModelProto]:
    """Return what writes a block as ONNX, in fp32 and at batch 1, with its decision behind it if it is gated."""

    def export(block: Block) -> onnx.ModelProto:
        row = nn.Sequential(*block.parts)
        if not block.gated:
            return export_block(row, block.shape, dynamic_batch=False)
        decision = Decision(decider, first=block.classes_before is None, last=block.last)
        return export_exit(row, decision, block.shape, block.classes_before or 0, dynamic_batch=False)

    return export


class DeviceTimer:
    """Exports blocks and measures them on ``device``; without one, only their sizes are known.

    Args:
        device: What was measured before is remembered there.
        input_shape: Of one sample.
        export: Turns a block into the graph that will run, in the precision that it will run in.
        confidence: What the exported blocks decide by.
        images: Some real ones (N, C, H, W), as the network takes them; None: no network is run on real images.
        progress: Shows it when many blocks are measured.
    """

    def __init__(
        self,
        device: Device | None,
        input_shape: tuple[int, ...],
        export: Callable[[Block], onnx.ModelProto],
        *,
        confidence: Confidence,
        images: Tensor | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._device, self._input_shape, self._export = device, input_shape, export
        self._images = images
        self._progress = progress or Progress()
        self.stateful = confidence.stateful

    def overhead_ms(self) -> float | None:
        """Return the latency of a graph that copies the network's input, in ms; None without a device."""
        if self._device is None:
            return None
        name = "overhead"
        return self._device.measure({name: Job(identity_model(self._input_shape))})[name].latency_ms

    def blocks(self, blocks: Mapping[str, Block]) -> Mapping[str, Figures]:
        """Return the figures of every block at batch 1; all unknown ones are measured interleaved."""
        return self._measured({name: Job(block_bytes(self._export(block))) for name, block in blocks.items()})

    def forced(self, networks: Mapping[str, TrialNetwork]) -> Mapping[str, Figures]:
        """Return the figures of networks that are made to leave at one exit each."""
        export = self._exporting_once()
        jobs: dict[str, Job] = {}
        files: dict[int, bytes] = {}
        for name, network in networks.items():
            last = len(network.stages)
            # A network comes once for each of its exits, and is one file but for the thresholds.
            if id(network.stages) not in files:
                files[id(network.stages)] = _assembled(network, [_GO_ON] * last, export)
            exit_ = last if network.exit is None else network.exit
            jobs[name] = forced_job(files[id(network.stages)], exit_, last + 1)
        return self._measured(jobs)

    def mixed(self, networks: Mapping[str, TrialNetwork]) -> Mapping[str, MixedRun]:
        """Run networks on the real images, one at a time and in no order, and tell where they left and what it took."""
        if self._device is None or self._images is None:
            return {}
        export = self._exporting_once()
        models = {
            name: _assembled(network, _thresholds(network, self._images, export), export)
            for name, network in networks.items()
        }
        ran = self._device.run(models, self._images.numpy(), outputs={name: ["exit"] for name in models}, scaled=True)
        found = {}
        for name, network in networks.items():
            left = np.bincount(ran[name].outputs["exit"].reshape(-1), minlength=len(network.stages) + 1)
            found[name] = MixedRun(tuple((left / left.sum()).tolist()), float(ran[name].latency_ms.mean()))
        return found

    def _exporting_once(self) -> Callable[[Block], onnx.ModelProto]:
        """Return the exporter, for networks that share blocks."""
        made: dict[int, onnx.ModelProto] = {}

        def export(block: Block) -> onnx.ModelProto:
            if id(block) not in made:
                made[id(block)] = self._export(block)
            return made[id(block)]

        return export

    def _ask(self, device: Device, jobs: Mapping[str, Job]) -> Mapping[str, Measurement]:
        if len(jobs) < _MANY:
            return device.measure(jobs)
        with self._progress.stage(f"measuring on {device.profile.name}", len(jobs)) as stage:
            measured = device.measure(jobs, stage.advance)
        unsteady, protocol = sum(not one.steady for one in measured.values()), device.profile.protocol
        if unsteady:
            self._progress.say(
                f"note: {unsteady} of {len(jobs)} blocks are not known to {protocol.precision_pct:g} %, for "
                f"protocol.time_limit_s = {protocol.time_limit_s:g} was over; for another run stop what else runs "
                "there, or raise that limit"
            )
        return measured

    def _measured(self, jobs: Mapping[str, Job]) -> dict[str, Figures]:
        measured = {} if self._device is None else self._ask(self._device, jobs)
        return {name: _figures(len(job.model) / MIB, measured.get(name)) for name, job in jobs.items()}


def _assembled(network: TrialNetwork, thresholds: Sequence[float], export: Callable[[Block], onnx.ModelProto]) -> bytes:
    stages = [
        Stage(export(segment), export(branch), threshold)
        for (segment, branch), threshold in zip(network.stages, thresholds, strict=True)
    ]
    return block_bytes(assemble(stages, export(network.final)))


def _thresholds(network: TrialNetwork, images: Tensor, export: Callable[[Block], onnx.ModelProto]) -> list[float]:
    """Return thresholds that let the share ``network.leaving`` of those images leave that come to each exit.

    By what the blocks say as they will run: converted, branches without training say something else than their modules.
    """
    thresholds, coming = [], np.ones(len(images), dtype=np.bool_)
    here: Floats = images.numpy()
    handed: dict[str, Floats] = {}
    for segment, branch in network.stages:
        (here,) = _run(export(segment), {INPUT: here}).values()
        said = _run(export(branch), {INPUT: here, **handed})
        handed = {PREVIOUS: said[LOGITS]} | ({STATE: said[NEXT_STATE]} if NEXT_STATE in said else {})
        # All may have left already; then the exit is never reached.
        enough = _enough(said[CONFIDENCE][coming], network.leaving) if coming.any() else _GO_ON
        thresholds.append(enough)
        coming &= said[CONFIDENCE] < enough
    return thresholds


def _enough(sure: Floats, share: float) -> float:
    """Return the threshold that the confidences ``sure`` reach by about ``share``.

    Some leave and some go on, however many are equal. Where all are, as patience is at the first exit, none leaves: all
    leaving would say nothing of what exits cost that are passed.
    """
    above_lowest = np.unique(sure)[1:]
    if not len(above_lowest):
        return _GO_ON
    shares = (sure[None] >= above_lowest[:, None]).mean(axis=1)
    return float(above_lowest[np.abs(shares - share).argmin()])


def _run(block: onnx.ModelProto, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the outputs of ``block``, which has a batch of 1, for all rows of those of ``inputs`` that it takes."""
    session = BlockSession(block)
    taken = {name: inputs[name] for name in session.inputs}
    rows = zip(*(np.split(values, len(values)) for values in taken.values()), strict=True)
    ran = [session.outputs(dict(zip(taken, row, strict=True))) for row in rows]
    return {name: np.concatenate([outputs[name] for outputs in ran]) for name in ran[0]}


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
