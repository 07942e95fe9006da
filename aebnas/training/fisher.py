"""How much an exit depends on every weight: the diagonal of its Fisher information."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Weights = Mapping[str, nn.Parameter]


def diagonal_fisher(
    logits_of: Callable[[Tensor], Tensor], weights: Weights, images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Return the mean over samples of the squared gradient of log p(label), by name and in the weights' shapes.

    Sample by sample, for a batch would square the sum. Weights that the logits do not depend on are left out.

    Args:
        logits_of: Images (N, ...) to logits (N, C), in evaluation mode.
        images: (N, ...).
        labels: (N,) int64, drawn from what the exit itself predicts: with those of the data, a network that has
            learnt them by heart would seem to depend on nothing.
    """
    total: dict[str, Tensor] = {}
    for image, label in zip(images, labels, strict=True):
        log_probability = logits_of(image[None]).log_softmax(1)[0, label]
        gradients = torch.autograd.grad(log_probability, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                total[name] = total.get(name, torch.zeros_like(gradient)) + gradient.square()
    return {name: summed / len(images) for name, summed in total.items()}


@torch.no_grad()
def draw_labels(logits: Tensor, seed: int) -> Tensor:
    """Return a label per sample, (N,) int64, drawn from the softmax of ``logits`` (N, C)."""
    probabilities = logits.float().softmax(1).cpu()
    drawn = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(seed))
    return drawn[:, 0].to(logits.device)
