"""A run that was never searched, with a backbone that was never trained."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from aebnas.experiment import Experiment
from aebnas.files import write_text
from aebnas.prepare import prepare
from aebnas.progress import Progress
from aebnas.run import Run
from aebnas.run_folder import RunFolder

sys.path.append(str(Path(__file__).parent))  # tests are imported by path, so what they share must be findable
from synthetic_runs import early_row, measured, static_row, trial, write_run, write_study

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def experiment() -> Experiment:
    return Experiment.model_validate(
        {
            "name": "mine",
            "backbone": {"name": "convnet", "options": {}},
            "backbone_training": None,
            "attach": {"points": 3},
            "search": {"objectives": ("accuracy", "latency_ms")},
        }
    )


@pytest.fixture(scope="session")
def prepared_folder(experiment, tmp_path_factory) -> Path:
    """A run folder with nothing but an untrained backbone in it."""
    folder = RunFolder(tmp_path_factory.mktemp("prepared"))
    write_text(folder.experiment_file, experiment.to_yaml())
    prepare(experiment, folder, device=torch.device("cpu"), progress=Progress())
    return folder.path


@pytest.fixture(scope="session")
def study_file(tmp_path_factory) -> Path:
    """A study of 24 trials, one of which failed."""
    return write_study(tmp_path_factory.mktemp("study") / "study.db", [trial(i, failed=i == 5) for i in range(24)])


@pytest.fixture
def run(experiment, prepared_folder, study_file, rows, tmp_path) -> Run:
    """A run with a backbone, rows with latencies and a study."""
    made = write_run(tmp_path / "run", rows, [], experiment)
    shutil.copy(prepared_folder / "backbone.pt", made.folder.backbone_file)
    shutil.copy(study_file, made.folder.study_file)
    return made


@pytest.fixture
def attach(prepared_folder) -> list[str]:
    return [point.name for point in Run(prepared_folder).prepared().backbone.attach_points]


@pytest.fixture
def rows(attach) -> list[dict]:
    """Two finalists, a point that was not verified, the backbone and one truncated network."""
    exits = ((attach[0], 0.5, 0.7), (attach[1], None, 0.0), (attach[2], 0.9, 0.2))
    return [
        measured(early_row("aaaaaaf-0", 0.90, 2e6, exits=exits), 0.3, test=0.89),
        measured(early_row("bbbbbbf-1", 0.95, 4e6, exits=exits), 0.5, test=0.93),
        early_row("cccccc-0", 0.92, 3e6, exits=exits, latency_ms_mean=0.4),
        measured(static_row("backbone", 0.94, 8e6), 1.0, test=0.94),
        measured(static_row("cut-dddddd", 0.88, 1e6, attach[0]), 0.2, test=0.87),
    ]
