"""How long and with what optimiser to train, and under which regime."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aebnas.settings import Settings


class FitSettings(Settings):
    """One optimisation: its length, optimiser and schedule."""

    epochs: int = Field(default=3, ge=1, description="passes over the training split")
    batch_size: int = Field(default=128, ge=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(default=3e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(default=1e-2, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd only")
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    clip_norm: float | None = Field(
        default=5.0, gt=0, description="largest norm of the gradient; null switches clipping off"
    )
    patience: int | None = Field(
        default=None, ge=1, description="epochs an exit may go without improving; null: no early stop"
    )


class BackboneFitSettings(FitSettings):
    """Training of a backbone that comes without a checkpoint."""

    epochs: int = Field(default=6, ge=1)
    optimizer: Literal["adamw", "sgd"] = "sgd"
    lr: float = Field(default=0.1, gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)


class RegimeSettings(Settings):
    """How backbone and branches are trained for one candidate."""

    name: str = Field(default="disjoint", description="see `aebnas list regimes`")
    target: Literal["labels", "backbone"] = Field(
        default="labels", description="what branches learn: the labels, or the trained backbone's softmax"
    )
    temperature: float = Field(default=4.0, gt=0, description="of the softmax when the target is the backbone")
    weighting: str = Field(default="equal", description="of the exits' losses: equal, or linear in depth")
    training: FitSettings = FitSettings()
    final_epochs: int = Field(default=6, ge=1, description="epochs for the finalists, in place of training.epochs")
    train_samples: int | None = Field(
        default=None, ge=1, description="training samples used for candidates; finalists always see the whole split"
    )
