"""Runs that were never searched: rows, trials and folders as a test wants them."""

from __future__ import annotations

from pathlib import Path

import optuna
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from aebnas.devices.profile import load_profile
from aebnas.experiment import Experiment
from aebnas.files import write_json, write_text
from aebnas.run import Run
from aebnas.spaces.definition import load_space

HEAD = "pooled-linear"


def early_row(id_, accuracy, macs, *, exits=(("body.0", 0.5, 0.7), ("body.3", 0.9, 0.2)), **changes):
    """Return a row of the front; ``exits`` are (attach point, threshold, share)."""
    shares = [share for _, _, share in exits]
    conv = {"kind": "conv", "kernel": 3, "stride": 2}
    return {
        "id": id_,
        "finalist": False,
        "static": False,
        "exits": [{"attach": name, "layers": [conv, "batch-norm", "relu"], "head": HEAD} for name, _, _ in exits],
        "regime": "disjoint",
        "confidence": "max-probability",
        "thresholds": [threshold for _, threshold, _ in exits],
        "exit_shares": [*shares, 1 - sum(shares)],
        "accuracy_val": accuracy,
        "accuracy_test": None,
        "macs_mean": macs,
        "latency_ms_mean": None,
        "latency_ms_measured": None,
        "backbone_ms_measured": None,
        "weights": {"branches": []},
        **changes,
    }


def static_row(id_, accuracy, macs, attach=None, **changes):
    """Return the row of the backbone, or of a network cut off at ``attach``."""
    exits = [] if attach is None else ((attach, None, 1.0),)
    row = early_row(id_, accuracy, macs, exits=exits, **changes)
    return {
        **row,
        "static": True,
        "regime": None,
        "confidence": None,
        "thresholds": [],
        "exit_shares": [1.0],
        "cut": None if attach is None else 0,
    }


def measured(row, latency_ms, *, test, factor=1.2):
    """Return ``row`` as a verified finalist or baseline: predicted at ``latency_ms``, measured ``factor`` higher."""
    return {
        **row,
        "finalist": not row["static"],
        "accuracy_test": test,
        "latency_ms_mean": latency_ms,
        "latency_ms_measured": latency_ms * factor,
        "backbone_ms_measured": 1.0,
        "speedup_measured": 1.0 / (latency_ms * factor),
    }


def trial(number, *, failed=False, objectives=2):
    """Return a finished trial whose accuracy hangs on one gene only, and whose costs hang on another."""
    good, cheap = number % 2, (number // 2) % 2
    genes = {"exit0": ("on", "off")[cheap], "exit0_layer0": ("none", "conv3")[good], "exit0_head": HEAD}
    spaces = {"exit0": ("on", "off"), "exit0_layer0": ("none", "conv3"), "exit0_head": (HEAD, "grid-linear-2")}
    costs = [0.1 + cheap + 0.001 * number] * (objectives - 1)
    return create_trial(
        state=TrialState.FAIL if failed else TrialState.COMPLETE,
        values=None if failed else [0.8 + 0.1 * good + 0.0001 * number, *costs],
        params={**genes, "trade_off": (number % 7) / 7},
        distributions={name: CategoricalDistribution(choices) for name, choices in spaces.items()}
        | {"trade_off": FloatDistribution(0.0, 1.0)},
        user_attrs={"hypervolume": 1 - 0.5 / (1 + number), "spec": {}} | ({"failure": "nan"} if failed else {}),
    )


def write_run(folder: Path, rows, trials, experiment: Experiment) -> Run:
    """Write a run folder without a backbone; without trials it has no study either."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "experiment.yaml", experiment.to_yaml())
    write_text(folder / "space.yaml", yaml.safe_dump(load_space("compact").model_dump(mode="json"), sort_keys=False))
    profile = load_profile("local").model_dump(mode="json")
    write_text(folder / "device.yaml", yaml.safe_dump(profile, sort_keys=False))
    write_json(folder / "front.json", rows)
    seconds = {"data and backbone": 1.5, "trials": 20.0}
    write_json(
        folder / "summary.json", {"trials": 3, "networks": 2, "failed": 0, "hypervolume": 0.5, "seconds": seconds}
    )
    if trials:
        write_study(folder / "study.db", trials)
    return Run(folder, experiment=experiment)


def write_study(path: Path, trials) -> Path:
    """Write the study of ``trials`` as a search would."""
    study = optuna.create_study(storage=f"sqlite:///{path}", study_name="aebnas", directions=["maximize", "minimize"])
    study.add_trials(trials)
    return path
