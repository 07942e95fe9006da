"""The comparison: from variants to results of every variant and seed, over processes, and on from where it stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aebnas.branches.spec import BranchSpec
from aebnas.comparing.arena import choose_branches, fresh_backbone, load_splits
from aebnas.comparing.folder import ComparisonFolder
from aebnas.comparing.jobs import Job, check_epochs, plan_jobs, seeds_of
from aebnas.comparing.pool import run_jobs
from aebnas.comparing.pricing import Prices
from aebnas.comparing.quotes import price_variants
from aebnas.comparing.results import Result, StaticResult
from aebnas.comparing.variants import Variant, parse_variants
from aebnas.comparing.workshop import Plan
from aebnas.errors import RunFailed
from aebnas.experiment import Experiment
from aebnas.prepare import say_left_out
from aebnas.progress import Progress
from aebnas.settings import completed
from aebnas.training.batch_norm import may_lag
from aebnas.training.log import open_log

# What says where or how fast to compute, and what each variant or seed brings itself.
_FREE = (
    "name",
    "plugins",
    "accelerator",
    "cache_gib",
    "training_log",
    "device",
    "space",
    "search",
    "confidence",
    "thresholds",
    "cascade",
)
_FREE_BLOCKS = (
    ("compare", ("variants", "seeds", "exits", "branch", "branches")),
    ("data", ("path", "data_dir", "download", "workers", "ram_gib")),
    ("regime", ("name", "final_epochs")),
)


@dataclass(frozen=True)
class Comparison:
    """All that was found.

    Args:
        specs: The branches that all variants have.
        prices: By variant name; those of static networks are the same in all.
        results: Of every variant, in order, those seeds that are there.
        failures: Variant name -> why seeds of it are missing.
    """

    experiment: Experiment
    specs: tuple[BranchSpec, ...]
    prices: dict[str, Prices]
    results: dict[str, dict[int, Result]]
    statics: dict[int | None, dict[int, StaticResult]]
    failures: dict[str, str]
    folder: ComparisonFolder


def compare(
    experiment: Experiment, *, run_dir: Path | None = None, workers: int = 1, progress: Progress | None = None
) -> Comparison:
    """Train what is not there yet of every variant and seed of ``experiment.compare``; return all results.

    Args:
        run_dir: Where everything is kept; ``runs/NAME-compare`` by default.
        workers: Processes.

    Raises:
        InputError: something given is wrong, or the folder cannot be written. RunFailed: nothing could be trained, or
            the disk is full. What was finished before stays.
    """
    shown = progress or Progress()
    variants = parse_variants(experiment.compare.variants, experiment)
    open_log(experiment.training_log, Path())  # what is missing for it is found out before anything is trained
    folder = ComparisonFolder(run_dir if run_dir is not None else Path("runs") / f"{experiment.name}-compare")
    data = load_splits(experiment, folder.data_fingerprint())
    say_left_out(experiment, data, shown)
    backbone = fresh_backbone(experiment, data, experiment.seed)
    specs = choose_branches(experiment, backbone)
    for variant in variants:
        check_epochs(variant, len(specs))
    with folder.lock():
        steps = experiment.regime.training.steps(len(data.train))
        told = f"{data.fingerprint} of {len(data.train)}"
        about = _about(experiment, specs, told, lags=may_lag(backbone, steps))
        folder.start(about, _as_now)
        cut = fresh_backbone(experiment, data, experiment.seed, [spec.attach for spec in specs])
        prices = price_variants(variants, specs, cut, data, folder, shown)
        shares = [cost / prices[variants[0].key].backbone for cost in prices[variants[0].key].truncated]
        every = plan_jobs(experiment, variants, len(data.train), shares)
        jobs = _missing(every, folder, shown)
        done = sum(job.work for job in every) - sum(job.work for job in jobs)
        with shown.stage("comparing", sum(job.work for job in every), done) as stage:
            failures = run_jobs(jobs, Plan(experiment, specs, prices, folder), workers=workers, stage=stage)
        folder.drop_features()
        found = _collect(experiment, variants, specs, prices, folder, failures)
    if not any(found.results.values()):
        raise RunFailed(f"no variant could be trained: {next(iter(failures.values()), 'nothing was done')}")
    return found


def _missing(jobs: Sequence[Job], folder: ComparisonFolder, progress: Progress) -> list[Job]:
    """Return the jobs whose results are not all there; a backbone is needed only for those that train."""
    wanted = [_less(job, folder) for job in jobs if job.kind != "backbone" and not _is_done(job, folder)]
    needed = {job.seed for job in wanted if job.needs_backbone}
    backbones = [job for job in jobs if job.kind == "backbone" and job.seed in needed]
    for job in list(backbones):
        was_there = folder.backbones.path(str(job.seed)).exists()  # a damaged one is put aside when it is looked at
        if folder.has_backbone(job.seed):
            backbones.remove(job)
        elif was_there:
            file = folder.backbones.path(str(job.seed))
            progress.say(f"{file} is damaged: the backbone of seed {job.seed} is trained again")
    return sorted([*backbones, *wanted], key=lambda job: (job.seed, job.kind != "backbone"))


def _less(job: Job, folder: ComparisonFolder) -> Job:
    """Return ``job`` without the training where that was done before, and only how exits decide is new."""
    if job.kind != "variants" or folder.read_saying(job.variants[0].training_key, job.seed) is None:
        return job
    return dataclasses.replace(job, work=0, needs_backbone=False)


def _is_done(job: Job, folder: ComparisonFolder) -> bool:
    if job.kind == "static":
        return folder.read_static(job.exit, job.seed) is not None
    return all(folder.read_result(variant.key, job.seed) is not None for variant in job.variants)


def _collect(
    experiment: Experiment,
    variants: Sequence[Variant],
    specs: tuple[BranchSpec, ...],
    prices: dict[str, Prices],
    folder: ComparisonFolder,
    failures: dict[Job, str],
) -> Comparison:
    seeds = seeds_of(experiment)
    reasons: dict[str, str] = {}
    for job, why in failures.items():
        names = [variant.name for variant in job.variants] or [job.label]
        reasons |= {name: why for name in names if name not in reasons}
    exits: list[int | None] = [None, *range(len(specs))]
    return Comparison(
        experiment,
        specs,
        {variant.name: prices[variant.key] for variant in variants},
        {variant.name: _known({seed: folder.read_result(variant.key, seed) for seed in seeds}) for variant in variants},
        {exit_: _known({seed: folder.read_static(exit_, seed) for seed in seeds}) for exit_ in exits},
        reasons,
        folder,
    )


def _known(found: dict[int, Any]) -> dict[int, Any]:
    return {seed: result for seed, result in found.items() if result is not None}


def _about(experiment: Experiment, specs: Sequence[BranchSpec], data: str, *, lags: bool) -> dict[str, Any]:
    """Return all that results depend on beside variant and seed.

    Args:
        lags: Whether the backbone's batch-norm statistics are helped to follow, which earlier versions did not do.
    """
    values = _without_free(experiment.model_dump(mode="json"))
    values["data"]["fingerprint"] = data
    if lags:
        values["backbone"]["batch_norm"] = "following"
    values["compare"]["branches"] = [spec.to_json() for spec in specs]
    if experiment.compare.cost != "macs":
        values["device"] = experiment.device
    return values


def _as_now(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an earlier version wrote of a comparison as this one would: keys that are new had their defaults."""
    values = _without_free(completed(Experiment, about))
    values["compare"]["branches"] = about["compare"]["branches"]
    if "device" in about:
        values["device"] = about["device"]
    return values


def _without_free(values: dict[str, Any]) -> dict[str, Any]:
    for key in _FREE:
        values.pop(key)
    for block, keys in _FREE_BLOCKS:
        for key in keys:
            values[block].pop(key)
    return values
