from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.data.splits import DataBundle
from aebnas.prepare import Prepared
from aebnas.progress import Progress
from aebnas.training.features import FeatureStore


@pytest.fixture(scope="session")
def specs(prepared: Prepared) -> list[BranchSpec]:
    """A branch with layers, batch-norm among them, at the first attach point, and a bare one at the second."""
    layers = (PartSpec.of("conv", kernel=3), PartSpec("batch-norm"), PartSpec("relu"))
    first, second = prepared.backbone.attach_points
    return [BranchSpec(first.name, layers), BranchSpec(second.name, (), PartSpec.of("grid-linear", size=2))]


@pytest.fixture
def store(prepared: Prepared, tmp_path) -> Callable[..., FeatureStore]:
    """Open a feature store of the prepared backbone; by default everything fits its budget."""

    def make(
        budget_gib: float = 1.0,
        backbone: nn.Module | None = None,
        data: DataBundle | None = None,
        key: str = "key",
        **options: Any,
    ) -> FeatureStore:
        return FeatureStore(
            backbone or prepared.backbone,
            data or prepared.data,
            folder=tmp_path / "features",
            key=key,
            budget_gib=budget_gib,
            **{"progress": Progress(), "device": torch.device("cpu"), **options},
        )

    return make
