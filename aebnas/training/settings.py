"""How long and with what optimiser to train, and under which regime."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from aebnas.settings import Settings

Target = Literal["labels", "backbone", "final"]
Start = Literal["trained", "initial"]


class FitSettings(Settings):
    """One optimisation: its length, optimiser and schedule."""

    epochs: int = Field(default=3, ge=1, description="passes over the training split")
    batch_size: int = Field(default=128, ge=2, description="batch-norm cannot train on a single sample")
    optimizer: Literal["adamw", "sgd"] = Field(default="adamw", description="sgd with Nesterov's momentum")
    lr: float = Field(default=3e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(default=1e-2, ge=0, description="of all weights that the optimiser moves")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd only")
    schedule: Literal["one-cycle", "cosine", "constant"] = Field(
        default="one-cycle", description="how the learning rate goes: up and down, down from the peak, or not at all"
    )
    clip_norm: float | None = Field(
        default=5.0, gt=0, description="largest norm of the gradient; null switches clipping off"
    )
    patience: int | None = Field(
        default=None, ge=1, description="epochs an exit may go without improving; null: no early stop"
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced: a sample's loss is multiplied by N / (classes x samples of its class), so that every "
        "class weighs the same",
    )

    def steps(self, samples: int) -> int:
        """Return the steps of an epoch of so many ``samples``."""
        return math.ceil(samples / self.batch_size)

    def about(self) -> dict[str, Any]:
        """Return what a training depends on; keys that runs of before did not have only where they say something."""
        idle = {"class_weights"} if self.class_weights == "none" else set[str]()
        return self.model_dump(mode="json", exclude=idle)


class BackboneFitSettings(FitSettings):
    """Training of a backbone that comes without a checkpoint."""

    epochs: int = Field(default=6, ge=1)
    optimizer: Literal["adamw", "sgd"] = "sgd"
    lr: float = Field(default=0.1, gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)


class CgtSettings(Settings):
    """Confidence-gated training: what the loss of deeper exits is weighted by."""

    tau: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="confidence (hard) or probability of the label (soft) from which a sample counts as settled",
    )
    sharpness: float = Field(default=10.0, gt=0, description="of the sigmoid residual; below 10 it hardly gates")
    residual: Literal["sigmoid", "probability"] = Field(
        default="sigmoid",
        description="what soft gates hand on: 1 - sigmoid(sharpness * (p - tau)), or 1 - p, p that of the label",
    )
    floor: float = Field(default=1e-3, ge=0, description="added to every gate, so that no exit starves")
    normalise: bool = Field(default=True, description="whether the gates of a sample are scaled to mean 1 over exits")
    anneal: bool = Field(
        default=False, description="whether weight moves from the first exits to the last as time goes"
    )


class CalexSettings(Settings):
    """CalexNet: branches that train on what survives the branches before them."""

    margin: float = Field(
        default=0.05, ge=0, lt=1, description="share of the backbone's precision, class by class, an exit may lose"
    )
    softness: float = Field(
        default=0.05, gt=0, description="width of the step from leaving to surviving, in confidence"
    )
    floor: float = Field(default=1e-3, gt=0, le=1, description="least weight of a sample")
    aligned: bool = Field(default=True, description="false: every sample weighs the same")


class SequentialSettings(Settings):
    """Exits added one after the other: what keeps the earlier ones as they are."""

    protection: Literal["none", "frozen", "ewc", "lwf", "interval"] = Field(
        default="none",
        description="frozen: what exits share does not move at all; ewc and lwf: a penalty; interval: a box per weight",
    )
    strength: float | None = Field(
        default=None, ge=0, description="of the penalty; null: 1000 for ewc (lambda), 1 for lwf (alpha)"
    )
    temperature: float = Field(default=2.0, gt=0, description="of lwf's softmaxes")
    radius: float = Field(
        default=1.0,
        gt=0,
        description="interval: nats that an earlier exit's answers change by at most, to first order, within the boxes",
    )
    fisher_samples: int = Field(default=256, ge=1, description="training samples that ewc and interval look at")
    batch_norm: Literal["freeze", "train"] = Field(
        default="freeze", description="statistics of what an earlier step has trained: kept as they are, or moving on"
    )


class RegimeSettings(Settings):
    """How backbone and branches are trained for one candidate."""

    name: str = Field(default="disjoint", description="see `aebnas list regimes`")
    target: Target | None = Field(
        default=None,
        description="what exits learn: the labels, the trained backbone's softmax, or that of the network's own final "
        "exit (regimes that train it); null: the regime's own, which is backbone for calex and labels for all others",
    )
    temperature: float = Field(default=4.0, gt=0, description="of the softmaxes when the target is not the labels")
    distillation: float = Field(
        default=1.0, ge=0, le=1, description="share of that target in the loss; the labels have the rest"
    )
    loss: Literal["cross-entropy", "one-vs-all"] = Field(
        default="cross-entropy", description="one-vs-all: one yes-or-no question per class"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of a label given to all classes alike")
    weighting: str = Field(default="equal", description="of the exits' losses: equal, linear, branchynet or ramp")
    gradients: Literal["sum", "equilibrium", "boostnet"] = Field(
        default="sum", description="how the exits' gradients meet in what they share; both others take their mean"
    )
    start: Start | None = Field(
        default=None, description="weights the backbone starts from: trained or initial; null: the regime's own"
    )
    cgt: CgtSettings = CgtSettings()
    calex: CalexSettings = CalexSettings()
    sequential: SequentialSettings = SequentialSettings()
    training: FitSettings = FitSettings()
    final_epochs: int = Field(default=6, ge=1, description="epochs for the finalists, in place of training.epochs")
    train_samples: int | None = Field(
        default=None, ge=1, description="training samples used for candidates; finalists always see the whole split"
    )
