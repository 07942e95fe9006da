"""The search engine, measured: against the reference's way, over time, over workers, and in memory.

Sections, which can be run one by one (``--only``), each adding its figures to the same JSON file:

    rate         candidates per hour on Fashion-MNIST against AEBNAS's way of evaluating them, and the quality of both
    hypervolume  against wall-clock: samplers; starting points, rungs, recombination and a surrogate on and off,
                 replayed on a table of trained branches, which is filled on demand
    scaling      trials per minute with one and two workers
    storage      what PostgreSQL takes of a trial, with one worker and with 32 that do nothing else
    memory       peak memory of all processes of a search, at three budgets for features
    accelerator  candidates per minute on CUDA, where there is a device

``--quick`` does all of it on the digits in less than a minute, which shows that everything runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text

from aebnas.cli import EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED
from aebnas.console import err, out
from aebnas.errors import AebnasError, InputError
from aebnas.experiment import Experiment
from aebnas.experiment_search import SearchSettings
from aebnas.files import write_text
from aebnas.prepare import prepare
from aebnas.progress import ConsoleProgress, Progress
from aebnas.resources import resource_folder
from aebnas.run_folder import RunFolder
from benchmarks.accelerator import AcceleratorPlan, measure_accelerator
from benchmarks.hypervolume import Contest, compare_searches
from benchmarks.memory import MemoryPlan, measure_memory
from benchmarks.rate import RatePlan, measure_rate
from benchmarks.reference import EPOCHS
from benchmarks.scaling import ScalingPlan, measure_scaling
from benchmarks.section import Figure, Section
from benchmarks.storage import WORKERS, measure_storage

FOLDER, QUICK_FOLDER = Path("runs/search-benchmark"), Path("runs/search-quick")
PROCESSES = 2
# A branch of the replayed searches takes about a quarter of what one of experiments/fashion-mnist.yaml does.
TRAINING_SCALE = 4.0
_REPLAYED = {
    "name": "replayed",
    "data": {"name": "fashion-mnist", "validation": 2500 / 60000},
    "backbone": {"name": "resnet", "options": {"depth": 14, "width": 8}},
    "backbone_training": {"epochs": 4, "batch_size": 128, "lr": 0.1},
    "attach": {"points": 6},
    "space": "compact",
    "regime": {"name": "disjoint", "target": "backbone", "training": {"epochs": 5, "batch_size": 128, "lr": 0.01}},
    "search": {"objectives": ["accuracy", "macs"]},
    "cache_gib": 4,
    "accelerator": "cpu",
}
# Nothing is measured: what takes longest of a search this short is what the quick form is not there to see.
_QUICK_OPTIONS = {
    "backbone.options": {"depth": 5, "width": 8},
    "backbone_training.epochs": 2,
    "attach.points": 3,
    "regime.training.epochs": 3,
    "regime.final_epochs": 1,
    "regime.train_samples": 256,
    "search.objectives": ("accuracy", "macs"),
    "device": "raspberry-pi-5",
}


@dataclass(frozen=True)
class Bench:
    """How the benchmark is run.

    Args:
        home: Keeps what was trained and replayed.
        backbone: A run folder to take the trained backbone of experiments/fashion-mnist.yaml from; None: train it.
        quick: On the digits, to see that everything runs.
    """

    home: Path
    backbone: Path | None
    quick: bool
    progress: Progress

    def experiment(self) -> Experiment:
        """Return what whole searches are run of."""
        name = "digits" if self.quick else "fashion-mnist"
        full = Experiment.from_yaml(resource_folder("experiments") / f"{name}.yaml").override({"accelerator": "cpu"})
        return full.override(_QUICK_OPTIONS) if self.quick else full

    def trained(self) -> Path:
        """Return a folder with the trained backbone of :meth:`experiment`."""
        folder = self.home / "backbone"
        if self.backbone is not None and not (folder / "backbone.pt").exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.backbone / "backbone.pt", folder)
        prepare(self.experiment(), RunFolder(folder), device=torch.device("cpu"), progress=self.progress)
        return folder

    def rate(self) -> Section:
        """Candidates per hour."""
        # Finalists are part of a search, but not of what is compared here.
        short = {"search.finalists": 1, "regime.final_epochs": 1}
        ours = {"search.trials": 4, "search.timeout": 600.0} if self.quick else {"search.trials": 1000}
        plan = RatePlan(
            self.experiment(),
            {"search.timeout": 240.0, **short, **ours},
            {"regime.name": "joint", "regime.target": "labels", "search.trials": PROCESSES, "search.starts": False},
            None if self.quick else {"search.objectives": ("accuracy", "latency_ms")},
            samples=256 if self.quick else None,
            epochs=1 if self.quick else EPOCHS,
            candidates=1 if self.quick else PROCESSES,
            processes=1 if self.quick else PROCESSES,
        )
        return measure_rate(plan, self.home / "rate", self.trained(), self.progress)

    def hypervolume(self) -> Section:
        """Hypervolume against wall-clock."""
        if self.quick:
            contest = Contest(self.experiment(), 200, 1.0, 1.0, (SearchSettings().sampler, "random"), seeds=1)
            return compare_searches(contest, self.home / "replayed", processes=1, progress=self.progress)
        replayed = Experiment.model_validate(_REPLAYED)
        contest = Contest(replayed, 4000, 300.0, TRAINING_SCALE, ("nsga2", "tpe", "gp", "random"), seeds=3)
        return compare_searches(contest, self.home / "replayed", processes=PROCESSES, progress=self.progress)

    def scaling(self) -> Section:
        """Trials per minute over workers."""
        if self.quick:
            plan = ScalingPlan(self.experiment(), "digits", 200, 50, trials=4)
        else:
            replayed = Experiment.model_validate(_REPLAYED)
            plan = ScalingPlan(replayed.override({"regime.final_epochs": 1}), "fashion-mnist", 6000, 2000, trials=48)
        return measure_scaling(plan, self.home / "scaling", self.progress)

    def storage(self) -> Section:
        """What a server takes of a trial."""
        return measure_storage(workers=4 if self.quick else WORKERS, trials=2 if self.quick else 8)

    def memory(self) -> Section:
        """Peak memory beyond the budget."""
        short = {"search.finalists": 1, "regime.final_epochs": 1, "regime.training.epochs": 1}
        trials = {"search.trials": 2 if self.quick else 8}
        budgets = (0.0,) if self.quick else (0.5, 3.0, 10.0)
        plan = MemoryPlan(self.experiment(), self.trained(), budgets, {**short, **trials}, workers=PROCESSES)
        return measure_memory(plan, self.home)

    def accelerator(self) -> Section:
        """Candidates per minute on CUDA; in the quick form on the processor, to see that it runs."""
        if self.quick:
            return measure_accelerator(AcceleratorPlan(torch.device("cpu"), 64, 32, epochs=1, candidates=1, depth=8))
        if not torch.cuda.is_available():
            return Section({}, [("candidates per minute on CUDA", "there is no CUDA device here")])
        return measure_accelerator(AcceleratorPlan(torch.device("cuda")))


SECTIONS: dict[str, Callable[[Bench], Section]] = {
    "rate": Bench.rate,
    "hypervolume": Bench.hypervolume,
    "scaling": Bench.scaling,
    "storage": Bench.storage,
    "memory": Bench.memory,
    "accelerator": Bench.accelerator,
}


def table_of(name: str, section: Section) -> Table:
    """Return the rows of a section as a table."""
    table = Table("figure", "value", title=name)
    for row in section.rows:
        table.add_row(*map(Text, row))
    return table


def merged(file: Path, figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Return the figures that ``file`` holds, with ``figures`` in place of those of the same keys.

    Raises:
        InputError: the file is there and holds something else.
    """
    if not file.exists():
        return dict(figures)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"--json: {file} holds no figures: name another file, or delete it")
    return {**found, **figures}


def main(words: list[str] | None = None) -> int:
    """Run the benchmark from the command line; return the exit code, as that of `aebnas`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="on the digits, in less than a minute")
    parser.add_argument("--only", action="append", choices=list(SECTIONS), help="this section; repeat for several")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the figures to the flat object in FILE")
    parser.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help=f"keep what was trained there, and take it from there: {FOLDER}, {QUICK_FOLDER} with --quick, by default",
    )
    parser.add_argument(
        "--backbone",
        type=Path,
        metavar="RUN",
        help="folder of a run of experiments/fashion-mnist.yaml, whose trained backbone is used",
    )
    arguments = parser.parse_args(words)
    home = arguments.run_dir or (QUICK_FOLDER if arguments.quick else FOLDER)
    bench = Bench(home, arguments.backbone, arguments.quick, ConsoleProgress(err))
    try:
        for name in arguments.only or SECTIONS:
            if arguments.json:
                merged(arguments.json, {})  # what is wrong with the file is told before it takes long
            section = SECTIONS[name](bench)
            out.print(table_of(name, section))
            if arguments.json:
                figures = merged(arguments.json, section.figures)
                write_text(arguments.json, json.dumps(figures, indent=2) + "\n")
    except KeyboardInterrupt:
        err.print("interrupted: the same command goes on where this one stopped")
        return EXIT_INTERRUPTED
    except AebnasError as error:
        err.print(Text(f"error: {error}"), soft_wrap=True)
        return EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
