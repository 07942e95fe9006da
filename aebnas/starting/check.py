"""Whether an experiment will run: everything that a search does at first, done once and quickly."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aebnas.backbones.build import build_backbone, comes_trained
from aebnas.backbones.cut import SegmentedBackbone, cut_backbone
from aebnas.branches.spec import NetworkSpec
from aebnas.costs.kinds import COSTS, MACS
from aebnas.costs.macs import segment_macs
from aebnas.data.placing import check_data_dir
from aebnas.data.splits import DataBundle
from aebnas.devices.crowded import crowded
from aebnas.devices.device import Device
from aebnas.devices.profile import HardwareProfile, load_profile
from aebnas.errors import AebnasError, BackboneError, MeasurementError
from aebnas.exits.accuracy import accuracy_name, accuracy_of
from aebnas.exits.guessing import Guess
from aebnas.experiment import Experiment
from aebnas.prepare import data_of
from aebnas.searching.costing import check_cascade, limits_of
from aebnas.searching.genes import network_genes
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import Genome, build_genome, starting_points
from aebnas.starting.deploy import deploy_once
from aebnas.starting.disk import disk_needed
from aebnas.starting.estimate import estimate
from aebnas.training.accelerator import pick_accelerator
from aebnas.training.candidates import seed_everything

# So many images are looked at; classes count as uneven from such a ratio on.
_IMAGES, _JUDGED, _UNEVEN = 16, 512, 3.0
_CLOSE = 1e-4
# A forward pass is timed so often, or for so long.
_PASSES, _ENOUGH_S = 5, 2.0


@dataclass(frozen=True)
class Step:
    """One thing that was tried.

    Args:
        text: What was found, or what is wrong and what to change.
        hints: What could be better though it works.
    """

    what: str
    ok: bool
    text: str
    seconds: float
    hints: tuple[str, ...] = ()


Tell = Callable[[Step], None]
Found = str | tuple[str, list[str]]


def try_out(experiment: Experiment, *, run_dir: Path, tell: Tell) -> bool:
    """Try everything that a search of ``experiment`` begins with; return whether all went well.

    What needs something that failed is not tried; the device is tried anyway.

    Args:
        run_dir: Where the search would keep its files; nothing is written there.
        tell: Is told of every step as it is over.
    """
    trial = _Trial(experiment, run_dir)
    chain = [
        ("data", trial.load),
        ("backbone", trial.build),
        ("forward pass", trial.pass_forward),
        ("attach points", trial.find_points),
        ("split", trial.split),
        ("ONNX", trial.deploy),
        ("disk", trial.measure_disk),
    ]
    well = all(_tried(what, make, tell) for what, make in chain)
    reached = _tried("device", trial.reach_device, tell)
    return well and reached and _tried("time", trial.estimate, tell)


def _tried(what: str, make: Callable[[], Found], tell: Tell) -> bool:
    start = time.perf_counter()
    try:
        found = make()
    except AebnasError as error:
        tell(Step(what, False, str(error), time.perf_counter() - start))
        return False
    text, hints = (found, list[str]()) if isinstance(found, str) else found
    tell(Step(what, True, text, time.perf_counter() - start, tuple(hints)))
    return True


class _Trial:
    def __init__(self, experiment: Experiment, run_dir: Path) -> None:
        self._experiment, self._run_dir = experiment, run_dir
        self._device = pick_accelerator(experiment.accelerator)
        # Before anything else: what is tried here keeps processors busy as well.
        self._crowded = crowded(torch.get_num_threads()) if self._device.type == "cpu" else None
        self._data: DataBundle
        self._model: nn.Module
        self._cut: SegmentedBackbone
        self._images: Tensor

    def load(self) -> Found:
        check_data_dir(self._experiment.data)
        self._data = data = data_of(self._experiment)
        shape = "x".join(map(str, data.input_shape))
        sizes = f"{len(data.train):,} training, {len(data.validation):,} validation, {len(data.test):,} test images"
        return f"{sizes} of {shape}, {data.num_classes} classes", list(_uneven(data, self._experiment))

    def build(self) -> Found:
        experiment, data = self._experiment, self._data
        seed_everything(experiment.seed)
        self._model = build_backbone(experiment.backbone, num_classes=data.num_classes, input_shape=data.input_shape)
        millions = sum(parameter.numel() for parameter in self._model.parameters()) / 1e6
        text = f"{experiment.backbone.name}, {millions:.2f} M parameters"
        if self._trained:
            return f"{text}, comes trained"
        if experiment.backbone_training is None:
            return f"{text}, used as it is", [
                "it has no weights and backbone_training is null: give backbone.checkpoint, or let it be trained"
            ]
        return f"{text}, is trained for {experiment.backbone_training.epochs} epochs first"

    @property
    def _trained(self) -> bool:
        return comes_trained(self._experiment.backbone, self._data.num_classes)

    @torch.no_grad()
    def pass_forward(self) -> Found:
        batch = next(self._data.validation.read(_IMAGES, order=None, look=None))
        self._images = batch.images
        self._model.eval()
        logits = self._model(self._images)
        if not bool(torch.isfinite(logits).all()):
            raise BackboneError(
                "the backbone's logits are NaN or infinite: see to backbone.checkpoint, and to data.normalise"
            )
        seconds = statistics.median(self._warm_passes_s())
        text = f"{len(self._images)} images in {1e3 * seconds:.3g} ms on the CPU, logits {tuple(logits.shape)}"
        return self._judged(text) if self._trained else text

    def _warm_passes_s(self) -> Iterator[float]:
        """Yield what a forward pass takes, several times: the first one was slow, for memory and kernels were made."""
        begin = time.perf_counter()
        for _ in range(_PASSES):
            start = time.perf_counter()
            self._model(self._images)
            end = time.perf_counter()
            yield end - start
            if end - begin > _ENOUGH_S:
                break

    def _judged(self, text: str) -> Found:
        """Say how right a backbone that comes trained is, which shows images that were prepared otherwise."""
        kind, labels, right = self._experiment.accuracy, list[Tensor](), list[Tensor]()
        for batch in self._data.validation.read(_IMAGES, order=0, look=None):
            right.append(self._model(batch.images).argmax(1) == batch.labels)
            labels.append(batch.labels)
            if _IMAGES * len(labels) >= _JUDGED:
                break
        truth = torch.cat(labels).numpy()
        accuracy, guess = accuracy_of(torch.cat(right).numpy(), truth, kind), Guess.of(truth, kind)
        hints = [
            f"that is hardly better than guessing ({100 * guess.accuracy:.1f} %): were its images prepared otherwise "
            "(data.normalise, image_size, grey), or its classes in another order?"
        ]
        what = "right" if kind == "plain" else accuracy_name(kind)
        found = f"{text}; {100 * accuracy:.1f} % {what} on {len(truth)} validation images"
        return found, hints * guess.little_more(accuracy)

    def find_points(self) -> Found:
        experiment = self._experiment
        self._cut = cut_backbone(
            self._model,
            self._data.input_shape,
            max_points=experiment.attach.points,
            modules=experiment.attach.modules,
            leaves=experiment.backbone.leaves,
        )
        points = self._cut.attach_points
        # As the front has them: thop's, which counts more than the products that attach points are spread by.
        reached = list(itertools.accumulate(segment_macs(self._cut)))
        at = [f"{point.name} ({100 * macs / reached[-1]:.0f} %)" for point, macs in zip(points, reached, strict=False)]
        shown = at if len(at) <= 3 else [at[0], "...", at[-1]]
        return f"{len(points)} of {COSTS[MACS].text(reached[-1])}: {', '.join(shown)}"

    @torch.no_grad()
    def split(self) -> Found:
        self._cut.eval()
        whole, parts = self._model(self._images), self._cut(self._images)
        difference, scale = float((whole - parts).abs().max()), max(1.0, float(whole.abs().max()))
        if not difference <= _CLOSE * scale:
            raise BackboneError(
                f"the segments give other logits than the backbone (by {difference:.2g}): name other places under "
                "attach.modules, or the module that does it under backbone.leaves"
            )
        return f"{len(self._cut.segments)} segments give what the backbone gives (difference {difference:.1g})"

    def deploy(self) -> Found:
        spec = self._network
        return deploy_once(self._cut, spec.branches[len(spec.branches) // 2], self._images)

    @property
    def _network(self) -> NetworkSpec:
        """A network that the search may well begin with."""
        genome = self._genome
        return genome.decode(starting_points(genome)[-1])

    @property
    def _genome(self) -> Genome:
        experiment = self._experiment
        profile = load_profile(experiment.device)
        return build_genome(
            load_space(experiment.space),
            self._cut.attach_points,
            self._data.num_classes,
            network_genes(experiment, profile.precisions),
        )

    def measure_disk(self) -> Found:
        return disk_needed(self._experiment, self._data, self._cut, self._run_dir)

    def reach_device(self) -> Found:
        profile = load_profile(self._experiment.device)
        limits_of(self._experiment, profile)
        check_cascade(self._experiment, profile)
        return _reached(profile) if profile.measurable else f"{profile.name} is not measured on: MACs and sizes only"

    def estimate(self) -> Found:
        self._cut.requires_grad_(False)
        profile = load_profile(self._experiment.device)
        found = estimate(
            self._experiment, self._data, self._cut, self._network, profile, self._device, trained=self._trained
        )
        return found.text, [] if self._crowded is None else [str(self._crowded)]


def _reached(profile: HardwareProfile) -> Found:
    with Device(profile) as device:
        findings = device.check()
    wrong = [finding for finding in findings if not finding.ok]
    if wrong:
        raise MeasurementError(f"device {profile.name}: {wrong[0].what}: {wrong[0].text}; {wrong[0].fix}")
    tried = [finding for finding in findings if finding.what == "trial"]
    return f"{profile.name} is ready: {tried[0].text}", [finding.fix for finding in tried if finding.fix]


def _uneven(data: DataBundle, experiment: Experiment) -> Iterator[str]:
    counts = torch.bincount(data.train.labels, minlength=data.num_classes)
    most, least = int(counts.argmax()), int(counts.argmin())
    ratio = float(counts[most]) / max(1.0, float(counts[least]))
    if ratio >= _UNEVEN and experiment.accuracy == "plain":
        yield (
            f"class {data.classes[most]} has {math.floor(ratio)} times the images of {data.classes[least]}: "
            "accuracy: balanced lets all classes count the same"
        )
