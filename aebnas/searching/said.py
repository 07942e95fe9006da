"""What a search says before its trials: what makes its figures worse, or itself slow."""

from __future__ import annotations

import torch

from aebnas.branches.spec import FP32
from aebnas.devices.crowded import crowded
from aebnas.exits.guessing import Guess
from aebnas.progress import Progress
from aebnas.searching.costing import by_precision, story
from aebnas.searching.workplace import Workplace


def say_crowded(accelerator: torch.device, progress: Progress) -> None:
    """Say that other programs take the processors that training wants to have for itself, where they do."""
    crowd = crowded(torch.get_num_threads()) if accelerator.type == "cpu" else None
    if crowd is not None:
        progress.say(f"note: {crowd}")


def say_guessing(place: Workplace, progress: Progress) -> None:
    """Warn of a backbone that knows hardly more than a guess, whoever trained it."""
    guess = Guess.of(place.prepared.data.validation.labels.numpy(), place.experiment.accuracy)
    warning = guess.warning(place.evaluator.backbone.accuracy)
    if warning is not None:
        progress.say(f"warning: {warning}")


def say_costs(place: Workplace, progress: Progress) -> None:
    """Say which MACs are in no figure, and how well latencies are known."""
    missed = by_precision(place.costs, place.experiment.confidence)[FP32].missed_macs
    if missed:
        progress.say(
            f"note: thop misses {missed:,} MACs of functional operations in this backbone; "
            "they are in no MACs figure below"
        )
    for line in story(place.costs, place.target):
        progress.say(line)


def say_done(trials: int, wanted: int, progress: Progress) -> None:
    """Say that there is nothing left to search, where all ``wanted`` trials have come to their end before."""
    if trials >= wanted:
        progress.say(
            f"all {wanted} trials were run before: finalists are verified and measured now, again if they were, so "
            "that times differ a little; raise search.trials for more networks"
        )
