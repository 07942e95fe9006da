"""Hypervolume against wall-clock: samplers; starting points, rungs, recombination and a surrogate on and off."""

from __future__ import annotations

import json
import multiprocessing
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from aebnas.experiment import Experiment
from aebnas.experiment_search import SearchSettings
from aebnas.files import canonical_json, digest, write_text
from aebnas.progress import Progress
from benchmarks.replay import Step, Theatre
from benchmarks.section import Figure, Section

SAMPLERS = ("nsga2", "tpe", "gp", "random")
HELPS = ("starts", "rungs", "recombine", "surrogate")


@dataclass(frozen=True)
class Contest:
    """Which searches are held against each other.

    Args:
        experiment: What is searched.
        train: Training samples of a branch; None = all.
        timeout_s: By the virtual clock; when it is over no trial starts.
        scale: Seconds that one of training counts.
        samplers: By name.
    """

    experiment: Experiment
    train: int | None
    timeout_s: float
    scale: float
    samplers: tuple[str, ...]
    seeds: int

    def variants(self) -> list[dict[str, Any]]:
        """Return the search settings that are compared.

        Every sampler with the helps as the defaults have them, and but for the Gaussian process, whose proposals take
        long, with none; the default sampler also with each help switched over.
        """
        default = {name: getattr(SearchSettings(), name) for name in HELPS}
        found = [{"sampler": sampler, **default} for sampler in self.samplers]
        found += [{"sampler": sampler, **dict.fromkeys(HELPS, False)} for sampler in self.samplers if sampler != "gp"]
        own = SearchSettings().sampler
        return found + [{"sampler": own, **default, name: not default[name]} for name in HELPS]


@dataclass(frozen=True)
class Run:
    """One search with one seed."""

    settings: Mapping[str, Any]
    seed: int
    steps: Sequence[Step]

    def at(self, seconds: float) -> float:
        """Return the hypervolume that was reached within ``seconds``."""
        return max((step.hypervolume for step in self.steps if step.seconds <= seconds), default=0.0)

    def mean_until(self, seconds: float) -> float:
        """Return the mean hypervolume over the time from 0 to ``seconds``: high for those that are good early."""
        area = best = last = 0.0
        for step in self.steps:
            if step.seconds > seconds:
                break
            area += best * (step.seconds - last)
            best, last = max(best, step.hypervolume), step.seconds
        return (area + best * (seconds - last)) / seconds


def compare_searches(contest: Contest, home: Path, *, processes: int, progress: Progress) -> Section:
    """Replay every variant with every seed; those that were replayed before are read."""
    home.mkdir(parents=True, exist_ok=True)
    # Trained and computed once, before several processes would.
    Theatre.open(contest.experiment, home, train=contest.train, scale=contest.scale, progress=progress)
    jobs = [(contest, home, variant, seed) for seed in range(contest.seeds) for variant in contest.variants()]
    runs = list[Run]()
    with progress.stage("replayed searches", len(jobs)) as stage:
        if processes == 1:
            for job in jobs:
                runs.append(_run(job))
                stage.advance()
        else:
            with multiprocessing.get_context("spawn").Pool(processes) as pool:
                for run in pool.imap_unordered(_run, jobs):
                    runs.append(run)
                    stage.advance()
    return judged(runs, contest)


def _run(job: tuple[Contest, Path, dict[str, Any], int]) -> Run:
    contest, home, variant, seed = job
    torch.set_num_threads(1)
    # Time is what ends it.
    own = {"search.trials": 10_000, "search.timeout": contest.timeout_s, **_keys(variant)}
    # The whole experiment: a default that changes is none that it depends on.
    key = digest(contest.experiment.override(own).to_yaml(), canonical_json([seed, contest.train, contest.scale]))
    file = home / "runs" / f"{key}.json"
    if file.exists():
        return Run(variant, seed, [Step(**step) for step in json.loads(file.read_text(encoding="utf-8"))])
    theatre = Theatre.open(contest.experiment, home, train=contest.train, scale=contest.scale, progress=Progress())
    steps = theatre.replay(own, seed)
    write_text(file, json.dumps([asdict(step) for step in steps]))
    return Run(variant, seed, steps)


def judged(runs: Sequence[Run], contest: Contest) -> Section:
    """Return what the searches reached, the default's and random's first."""
    end = contest.timeout_s
    by_variant: dict[str, list[Run]] = {}
    for run in runs:
        by_variant.setdefault(_name(run.settings), []).append(run)
    figures: dict[str, Figure] = {}
    rows = []
    for name, own in sorted(by_variant.items(), key=lambda item: -_mean([run.at(end) for run in item[1]])):
        reached = [run.at(end) for run in own]
        early, area = _mean([run.at(end / 4) for run in own]), _mean([run.mean_until(end) for run in own])
        trials = _mean([len(run.steps) for run in own])
        figures |= {
            f"hypervolume_{name}": _mean(reached),
            f"hypervolume_spread_{name}": statistics.stdev(reached) if len(reached) > 1 else None,
            f"hypervolume_quarter_{name}": early,
            f"hypervolume_area_{name}": area,
            f"trials_{name}": trials,
        }
        rows.append(
            (
                name.replace("_", " "),
                f"{_mean(reached):.4f} (of each seed: {', '.join(f'{value:.3f}' for value in reached)}), "
                f"after a quarter {early:.4f}, mean over time {area:.4f}, {trials:.0f} trials",
            )
        )
    default = {"sampler": SearchSettings().sampler, **{name: getattr(SearchSettings(), name) for name in HELPS}}
    random = {"sampler": "random", **dict.fromkeys(HELPS, False)}
    best = max(by_variant, key=lambda name: _mean([run.at(end) for run in by_variant[name]]))
    figures = {
        "hypervolume_default": figures[f"hypervolume_{_name(default)}"],
        "hypervolume_random": figures[f"hypervolume_{_name(random)}"],
        "hypervolume_best": best,
        "hypervolume_seconds": end,
        **figures,
    }
    return Section(figures, [("the default", _name(default).replace("_", " ")), *rows])


def _keys(variant: Mapping[str, Any]) -> dict[str, Any]:
    return {f"search.{name}": value for name, value in variant.items()}


def _name(settings: Mapping[str, Any]) -> str:
    """Return the name of a variant: its sampler, and the helps that are on."""
    return "_".join([settings["sampler"], *(name for name in HELPS if settings[name])])


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)
