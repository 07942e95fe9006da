"""Whole searches as processes of their own: how their trials went, and the memory that all their processes took."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial

from aebnas.devices.profile import load_profile
from aebnas.experiment import Experiment
from aebnas.files import write_text
from aebnas.run_folder import RunFolder
from aebnas.searching.study import has_ended, read_trials
from aebnas.spaces.definition import load_space

SAMPLE_EVERY_S = 0.2
_KIB_PER_GIB = 1 << 20


@dataclass(frozen=True)
class Searched:
    """A search that has ended.

    Args:
        trials: Those that came to an end, well or with a failed candidate.
        total_s: Of the whole search, what it prepares and its finalists among it.
        peak_gib: Largest sum of the proportional set sizes of all its processes, file pages that they had mapped
            among them; None where it was not looked at.
    """

    trials: list[FrozenTrial]
    total_s: float
    peak_gib: float | None

    @property
    def trials_s(self) -> float:
        """Seconds from the start of the first trial to the end of the last one."""
        starts = [trial.datetime_start for trial in self.trials if trial.datetime_start is not None]
        ends = [trial.datetime_complete for trial in self.trials if trial.datetime_complete is not None]
        return (max(ends) - min(starts)).total_seconds()

    @property
    def per_hour(self) -> float:
        """Trials in an hour of trials."""
        return 3600 * len(self.trials) / self.trials_s


def start_run(experiment: Experiment, folder: Path, backbone: Path) -> None:
    """Make a new run of ``experiment`` in ``folder`` that has the trained backbone of the folder ``backbone``."""
    for path in (folder, _cache(folder)):
        shutil.rmtree(path, ignore_errors=True)
    RunFolder(folder).start(experiment, load_space(experiment.space), load_profile(experiment.device))
    shutil.copy(backbone / "backbone.pt", folder)


def run_search(
    experiment: Experiment, folder: Path, *, workers: int = 1, threads: int = 1, memory: bool = False
) -> Searched:
    """Run `aebnas search` on ``folder`` with ``workers`` processes of ``threads`` / ``workers`` threads each.

    Raises:
        RuntimeError: it failed; its words are in the message.
    """
    file = folder.parent / f"{folder.name}.yaml"
    write_text(file, experiment.to_yaml())
    words = [sys.executable, "-m", "aebnas.cli", "search", str(file), "--run-dir", str(folder)]
    # What was measured before, in other searches, would make this one look faster than it is.
    own = {"OMP_NUM_THREADS": str(threads), "AEBNAS_CACHE_DIR": str(_cache(folder))}
    environment = {**os.environ, **own}
    start, peak_gib = time.perf_counter(), 0.0
    log = folder.parent / f"{folder.name}.log"
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [*words, "--workers", str(workers)], env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                if memory:
                    peak_gib = max(peak_gib, sum(map(pss_gib, family(process.pid))))
                time.sleep(SAMPLE_EVERY_S)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait()
    if process.returncode:
        raise RuntimeError(f"the search in {folder} failed: {log.read_text(encoding='utf-8').strip()[-2000:]}")
    total_s = time.perf_counter() - start
    # Those that were given back are left out.
    trials = [trial for trial in read_trials(RunFolder(folder), experiment) if has_ended(trial)]
    return Searched(trials, total_s, peak_gib if memory else None)


def _cache(folder: Path) -> Path:
    return folder.parent / f"{folder.name}-cache"


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                # The name of the program, in brackets, may hold anything.
                parent = int(
                    (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
                )
            except OSError:
                continue  # it has ended
            children[parent].append(int(path.name))
    waiting = [pid]
    while waiting:
        here = waiting.pop()
        yield here
        waiting += children[here]


def pss_gib(pid: int) -> float:
    """Return the proportional set size of a process: its own pages, and its share of those it has in common."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0  # it has ended
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0) / _KIB_PER_GIB
