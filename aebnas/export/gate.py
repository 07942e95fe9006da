"""The decision at an exit, as a module that is exported together with the exit's logits."""

from __future__ import annotations

import torch
from torch import nn

GATED_OUTPUTS = ("logits", "label", "confidence")


class Gate(nn.Module):
    """Turns logits (N, C) into the predicted label, int64 (N,), and its confidence, float32 (N,)."""

    def __init__(self, confidence: nn.Module) -> None:
        super().__init__()
        self.confidence = confidence

    def forward(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the label and the confidence of every row of ``logits``."""
        return logits.argmax(dim=1), self.confidence(logits)


class GatedExit(nn.Module):
    """An exit with its gate: features -> logits (N, C), label (N,), confidence (N,)."""

    def __init__(self, exit_module: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.exit = exit_module
        self.gate = gate

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what the exit predicts from ``features`` and how sure it is."""
        logits = self.exit(features)
        label, confidence = self.gate(logits)
        return logits, label, confidence
