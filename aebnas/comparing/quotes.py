"""The prices of every variant's network: counted, or measured once on the device and kept."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.spec import BranchSpec
from aebnas.comparing.folder import ComparisonFolder
from aebnas.comparing.pricing import Prices
from aebnas.comparing.variants import Variant
from aebnas.costs.blocks import Block
from aebnas.costs.kinds import COSTS
from aebnas.costs.model import CostModel
from aebnas.data.splits import DataBundle
from aebnas.devices.device import Device
from aebnas.devices.profile import HardwareProfile, load_profile
from aebnas.devices.store import LatencyStore, user_folder
from aebnas.errors import ExperimentError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import Decider
from aebnas.export.blocks import block_bytes
from aebnas.files import digest, read_json, write_json
from aebnas.progress import Progress
from aebnas.searching.costing import TIMED_IMAGES
from aebnas.searching.timer import DeviceTimer, exporter


def price_variants(
    variants: Sequence[Variant],
    specs: Sequence[BranchSpec],
    backbone: SegmentedBackbone,
    data: DataBundle,
    folder: ComparisonFolder,
    progress: Progress,
) -> dict[str, Prices]:
    """Return the prices of every variant by its key; what was measured is kept, so that all seeds pay the same.

    The static networks have one price for all variants, that of the first measurement in this folder: else shares of
    the backbone's cost would change with the order of the variants.

    Args:
        backbone: Cut at the attach points of ``specs``; weights do not matter.

    Raises:
        ExperimentError: the device does not tell the cost. MeasurementError: it could not measure.
    """
    base = variants[0].experiment
    kind, found = COSTS[base.compare.cost], {}
    if kind.name == "macs":
        model = CostModel(backbone, None)
        return {variant.key: _of(variant, specs, model) for variant in variants}
    profile = load_profile(base.device)
    if kind.device and not profile.measurable:
        raise ExperimentError(f"device {profile.name!r} cannot be measured from here: set compare.cost to macs")
    with contextlib.ExitStack() as stack:
        device: Device | None = None
        models: dict[str, CostModel] = {}
        for variant in variants:
            confidence, cascade = variant.experiment.confidence, variant.experiment.cascade
            file = folder.path / "prices" / f"{digest(kind.name, confidence, cascade)}.json"
            if not file.exists():
                if device is None and profile.measurable:
                    device = stack.enter_context(_reached(profile, folder, progress))
                if confidence not in models:
                    models[confidence] = _model(confidence, specs, backbone, data, device, progress)
                write_json(file, _of(variant, specs, models[confidence]).to_json())
            found[variant.key] = _with_one_backbone(Prices.from_json(read_json(file)), folder)
    return found


def _with_one_backbone(prices: Prices, folder: ComparisonFolder) -> Prices:
    """Return ``prices`` with the static networks' of this folder, which these become if there are none yet."""
    file = folder.path / "prices" / "static.json"
    if not file.exists():
        write_json(file, {"backbone": prices.backbone, "truncated": list(prices.truncated)})
    static = read_json(file)
    return dataclasses.replace(prices, backbone=static["backbone"], truncated=tuple(static["truncated"]))


def _of(variant: Variant, specs: Sequence[BranchSpec], model: CostModel) -> Prices:
    name = variant.experiment.compare.cost
    if name not in model.names:
        raise ExperimentError(f"compare.cost: the device does not tell {name}: choose one of {', '.join(model.names)}")
    cascade, plain = variant.experiment.cascade, model.network(specs)
    return Prices.of(plain if cascade == "none" else model.network(specs, cascade), plain, model.backbone, name)


def _reached(profile: HardwareProfile, folder: ComparisonFolder, progress: Progress) -> Device:
    stores = (LatencyStore(folder.path / "latency"), LatencyStore(user_folder()))
    return Device(profile, stores, progress.say)


def _model(
    confidence: str,
    specs: Sequence[BranchSpec],
    backbone: SegmentedBackbone,
    data: DataBundle,
    device: Device | None,
    progress: Progress,
) -> CostModel:
    """Return a cost model whose overhead is fitted on the network itself, with all, one and two of its exits."""
    measure = build_confidence(confidence)
    export = exporter(Decider(measure))
    if device is not None:
        device.require()
        device.use_yardstick(block_bytes(export(Block(tuple(backbone.segments), backbone.input_shape))))
    timer = DeviceTimer(
        device, data.input_shape, export, confidence=measure, images=_some_images(data), progress=progress
    )
    chosen = {tuple(specs): None, tuple(specs[:1]): None, tuple(specs[:2]): None, tuple(specs[-1:]): None}
    return CostModel(backbone, timer, list(chosen))


def _some_images(data: DataBundle) -> Tensor:
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:TIMED_IMAGES]
    return torch.cat([batch.images for batch in data.train.subset(rows).batches(TIMED_IMAGES)])
