"""What is trained, and what looks after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase

from aebnas.backbones.modes import ByMode
from aebnas.training.inference import Forward


@dataclass(frozen=True)
class Trainee:
    """What is trained.

    Args:
        module: Holds everything that ``forward`` uses; its state is kept and restored.
        forward: Images (or features) to the logits of every exit that is trained.
        moving: The modules whose weights and batch-norm statistics move; all others stay as they are.
        still: Those of them whose weights move, but whose batch-norm statistics stay.
        fresh: What begins at its initialisation, or far from where it is to go: its batch-norm statistics follow, see
            :func:`~aebnas.training.batch_norm.statistics_that_follow`.
        judged: To the logits that accuracies are those of, where they are more than ``forward`` gives.
        previous: Logits of the exit before for every sample of the training and of the validation split, which
            ``forward`` takes beside the features.
    """

    module: nn.Module
    forward: Forward
    moving: tuple[nn.Module, ...]
    still: tuple[nn.Module, ...] = ()
    fresh: tuple[nn.Module, ...] = ()
    judged: Forward | None = None
    previous: tuple[Tensor, Tensor] | None = None

    def start(self) -> list[nn.Parameter]:
        """Freeze everything but the moving modules; return the parameters to optimise."""
        self.module.requires_grad_(False)
        for part in self.moving:
            part.requires_grad_(True)
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def train(self) -> None:
        """Set the moving modules to training mode and freeze the batch-norm statistics of the others."""
        self.module.eval()
        for part in self.moving:
            part.train()
        for part in self.still:
            for layer in part.modules():
                if isinstance(layer, _NormBase) or (isinstance(layer, ByMode) and layer.function is F.batch_norm):
                    layer.eval()


class Guard:
    """What looks after every step of a training; this one does nothing."""

    def penalty(self, images: Tensor, logits: Sequence[Tensor]) -> Tensor | None:
        """Return what is added to the loss of a batch, a scalar, from its images and the logits of the exits."""
        return None

    def project(self) -> None:
        """Put weights back in their place after a step of the optimiser."""
