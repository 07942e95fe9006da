"""AEBNAS's way of evaluating a candidate (arXiv 2512.10671), restated after its public code, to be held against ours.

A fresh process per candidate; the whole network, backbone included, trained jointly for five epochs with the plain sum
of the exits' cross-entropies; then a Python loop over the samples for every combination of thresholds. Where that code
leaves a choice, the one that suits it best is taken: it starts from the trained backbone, maps are channels-last, and
all that is known about the data is read from files. ``python -m benchmarks.reference JOB RESULT`` is that process.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from aebnas.branches.spec import NetworkSpec
from aebnas.costs.model import CostModel
from aebnas.data.splits import Split
from aebnas.exits.tuning import evaluate_thresholds
from aebnas.experiment import Experiment
from aebnas.files import write_text
from aebnas.network import EarlyExitNetwork
from aebnas.prepare import prepare
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.training.candidates import limited, seed_everything
from aebnas.training.fit import logits_of
from benchmarks.threshold_loop import TEN_VALUES, ThresholdLoop, Thresholds, score_of

EPOCHS, BATCH, CLIP_NORM, VALIDATION = 5, 256, 1.0, 5_000
# Its optimiser was not at hand: plain SGD, whose rate falls to 0 along a cosine.
LR, MOMENTUM = 0.01, 0.9


@dataclass(frozen=True)
class Candidate:
    """What one candidate came to, and the seconds it took.

    Args:
        accuracy: On the whole validation split, with the thresholds that the loop chose on its first samples.
        macs: Mean over that split.
        score: accuracy% - 0.1 * 100 * |macs - T| / T.
        train_s: Of training the network.
        tune_s: Of the loop over thresholds.
        total_s: From the start of the process to its end.
    """

    accuracy: float
    macs: float
    score: float
    thresholds: Thresholds
    train_s: float
    tune_s: float
    total_s: float


def train_jointly(network: EarlyExitNetwork, train: Split, *, epochs: int, seed: int) -> None:
    """Train everything on the plain sum of all exits' cross-entropies."""
    network.requires_grad_(True).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), LR, MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        for batch in train.batches(BATCH, seed=seed + epoch):
            images = batch.images.contiguous(memory_format=torch.channels_last)
            loss = torch.stack([F.cross_entropy(logits, batch.labels) for logits in network(images)]).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
            optimizer.step()
        schedule.step()
    network.requires_grad_(False).eval()


def evaluate(
    experiment: Experiment, folder: RunFolder, spec: NetworkSpec, *, target: float, samples: int | None, epochs: int
) -> Candidate:
    """Train and tune one network the reference's way.

    Args:
        folder: Holds the trained backbone.
        target: MACs that are wished for.
        samples: Training images; None = all.
    """
    start = time.perf_counter()
    device = torch.device("cpu")
    prepared = prepare(experiment, folder, device=device, progress=Progress())
    seed_everything(experiment.seed)
    network = EarlyExitNetwork(copy.deepcopy(prepared.backbone), spec.branches)
    train, _ = limited(prepared.data.train, None, samples, experiment.seed)
    began = time.perf_counter()
    train_jointly(network, train, epochs=epochs, seed=experiment.seed)
    train_s = time.perf_counter() - began
    validation = prepared.data.validation
    logits = logits_of(network, validation, device)
    truth = validation.labels
    top = [torch.softmax(said, 1).topk(2, 1).values for said in logits[:-1]]
    confidences = torch.stack([two[:, 0] - two[:, 1] for two in top]).numpy()
    correct = torch.stack([said.argmax(1) == truth for said in logits]).numpy()
    costs = CostModel(prepared.backbone, None).network(spec.branches)

    def cost_of(mask: tuple[bool, ...]) -> NDArray[np.float64]:
        return costs.exit_costs(mask)[:1]

    began = time.perf_counter()
    loop = ThresholdLoop(confidences[:, :VALIDATION], correct[:, :VALIDATION], cost_of, target)
    _, thresholds = loop.best(loop.combinations(TEN_VALUES))
    tune_s = time.perf_counter() - began
    point = evaluate_thresholds(confidences, correct, cost_of, thresholds)
    macs = point.costs[0]
    return Candidate(
        point.accuracy,
        macs,
        score_of(point.accuracy, macs, target),
        thresholds,
        train_s,
        tune_s,
        time.perf_counter() - start,
    )


def run_candidates(
    experiment: Experiment,
    folder: Path,
    specs: Sequence[NetworkSpec],
    *,
    target: float,
    samples: int | None,
    epochs: int,
    processes: int,
) -> tuple[list[Candidate], float]:
    """Evaluate ``specs``, each in a fresh process of one thread, ``processes`` at a time; return also the seconds.

    Args:
        folder: A run folder with the trained backbone; jobs and results are written beside it.

    Raises:
        RuntimeError: a process failed; its words are in the message.
    """
    own = folder / "reference"
    write_text(own / "experiment.yaml", experiment.to_yaml())
    shared = {"folder": str(folder), "target": target, "samples": samples, "epochs": epochs}

    def one(number: int, spec: NetworkSpec) -> Candidate:
        job, result = own / f"{number}.job.json", own / f"{number}.result.json"
        write_text(job, json.dumps({**shared, "spec": spec.to_json()}))
        began = time.perf_counter()
        words = [sys.executable, "-m", "benchmarks.reference", str(job), str(result)]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"candidate {number} of the reference failed: {done.stdout.strip()}")
        values = json.loads(result.read_text(encoding="utf-8"))
        values["thresholds"] = tuple(values["thresholds"])
        return Candidate(**values | {"total_s": time.perf_counter() - began})

    start = time.perf_counter()
    with ThreadPoolExecutor(processes) as pool:
        found = list(pool.map(one, range(len(specs)), specs))
    return found, time.perf_counter() - start


def main(job_file: str, result_file: str) -> None:
    """Evaluate the candidate of a job file."""
    torch.set_num_threads(1)
    job: Mapping[str, Any] = json.loads(Path(job_file).read_text(encoding="utf-8"))
    found = evaluate(
        Experiment.from_yaml(Path(job_file).parent / "experiment.yaml"),
        RunFolder(Path(job["folder"])),
        NetworkSpec.from_json(job["spec"]),
        target=job["target"],
        samples=job["samples"],
        epochs=job["epochs"],
    )
    write_text(Path(result_file), json.dumps(asdict(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
