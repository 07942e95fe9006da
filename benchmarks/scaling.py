"""Trials per minute with one worker and with two, each of one thread."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from aebnas.branches.spec import FP32
from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.experiment import Experiment
from aebnas.files import write_atomic, write_text
from aebnas.prepare import prepare
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.searching.genes import network_genes
from aebnas.searching.study import Address, open_study, queue
from aebnas.sharing.storage import open_storage
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import build_genome
from benchmarks.launch import run_search, start_run
from benchmarks.rate import PROFILE
from benchmarks.section import Section


@dataclass(frozen=True)
class ScalingPlan:
    """What is searched.

    Args:
        experiment: Its data are replaced by a few images of ``images``, its trials by a fixed list.
        images: A data set by name.
        train, test: Number of images that are taken of it; a quarter of the training images are for validation.
        trials: Networks, the same ones however many workers there are.
    """

    experiment: Experiment
    images: str
    train: int
    test: int
    trials: int


def measure_scaling(plan: ScalingPlan, home: Path, progress: Progress) -> Section:
    """Search with one worker and with two."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    write_text(home / "device.yaml", PROFILE)
    _write_images(plan, home / "images.npz")
    base = plan.experiment.override(
        {
            "data": {"name": "npz", "path": str(home / "images.npz"), "validation": 0.25},
            "device": str(home / "device.yaml"),
            "search.objectives": ("accuracy", "macs"),
            "search.trials": plan.trials,
            "search.finalists": 1,
            "search.starts": False,
            "search.rungs": False,
        }
    )
    prepared = prepare(base, RunFolder(home), device=torch.device("cpu"), progress=progress)
    genome = build_genome(
        load_space(base.space), prepared.backbone.attach_points, prepared.data.num_classes, network_genes(base, (FP32,))
    )
    draw = random.Random(0)
    networks = [{name: draw.choice(choices) for name, choices in genome.genes.items()} for _ in range(plan.trials)]
    per_minute = {}
    for workers in (1, 2):
        progress.say(f"the same {plan.trials} trials with {workers} worker{'s' if workers > 1 else ''}")
        per_minute[workers] = _trials_per_minute(base, home, networks, workers)
    ratio = per_minute[2] / per_minute[1]
    return Section(
        {
            "scaling_2_workers": ratio,
            "trials_per_minute_1_worker": per_minute[1],
            "trials_per_minute_2_workers": per_minute[2],
        },
        [
            ("trials per minute, 1 worker", f"{per_minute[1]:.1f}"),
            ("trials per minute, 2 workers", f"{per_minute[2]:.1f}"),
            ("2 workers over 1", f"{ratio:.2f}"),
        ],
    )


def _trials_per_minute(base: Experiment, home: Path, networks: list[dict[str, str]], workers: int) -> float:
    folder = home / f"workers-{workers}"
    # Not in the run folder, so that trials can wait there before the search begins.
    experiment = base.override({"search.storage": f"sqlite:///{home / f'workers-{workers}.db'}"})
    start_run(experiment, folder, home)
    address = Address.of(RunFolder(folder), experiment)
    queue(open_study(open_storage(address.url, say=_nobody), address.study, experiment.search), networks)
    found = run_search(experiment, folder, workers=workers, threads=workers)
    return found.per_hour / 60


def _write_images(plan: ScalingPlan, path: Path) -> None:
    data = load_data(DataSettings(name=plan.images), seed=0)
    arrays: Mapping[str, np.ndarray] = {
        "x_train": data.train.raw(plan.train).numpy(),
        "y_train": data.train.labels[: plan.train].numpy(),
        "x_test": data.test.raw(plan.test).numpy(),
        "y_test": data.test.labels[: plan.test].numpy(),
    }
    write_atomic(path, lambda file: np.savez(file, **arrays))


def _nobody(text: str) -> None:
    return
