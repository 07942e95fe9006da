"""The verb `aebnas list`."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer


def _kinds() -> dict[str, Any]:
    from aebnas.backbones.build import BACKBONES
    from aebnas.branches.heads import HEADS
    from aebnas.branches.layers import LAYERS
    from aebnas.costs.kinds import COSTS
    from aebnas.data.load import DATASETS
    from aebnas.exits.confidence import CONFIDENCES
    from aebnas.spaces.definition import space_names
    from aebnas.training.objective import WEIGHTINGS
    from aebnas.training.regimes import REGIMES

    return {
        "regimes": REGIMES,
        "weightings": WEIGHTINGS,
        "confidences": CONFIDENCES,
        "layers": LAYERS,
        "heads": HEADS,
        "backbones": BACKBONES,
        "datasets": DATASETS,
        "spaces": space_names(),
        "costs": COSTS,
    }


def list_names(
    kind: Annotated[
        Literal["regimes", "weightings", "confidences", "layers", "heads", "backbones", "datasets", "spaces", "costs"],
        typer.Argument(help="What to list."),
    ],
) -> None:
    """List what an experiment file or a search space may name, one per line.

    Example: [bold]aebnas list layers[/bold]
    """
    for name in _kinds()[kind]:
        sys.stdout.write(f"{name}\n")
