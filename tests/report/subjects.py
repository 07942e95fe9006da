"""A network that was never trained: logits in which deeper exits are righter, and samples easier or harder."""

from __future__ import annotations

import numpy as np
import torch

from aebnas.diagnosing.subject import Said, Subject
from aebnas.exits.policy import Policy


def said(exits: int, seed: int, samples: int, classes: int) -> Said:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, classes, (samples,), generator=generator)
    shared, ease = torch.randn(samples, classes, generator=generator), torch.rand(samples, generator=generator)
    logits = []
    for exit_ in range(exits + 1):
        own = 0.7 * shared + 0.7 * torch.randn(samples, classes, generator=generator)
        own[torch.arange(samples), truth] += (1.5 + 2.5 * (exit_ + 1) / (exits + 1)) * (0.1 + 1.5 * ease)
        logits.append(1.8 * own)
    return Said(logits, truth)


def new_subject(
    exits: int = 2,
    *,
    thresholds: tuple[object, ...] | None = None,
    confidence: str = "max-probability",
    samples: int = 300,
    classes: int = 4,
    prefixes: bool = False,
    names: tuple[str, ...] | None = None,
) -> Subject:
    """Return a subject with ``exits`` branches on a backbone of millions of MACs."""
    segments, branches = 1e6 * np.linspace(2, 5, exits + 1), 1e6 * np.linspace(0.3, 0.2, exits)

    def exit_macs(mask: tuple[bool, ...]) -> np.ndarray:
        run = np.cumsum([macs if on else 0 for macs, on in zip(branches, mask, strict=True)] + [0])
        return (np.cumsum(segments) + run)[None]

    return Subject(
        kind="run",
        source="runs/mine",
        id="abcdef-3",
        branches=names or tuple(f"stages.{exit_}" for exit_ in range(exits)),
        policy=Policy(confidence, thresholds or tuple(np.linspace(0.9, 0.8, exits).tolist())),
        prefixes=prefixes,
        exit_macs=exit_macs,
        backbone_macs=float(segments.sum()),
        grid=8,
        splits={"validation": said(exits, 0, samples, classes), "test": said(exits, 1, samples - 50, classes)},
    )
