"""The ``compare`` block of an experiment: what is the same for all training methods that are compared."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from aebnas.branches.spec import BranchSpec
from aebnas.costs.kinds import COSTS, MACS
from aebnas.errors import BranchError
from aebnas.registry import unknown_name
from aebnas.settings import Settings


class CompareSettings(Settings):
    """One network, one length of training and one number of seeds for all variants of a comparison."""

    variants: tuple[str, ...] = Field(
        default=("disjoint", "joint", "mixed"),
        min_length=1,
        description="regimes to compare, each NAME or NAME:key=value+key=value; differences are to the first one",
    )
    exits: int = Field(default=3, ge=1, le=8, description="branches, at attach points spread evenly over the cost")
    branch: tuple[str, ...] | None = Field(
        default=None,
        description="layers of every branch as choices of the space; null: the space's first start, else a bare head",
    )
    branches: tuple[dict[str, Any], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=8,
        description="branches in full instead: a list of {attach, layers, head}",
    )
    epochs: int = Field(default=12, ge=2, description="of every variant in all, those of its trained backbone included")
    backbone_share: float = Field(
        default=0.5, gt=0, lt=1, description="of the epochs, for the backbone that variants start from or learn from"
    )
    seeds: int = Field(default=3, ge=1, description="of initialisation and batch order; counted up from seed")
    grid: int = Field(default=20, ge=2, le=200, description="thresholds per exit that are compared")
    cost: str = Field(default=MACS, description=", ".join(COSTS))

    @field_validator("cost")
    @classmethod
    def _known_cost(cls, name: str) -> str:
        if name not in COSTS:
            raise ValueError(unknown_name("cost", name, COSTS))
        return name

    @field_validator("branches")
    @classmethod
    def _readable_branches(cls, branches: tuple[dict[str, Any], ...] | None) -> tuple[dict[str, Any], ...] | None:
        for number, branch in enumerate(branches or ()):
            _check_branch(branch, f"branches.{number}")
        return branches

    @property
    def backbone_epochs(self) -> int:
        """Epochs of the trained backbone: at least 1, and at least 1 is left for what starts from it."""
        return min(max(1, round(self.epochs * self.backbone_share)), self.epochs - 1)


def _check_branch(branch: dict[str, Any], key: str) -> None:
    try:
        BranchSpec.from_json(branch)
    except BranchError as error:
        raise ValueError(f"{key}: {error}") from None
