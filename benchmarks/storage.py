"""What the storage of a study takes of every trial: many workers whose trials do nothing, on a real server."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

import optuna

from aebnas.experiment_search import SearchSettings
from aebnas.searching.choice import TRADE_OFF
from aebnas.searching.study import HYPERVOLUME, SPEC, finished, open_study, running
from aebnas.sharing.storage import open_storage
from benchmarks.postgres import postgres_server
from benchmarks.section import Section

WORKERS = 32
# Until all processes have begun, and until each has done its trials.
_PATIENCE_S = 300.0
# As many as the default space has on nine attach points: an exit, four layers and a head each.
GENES: Mapping[str, tuple[str, ...]] = {
    f"exit{point}{part}": tuple(f"choice{number}" for number in range(choices))
    for point in range(9)
    for part, choices in {"": 2, **{f"_layer{slot}": 10 for slot in range(4)}, "_head": 2}.items()
}
# What a search writes of a network of three branches.
_SPEC = {"branches": [{"attach": "a" * 12, "layers": ["b" * 24] * 9, "head": "c" * 24}] * 3}


@dataclass(frozen=True)
class Load:
    """What one number of workers came to.

    Args:
        trial_ms: Median time that a worker spends on a trial.
        trials_per_s: Of all workers together.
    """

    workers: int
    trial_ms: float
    trials_per_s: float


def measure_storage(*, workers: int, trials: int) -> Section:
    """Run ``trials`` per worker, with one worker and with ``workers``."""
    with postgres_server(f"max_connections={2 * workers + 20}") as server:
        if server is None:
            return Section({}, [("storage with PostgreSQL", "there is no PostgreSQL on this machine")])
        loads = [run_load(server.create_database(), count, trials) for count in (1, workers)]
    figures = {}
    rows = []
    for load in loads:
        own = f"{load.workers}_worker{'s' if load.workers > 1 else ''}"
        figures |= {f"storage_ms_per_trial_{own}": load.trial_ms, f"storage_trials_per_s_{own}": load.trials_per_s}
        rows.append(
            (
                f"PostgreSQL, {load.workers} simulated worker{'s' if load.workers > 1 else ''} without pause",
                f"{load.trial_ms:,.0f} ms per trial, {load.trials_per_s:.1f} trials/s",
            )
        )
    return Section(dict(figures), rows)


def run_load(url: str, workers: int, trials: int) -> Load:
    """Let ``workers`` processes run ``trials`` each in a new study at ``url``."""
    name = f"load-{workers}"
    open_study(open_storage(url, say=_nobody), name, SearchSettings())
    # From a server of forks, so that 32 of them share what is imported.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    start, answers = context.Barrier(workers + 1), context.Queue()
    processes = [
        context.Process(target=_work, args=(url, name, number, trials, start, answers), daemon=True)
        for number in range(workers)
    ]
    try:
        for process in processes:
            process.start()
        start.wait(_PATIENCE_S)
        began = time.perf_counter()
        took = [seconds for _ in processes for seconds in answers.get(timeout=_PATIENCE_S)]
        total_s = time.perf_counter() - began
    finally:
        for process in processes:
            process.kill()
            process.join()
    return Load(workers, 1e3 * statistics.median(took), workers * trials / total_s)


def _work(url: str, name: str, number: int, trials: int, start: Barrier, answers: Queue[list[float]]) -> None:
    sampler = optuna.samplers.RandomSampler(seed=number)
    study = open_study(open_storage(url, say=_nobody), name, SearchSettings(), sampler)
    start.wait()
    took = []
    for _ in range(trials):
        began = time.perf_counter()
        _trial(study)
        took.append(time.perf_counter() - began)
    answers.put(took)


def _trial(study: optuna.Study) -> None:
    """Do all that a search does with its storage for one trial, but no work."""
    finished(study), running(study)
    trial = study.ask()
    trial.set_user_attr("worker", "0" * 32)
    for gene, choices in GENES.items():
        trial.suggest_categorical(gene, choices)
    trial.suggest_float(TRADE_OFF, 0.0, 1.0)
    trial.set_user_attr(HYPERVOLUME, 0.5)
    trial.set_user_attr(SPEC, _SPEC)
    study.tell(trial, [0.9, 1.0])


def _nobody(text: str) -> None:
    return
