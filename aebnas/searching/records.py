"""What is kept of trained branches and networks, and read back of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.linked import Cascade, build_exit
from aebnas.network import EarlyExitNetwork
from aebnas.searching.plan import Plan
from aebnas.searching.stopped import Kept, Record, Shelf
from aebnas.store import WeightStore, load_state, state_of
from aebnas.training.fit import FitResult
from aebnas.training.trained import TrainedBranch


@dataclass(frozen=True)
class Trained:
    """A trained network; arguments as of :class:`~aebnas.searching.evaluation.Evaluation`."""

    weights: Mapping[str, Any]
    curves: tuple[tuple[float, ...], ...]
    epochs: tuple[int | None, ...]


def put_branch(shelf: Shelf, key: str, trained: TrainedBranch) -> None:
    """Keep a branch that was trained to its end, or stopped."""
    record = {
        "state": state_of(trained.branch),
        "validation_logits": trained.validation_logits,
        "train_logits": trained.train_logits,
        "accuracies": trained.accuracies,
    }
    shelf.put(key, record, trained.accuracies, trained.paused)


def put_network(
    shelf: Shelf, key: str, network: EarlyExitNetwork, logits: Sequence[Tensor], results: Sequence[FitResult]
) -> None:
    """Keep a whole network that was trained to its end, or stopped.

    Args:
        logits: (N, classes) of every exit on validation.
        results: Of every phase.
    """
    record = {
        "state": state_of(network),
        "validation_logits": list(logits),
        "accuracies": [result.accuracies for result in results],
    }
    shelf.put(key, record, results[-1].accuracies, results[-1].paused)


def trained_branches(store: WeightStore, plan: Plan, found: Sequence[Kept | None]) -> Trained:
    """Return the network of the branches of ``plan``, each of which is in ``store``, where it was ``found``."""
    kept = [one or Kept(key) for one, key in zip(found, plan.branch_keys, strict=True)]
    # A record holds logits too, which are let go of one by one.
    accuracies = [store.get(one.key)["accuracies"] for one in kept]
    curves = tuple(tuple(accuracy for (accuracy,) in of_branch) for of_branch in accuracies)
    return Trained({"branches": [one.key for one in kept]}, curves, tuple(one.epochs for one in kept))


def trained_network(store: WeightStore, kept: Kept) -> Trained:
    """Return the whole network that is in ``store`` as ``kept``."""
    curves = curves_of(store.get(kept.key))
    return Trained({"network": kept.key}, curves, (kept.epochs,) * len(curves))


def earlier_branches(store: WeightStore, plan: Plan, count: int, backbone: SegmentedBackbone) -> list[TrainedBranch]:
    """Return the first ``count`` branches of ``plan``, which are in ``store``, for one that hears them."""
    shapes = {point.name: point.shape for point in backbone.attach_points}
    cascade: Cascade = plan.own.cascade
    found = []
    for number, (branch, key) in enumerate(zip(plan.spec.branches[:count], plan.branch_keys, strict=False)):
        record = store.get(key)
        module = build_exit(branch, shapes[branch.attach], backbone.num_classes, cascade, first=not number)
        load_state(module, record["state"], store.path(key))
        trained = TrainedBranch(
            module.eval(), record["validation_logits"], record["train_logits"], record["accuracies"]
        )
        found.append(trained)
    return found


def curves_of(record: Record) -> tuple[tuple[float, ...], ...]:
    """Return the validation accuracy of every exit of a whole network, per epoch of the last phase of its training."""
    return tuple(zip(*record["accuracies"][-1], strict=True))
