"""A branch that trains, or has trained, on frozen features: what is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aebnas.branches.build import Branch
from aebnas.branches.linked import LinkedBranch
from aebnas.branches.spec import BranchSpec
from aebnas.training.fit import FitResult
from aebnas.training.log import Epoch

# Number of the job, epochs that are over, validation accuracy -> whether to go on.
Watch = Callable[[int, int, float], bool]
# Number of the job, and an epoch of it that is over.
ToldOfJob = Callable[[int, Epoch], None]


@dataclass(frozen=True)
class TrainedBranch:
    """A branch trained on frozen features: its weights, and what it says.

    Args:
        validation_logits: ``(N, classes)`` on the validation split.
        train_logits: ``(N, classes)`` on the training samples it was given, in their order, where later branches go by
            them: in regimes that train branches in order, and in cascades. Else None.
        accuracies: On validation, per epoch.
        paused: What :class:`BranchJob` goes on from, where it was stopped before its end.
        seconds: Spent on it by the call that made it; what is done for several branches at once is divided evenly.
    """

    branch: Branch | LinkedBranch
    validation_logits: Tensor
    train_logits: Tensor | None
    accuracies: list[list[float]]
    paused: Mapping[str, Any] | None = None
    seconds: float = 0.0

    @classmethod
    def of(
        cls, branch: Branch | LinkedBranch, result: FitResult, logits: Tensor, said: Tensor | None, seconds: float
    ) -> TrainedBranch:
        """Return ``branch``, on the CPU, with what its fit did and what it says: of validation, and of training."""
        return cls(branch.cpu(), logits, said, result.accuracies, result.paused, seconds)

    def on_train(self, samples: int) -> Tensor:
        """Return what it says of the training samples, (samples, classes), for a branch that goes by it.

        Raises:
            ValueError: it does not say, or was trained on others.
        """
        if self.train_logits is None:
            raise ValueError(
                "an earlier branch has no logits on the training split: train it in order or in the cascade"
            )
        if len(self.train_logits) != samples:
            raise ValueError(
                f"an earlier branch was trained on {len(self.train_logits)} samples, this one is on {samples}"
            )
        return self.train_logits


@dataclass(frozen=True)
class BranchJob:
    """A branch to train, from the beginning or from the ``paused`` of a :class:`TrainedBranch` of the same training."""

    spec: BranchSpec
    resume: Mapping[str, Any] | None = None
