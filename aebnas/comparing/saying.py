"""What a trained network says of validation and test: all that its results are made of, kept beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Logits = tuple[Tensor, ...]


@dataclass(frozen=True)
class Saying:
    """One training from one seed.

    Args:
        validation, test: Logits (N, classes) float32 of every exit, the final one last.
        epochs, backbone_epochs, seconds, forgetting: As of a :class:`~aebnas.comparing.results.Result`.
    """

    validation: Logits
    test: Logits
    epochs: int
    backbone_epochs: int
    seconds: float
    forgetting: tuple[tuple[float, float], ...] | None

    def to_record(self) -> dict[str, Any]:
        """Return tensors, numbers and lists."""
        return {
            "validation": list(self.validation),
            "test": list(self.test),
            "epochs": self.epochs,
            "backbone_epochs": self.backbone_epochs,
            "seconds": self.seconds,
            "forgetting": None if self.forgetting is None else [list(pair) for pair in self.forgetting],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Saying:
        """Read what :meth:`to_record` wrote; raises KeyError, TypeError or ValueError for anything else."""
        forgetting = record["forgetting"]
        return cls(
            tuple(record["validation"]),
            tuple(record["test"]),
            record["epochs"],
            record["backbone_epochs"],
            record["seconds"],
            None if forgetting is None else tuple((after, end) for after, end in forgetting),
        )
