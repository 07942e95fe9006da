"""Candidates per minute in one process on an accelerator: random images, a frozen backbone, branches behind it."""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from aebnas.branches.spec import FP32
from aebnas.costs.model import CostModel
from aebnas.data.preprocessing import Preprocessing
from aebnas.data.splits import DataBundle, TensorSplit
from aebnas.experiment import Experiment
from aebnas.prepare import prepare
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.searching.costing import Kind
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.genes import network_genes
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import build_genome
from benchmarks.section import Section

IMAGES, VALIDATION, EPOCHS, CANDIDATES = 45_000, 5_000, 5, 40


@dataclass(frozen=True)
class AcceleratorPlan:
    """How much is trained, and on what."""

    device: torch.device
    images: int = IMAGES
    validation: int = VALIDATION
    epochs: int = EPOCHS
    candidates: int = CANDIDATES
    depth: int = 20


def measure_accelerator(plan: AcceleratorPlan) -> Section:
    """Evaluate random networks of the ``compact`` space one after the other, the branches of each side by side."""
    experiment = Experiment.model_validate(
        {
            "name": "accelerator",
            "datasets": random_images(plan.images, plan.validation),
            "backbone": {"name": "resnet", "options": {"depth": plan.depth, "width": 16}},
            "backbone_training": None,
            "attach": {"points": 9},
            "regime": {"target": "backbone", "training": {"epochs": plan.epochs, "batch_size": 128, "lr": 0.01}},
            "search": {"objectives": ["accuracy", "macs"]},
            "cache_gib": 16,
        }
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary))
        prepared = prepare(experiment, folder, device=plan.device, progress=Progress())
        genome = build_genome(
            load_space(experiment.space),
            prepared.backbone.attach_points,
            prepared.data.num_classes,
            network_genes(experiment, (FP32,)),
        )
        costs = {Kind(FP32, experiment.confidence): CostModel(prepared.backbone, None)}
        start = time.perf_counter()
        evaluator = Evaluator(experiment, prepared, costs, folder, device=plan.device, progress=Progress())
        features_s = time.perf_counter() - start
        draw = random.Random(0)
        specs = [
            genome.decode({name: draw.choice(choices) for name, choices in genome.genes.items()})
            for _ in range(plan.candidates + 1)
        ]
        evaluator.evaluate(specs[0])  # what is slow only once: kernels, memory
        start = time.perf_counter()
        for spec in specs[1:]:
            made = evaluator.evaluate(spec)
            if made.failure is not None:
                raise RuntimeError(f"a candidate failed: {made.failure}")
        seconds = time.perf_counter() - start
    per_minute = 60 * plan.candidates / seconds
    name = torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else "CPU"
    kind = plan.device.type
    return Section(
        {f"candidates_per_minute_{kind}": per_minute, f"features_s_{kind}": features_s, f"device_{kind}": name},
        [
            (f"{name}: candidates per minute", f"{per_minute:.1f}"),
            (f"{name}: features of all images", f"{features_s:.1f} s"),
        ],
    )


def random_images(train: int, validation: int) -> DataBundle:
    """Return random images of the size of CIFAR-10's, with random labels."""
    generator = torch.Generator().manual_seed(0)
    preprocessing = Preprocessing(1 / 255, (0.5,) * 3, (0.25,) * 3)

    def split(count: int) -> TensorSplit:
        images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
        return TensorSplit(images, torch.randint(0, 10, (count,), generator=generator), preprocessing)

    return DataBundle(
        name="random",
        train=split(train),
        validation=split(validation),
        test=split(validation),
        classes=tuple(map(str, range(10))),
        input_shape=(3, 32, 32),
        preprocessing=preprocessing,
        fingerprint=f"random-{train}-{validation}",
    )
