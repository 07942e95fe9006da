"""Finalists and static networks, exported, measured on the device and scored once on test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from aebnas.branches.spec import FP32
from aebnas.costs.kinds import SIZE
from aebnas.data.splits import Split
from aebnas.devices.device import Device
from aebnas.devices.target.session import CPU
from aebnas.exits.accuracy import AccuracyKind, accuracy_of
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import answers_of
from aebnas.exits.policy import thresholds_from_json
from aebnas.exits.tuning import evaluate_answers
from aebnas.export.evaluate import EvaluationResult, evaluate_export
from aebnas.export.manifest import SINGLE_FILE
from aebnas.export.package import update_costs
from aebnas.export.session import EarlyExitSession
from aebnas.prepare import Prepared
from aebnas.progress import Progress
from aebnas.rebuild import costs_of, export_row, rebuild
from aebnas.run import BACKBONE_ID
from aebnas.run_folder import RunFolder
from aebnas.searching.choice import CostLimits
from aebnas.searching.rows import Row, network_key
from aebnas.training.fit import logits_of
from aebnas.training.inference import accuracy_of_logits

# Test samples whose latency is measured, one at a time; the mean over more would hardly be steadier.
MEASURED_SAMPLES = 1000
MIB = 1 << 20


def verify(
    rows: Sequence[Row],
    prepared: Prepared,
    folder: RunFolder,
    *,
    accelerator: torch.device,
    limits: CostLimits,
    target: Device | None,
    progress: Progress,
) -> list[Row]:
    """Export ``rows`` (finalists and static networks), measure them on ``target``, and score them once on test.

    A finalist whose file turns out larger than its limit is left out. Without a target nothing is measured, and the
    columns stay None.
    """
    test, profile, kind = prepared.data.test, folder.profile(), prepared.experiment.accuracy
    inputs, labels = _some(prepared, MEASURED_SAMPLES)
    cache: dict[str, list[Tensor]] = {}
    done: list[Row] = []
    with progress.stage(f"verifying {_counted(rows)}", len(rows)) as stage:
        for row in rows:
            network = rebuild(row, prepared, folder)
            out = export_row(row, network, prepared, folder.exports / row["id"], profile, folder)
            stage.advance()
            size_mib = (out / SINGLE_FILE).stat().st_size / MIB
            if size_mib > limits.limits.get(SIZE, size_mib) and not row["static"]:
                progress.say(
                    f"{row['id']} is left out: its file has {size_mib:.3g} MiB, limits.model_mib is "
                    f"{limits.limits[SIZE]:g}"
                )
                continue
            if row["precision"] != FP32:
                accuracy = _deployed_accuracy(out, test, kind)
            else:
                logits = _logits(row, network.to(accelerator), test, accelerator, cache)
                accuracy = _accuracy(row, logits, test.labels, kind)
            found = {"accuracy_test": accuracy, "model_mib_measured": size_mib}
            if target is not None:
                found |= _measured(row, evaluate_export(out, inputs, labels, device=target))
            done.append({**row, **found})
        if target is not None:
            done = _with_memory(done, folder, target)
    for row in done:
        update_costs(folder.exports / row["id"], costs_of(row))
    return done


def _counted(rows: Sequence[Row]) -> str:
    """Return what there is to verify: ``7 points of 4 finalists and 5 static networks``."""
    points = [row for row in rows if not row["static"]]
    counts = {
        "point": len(points),
        "finalist": len({network_key(row) for row in points}),
        "static network": len(rows) - len(points),
    }
    words = [f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items()]
    return f"{words[0]} of {words[1]} and {words[2]}" if points else words[2]


def _with_memory(rows: Sequence[Row], folder: RunFolder, target: Device) -> list[Row]:
    """Return ``rows`` with what a process of its own grows by that runs a finalist or the backbone."""
    wanted = [row["id"] for row in rows if row["finalist"] or row["id"] == BACKBONE_ID]
    models = {name: (folder.exports / name / SINGLE_FILE).read_bytes() for name in wanted}
    grown = target.resident(models)
    return [{**row, "resident_mib_measured": grown.get(row["id"])} for row in rows]


def _logits(
    row: Row, network: nn.Module, test: Split, device: torch.device, cache: dict[str, list[Tensor]]
) -> list[Tensor]:
    """Return the logits of every exit on test; rows of the same weights that follow each other share them."""
    key = str(sorted(row["weights"].items()))
    if key not in cache:
        # Those of one network are kept, no more: of many classes they are gigabytes.
        cache.clear()
        cache[key] = logits_of(network, test, device)
    return cache[key]


def _accuracy(row: Row, logits: list[Tensor], labels: Tensor, kind: AccuracyKind) -> float:
    if row["static"]:
        return accuracy_of_logits(logits[-1 if row["cut"] is None else row["cut"]], labels, kind)
    answers = answers_of(build_confidence(row["confidence"]), logits, labels, accuracy=kind)
    thresholds = thresholds_from_json(row["thresholds"])
    return evaluate_answers(answers, lambda mask: np.zeros((1, len(mask) + 1)), thresholds).accuracy


def _deployed_accuracy(out: Path, test: Split, kind: AccuracyKind) -> float:
    """Return the accuracy of the exported network itself, on the CPU whatever device it was made for."""
    session = EarlyExitSession(out, provider=CPU)
    right = [session.run(batch.images.numpy(), "staged").labels == batch.labels.numpy() for batch in test.batches(256)]
    return accuracy_of(np.concatenate(right), test.labels.numpy(), kind)


def _measured(row: Row, result: EvaluationResult) -> Row:
    # The static backbone itself, without the label and confidence that an exit computes.
    latency = result.backbone_latency_ms if row["id"] == BACKBONE_ID else result.latency_ms
    return {
        "latency_ms_measured": latency.mean,
        "latency_ms_p95_measured": latency.p95,
        "backbone_ms_measured": result.backbone_latency_ms.mean,
        "speedup_measured": result.backbone_latency_ms.mean / latency.mean,
    }


def _some(prepared: Prepared, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return up to ``count`` test images, drawn at random: the first ones may all be of one class."""
    test = prepared.data.test
    rows = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:count]
    batches = list(test.subset(rows).batches(256))
    images = torch.cat([batch.images for batch in batches])
    return images.numpy(), test.labels[rows].numpy()
