"""How well the latency of early-exit networks is predicted from their blocks, against whole networks on real inputs.

Random networks of the ``compact`` search space on two backbones with random weights (a latency does not depend on
them). Blocks, and the few graphs that the overhead is fitted on, are measured as a search measures them; then every
network runs as one exiting file, one image at a time, and the mean over the images is compared with the prediction.
Both are told at the speed that the machine had at first, by a yardstick that runs in turns with all that is measured.
Exit shares are those of the runs: it is latencies that are predicted, not who leaves where.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from rich.table import Table
from scipy.stats import spearmanr

from aebnas.backbones.build import build_backbone
from aebnas.backbones.cut import SegmentedBackbone, cut_backbone
from aebnas.backbones.settings import BackboneSettings
from aebnas.branches.spec import NetworkSpec
from aebnas.console import out
from aebnas.costs.blocks import Block
from aebnas.costs.model import CostModel
from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.devices.device import Device, Job
from aebnas.devices.profile import HardwareProfile, load_profile
from aebnas.errors import DataError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import Decider
from aebnas.export.blocks import block_bytes
from aebnas.export.single_file import Stage, assemble
from aebnas.network import EarlyExitNetwork
from aebnas.searching.costing import TIMED_IMAGES, calibration_networks
from aebnas.searching.timer import DeviceTimer, exporter
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import Genome, build_genome
from aebnas.spaces.network_genes import NetworkGenes

BACKBONES = {"resnet": {"depth": 20, "width": 16}, "inverted-residual": {}}
POINTS, CLASSES, NETWORKS, IMAGES, REPEATS = 9, 10, 40, 200, 5
CONFIDENCE = "max-probability"


@dataclass(frozen=True)
class Candidate:
    """A random network, the thresholds that let a random share of the images leave at each exit, and its file."""

    spec: NetworkSpec
    model: bytes
    exits: int


@dataclass(frozen=True)
class Setting:
    """What one backbone, one thread count and one device gave."""

    name: str
    predicted_ms: NDArray[np.float64]
    measured_ms: NDArray[np.float64]
    inside: float
    predict_ms: float
    base_us: float
    scale: float
    if_us: float
    gate_us: float
    parts_us: float
    profile_ratio: float
    noise_pct: float
    seconds: float

    @property
    def errors_pct(self) -> NDArray[np.float64]:
        """Absolute errors of the predictions, in per cent of what was measured."""
        errors: NDArray[np.float64] = 100 * np.abs(self.predicted_ms / self.measured_ms - 1)
        return errors

    @property
    def figures(self) -> dict[str, float]:
        """Figures by name."""
        return {
            "networks": len(self.measured_ms),
            "mape_pct": float(self.errors_pct.mean()),
            "p95_error_pct": float(np.quantile(self.errors_pct, 0.95)),
            "bias_pct": float(100 * (self.predicted_ms / self.measured_ms - 1).mean()),
            "spearman": float(spearmanr(self.predicted_ms, self.measured_ms)[0]),
            "inside_interval_pct": 100 * self.inside,
            "predict_ms": self.predict_ms,
            "if_overhead_us": self.if_us,
            "gate_us": self.gate_us,
            "beyond_parts_us": self.parts_us,
            "profile_over_wall": self.profile_ratio,
            "noise_pct": self.noise_pct,
        }


def images_of(count: int) -> NDArray[np.float32]:
    """Return ``count`` real images (n, 1, 28, 28): Fashion-MNIST, or enlarged digits where that is not installed."""
    try:
        data = load_data(DataSettings(name="fashion-mnist"), seed=0)
    except DataError:
        data = load_data(DataSettings(name="digits"), seed=0)
    images = torch.cat([batch.images for batch in data.test.subset(torch.arange(count)).batches(256)])
    enlarged: NDArray[np.float32] = torch.nn.functional.interpolate(images, (28, 28)).numpy()
    return enlarged


def cut(name: str) -> SegmentedBackbone:
    """Return the backbone ``name`` with random weights, cut."""
    torch.manual_seed(0)
    settings = BackboneSettings(name=name, options=BACKBONES[name])
    model = build_backbone(settings, num_classes=CLASSES, input_shape=(1, 28, 28))
    return cut_backbone(model, (1, 28, 28), max_points=POINTS).eval().requires_grad_(False)


def random_specs(genome: Genome, count: int) -> list[NetworkSpec]:
    """Return ``count`` different random networks with one to four exits, anywhere."""
    draw, found = random.Random(0), {}
    while len(found) < count:
        wanted = {f"exit{number}" for number in draw.sample(range(len(genome.points)), draw.randint(1, 4))}
        genes = {name: draw.choice(choices) for name, choices in genome.genes.items()}
        genes |= {name: "on" if name in wanted else "off" for name in genes if name.removeprefix("exit").isdigit()}
        spec = genome.decode(genes)
        found.setdefault(spec.key, spec)
    return list(found.values())


class Builder:
    """Makes the exiting files of networks on one backbone; a block that several share is exported once."""

    def __init__(self, backbone: SegmentedBackbone, images: NDArray[np.float32]) -> None:
        self._backbone, self._images = backbone, torch.from_numpy(images)
        self._confidence = build_confidence(CONFIDENCE)
        self._export = exporter(Decider(self._confidence))
        self._made: dict[tuple[int, int, bool], onnx.ModelProto] = {}
        self._draw = np.random.default_rng(0)

    @torch.no_grad()
    def candidate(self, spec: NetworkSpec) -> Candidate:
        """Return the network of ``spec`` with thresholds that let a random share of the images leave at each exit."""
        network = EarlyExitNetwork(self._backbone, spec.branches).eval()
        stages, here = [], -1
        for branch, point, logits in zip(network.branches, network.points, network(self._images), strict=False):
            threshold = float(self._confidence(logits).quantile(float(self._draw.uniform(0.1, 0.9))))
            shape = self._backbone.attach_points[point].shape
            gated = self._export(Block((branch,), shape, gated=True))
            stages.append(Stage(self._span(here, point), gated, threshold))
            here = point
        final = self._span(here, len(self._backbone.segments) - 1, gated=True)
        return Candidate(spec, block_bytes(assemble(stages, final)), len(stages) + 1)

    def _span(self, start: int, stop: int, *, gated: bool = False) -> onnx.ModelProto:
        key = (start, stop, gated)
        if key not in self._made:
            shape = self._backbone.input_shape if start < 0 else self._backbone.attach_points[start].shape
            parts = tuple(self._backbone.segments[start + 1 : stop + 1])
            self._made[key] = self._export(Block(parts, shape, gated))
        return self._made[key]


def compare(name: str, profile: HardwareProfile, images: NDArray[np.float32], count: int, repeats: int) -> Setting:
    """Predict and measure ``count`` random networks on one backbone with one profile."""
    start = time.perf_counter()
    backbone = cut(name)
    space = load_space("compact")
    genome = build_genome(space, backbone.attach_points, CLASSES, NetworkGenes("disjoint", CONFIDENCE))
    confidence = build_confidence(CONFIDENCE)
    decider = Decider(confidence)
    # The overhead is fitted on other networks and on other images than those that are predicted.
    fitted_on, images = torch.from_numpy(images[:TIMED_IMAGES]), images[TIMED_IMAGES:]
    builder = Builder(backbone, images)
    candidates = [builder.candidate(spec) for spec in random_specs(genome, count)]
    whole = block_bytes(exporter(decider)(Block(tuple(backbone.segments), backbone.input_shape)))
    with Device(profile) as device:
        device.use_yardstick(whole)
        timer = DeviceTimer(device, backbone.input_shape, exporter(decider), confidence=confidence, images=fitted_on)
        costs = CostModel(backbone, timer, calibration_networks(genome))
        # Blocks that the calibration did not need, network by network, as a search comes to them.
        for candidate in candidates:
            costs.network(candidate.spec.branches)
        measured_ms, shares = run_all(device, candidates, images, repeats)
        predicted_ms, predict_ms = predict_all(costs, candidates, shares)
        intervals = [costs.overhead.interval(value) for value in predicted_ms]
        profiled = device.nodes({"backbone": whole})["backbone"]
        return Setting(
            name=f"{name}, {profile.threads} thread{'s' if profile.threads > 1 else ''}, {profile.place}",
            predicted_ms=predicted_ms,
            measured_ms=measured_ms,
            inside=statistics.fmean(
                low <= value <= high for (low, high), value in zip(intervals, measured_ms, strict=True)
            ),
            predict_ms=predict_ms,
            base_us=1e3 * costs.overhead.base_ms,
            scale=costs.overhead.scale,
            if_us=1e3 * costs.overhead.gate_ms,
            gate_us=gate_us(device, backbone, decider),
            parts_us=1e3 * float(np.mean(measured_ms - sums_of_parts(costs, candidates, shares))),
            profile_ratio=profiled.inflation,
            noise_pct=device.noise_pct or 0.0,
            seconds=time.perf_counter() - start,
        )


def run_all(
    device: Device, candidates: Sequence[Candidate], images: NDArray[np.float32], repeats: int
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Return the measured mean latency of every network over the images, and its exit shares."""
    models = {str(number): candidate.model for number, candidate in enumerate(candidates)}
    ran = device.run(models, images, outputs={name: ["exit"] for name in models}, repeats=repeats, scaled=True)
    shares = [
        np.bincount(ran[str(number)].outputs["exit"].reshape(-1), minlength=candidate.exits) / len(images)
        for number, candidate in enumerate(candidates)
    ]
    return np.array([ran[name].latency_ms.mean() for name in models]), shares


def predict_all(
    costs: CostModel, candidates: Sequence[Candidate], shares: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], float]:
    """Return the predicted mean latency of every network, and the ms that predicting one takes."""
    row, predicted, took = costs.names.index("latency_ms"), [], []
    for candidate, share in zip(candidates, shares, strict=True):
        start = time.perf_counter()
        network = costs.network(candidate.spec.branches)
        predicted.append(float(network.mean([True] * (candidate.exits - 1), share)[row]))
        took.append(1e3 * (time.perf_counter() - start))
    return np.array(predicted), statistics.median(took)


def sums_of_parts(
    costs: CostModel, candidates: Sequence[Candidate], shares: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the mean over the exits of the plain sums of the blocks that run, each beyond the empty graph."""
    sums = []
    for candidate, share in zip(candidates, shares, strict=True):
        network, mask = costs.network(candidate.spec.branches), [True] * (candidate.exits - 1)
        sums.append(sum(part * network.path(mask, exit_).blocks_ms for exit_, part in enumerate(share)))
    return np.array(sums)


def gate_us(device: Device, backbone: SegmentedBackbone, decider: Decider) -> float:
    """Return what softmax, confidence and label add to a graph that ends in logits, in microseconds."""
    export = exporter(decider)
    shape, parts = backbone.input_shape, tuple(backbone.segments)
    blocks = {"plain": Block(parts, shape), "gated": Block(parts, shape, gated=True)}
    took = device.measure({name: Job(block_bytes(export(block))) for name, block in blocks.items()})
    return 1e3 * (took["gated"].latency_ms - took["plain"].latency_ms)


def flat(settings: Sequence[Setting]) -> dict[str, float]:
    """Return the figures over all networks, and those of every setting with its name before them."""
    errors = np.concatenate([setting.errors_pct for setting in settings])
    figures: dict[str, float] = {
        "networks": len(errors),
        "mape_pct": float(errors.mean()),
        "p95_error_pct": float(np.quantile(errors, 0.95)),
        # Over one setting at a time: across backbones any prediction would rank well.
        "spearman": min(setting.figures["spearman"] for setting in settings),
        "predict_ms": max(setting.predict_ms for setting in settings),
        "if_overhead_us": statistics.median(setting.if_us for setting in settings),
    }
    for setting in settings:
        prefix = setting.name.replace(", ", "_").replace(" ", "_").replace("-", "_")
        figures |= {f"{prefix}_{name}": value for name, value in setting.figures.items()}
    return figures


def table_of(settings: Sequence[Setting]) -> Table:
    """Return the figures as a table, a column per setting."""
    rows: Mapping[str, tuple[str, str]] = {
        "networks": ("networks", ".0f"),
        "mape_pct": ("mean absolute error, %", ".2f"),
        "p95_error_pct": ("95th percentile of the error, %", ".2f"),
        "bias_pct": ("mean error, %", "+.2f"),
        "spearman": ("Spearman rank correlation", ".4f"),
        "inside_interval_pct": ("measured within the predicted interval, %", ".0f"),
        "predict_ms": ("predicting one network, ms", ".3f"),
        "if_overhead_us": ("If and comparison, us each", ".1f"),
        "gate_us": ("softmax, confidence and label, us", ".1f"),
        "beyond_parts_us": ("whole file beyond the sum of its parts, us", ".1f"),
        "profile_over_wall": ("profiled node times / wall-clock", ".2f"),
        "noise_pct": ("this machine varied by, %", ".1f"),
    }
    table = Table("figure", *(setting.name for setting in settings), title="latency: predicted against measured")
    for key, (label, form) in rows.items():
        table.add_row(label, *(format(setting.figures[key], form) for setting in settings))
    table.add_row("mean measured latency, ms", *(f"{setting.measured_ms.mean():.3f}" for setting in settings))
    table.add_row("seconds for all of it", *(f"{setting.seconds:.0f}" for setting in settings))
    return table


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few networks, few images, one thread")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--device", default="local", metavar="PROFILE", help="a hardware profile's name or file")
    parser.add_argument("--threads", type=int, nargs="+", help="thread counts instead of 1 and 2")
    arguments = parser.parse_args()
    base = load_profile(arguments.device)
    count, images, repeats = (8, 32, 3) if arguments.quick else (NETWORKS, IMAGES, REPEATS)
    inputs = images_of(TIMED_IMAGES + images)
    settings = [
        compare(name, base.model_copy(update={"threads": threads, "affinity": None}), inputs, count, repeats)
        for name in BACKBONES
        for threads in arguments.threads or ([1] if arguments.quick else [1, 2])
    ]
    out.print(table_of(settings))
    if arguments.json:
        arguments.json.write_text(json.dumps(flat(settings), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
