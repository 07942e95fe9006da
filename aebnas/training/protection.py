"""What keeps earlier exits as they are while later ones train (arXiv 2605.05358)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aebnas.data.splits import Split
from aebnas.exits.accuracy import AccuracyKind
from aebnas.exits.confidence import Confidence
from aebnas.network import EarlyExitNetwork
from aebnas.training.fisher import diagonal_fisher, draw_labels
from aebnas.training.fit import Guard, to_device
from aebnas.training.gradients import first_exits
from aebnas.training.losses import mean_distillation
from aebnas.training.settings import SequentialSettings

EWC_STRENGTH, LWF_STRENGTH = 1000.0, 1.0
# Tensors without any Fisher information, those behind dead activations say, could go anywhere.
LARGEST_REACH = 1.0


@dataclass(frozen=True)
class Scene:
    """What a phase begins with: the network in evaluation mode, the splits, and how exits and networks are judged."""

    network: EarlyExitNetwork
    train: Split
    validation: Split
    measure: Confidence
    device: torch.device
    seed: int
    accuracy: AccuracyKind = "plain"


class Protection(Guard):
    """Keeps what earlier exits have learnt; this one keeps nothing. The phases of one training share one."""

    def begin(self, scene: Scene, earlier: int) -> None:
        """Get ready for a phase behind ``earlier`` trained exits."""

    def remember(self, scene: Scene, exit_: int) -> None:
        """Note what exit ``exit_``, whose phase is over, depends on."""


class WithoutForgetting(Protection):
    """LwF: alpha * sum over earlier exits of T^2 * KL to what they said before this phase (arXiv 1606.09282).

    Its use on exits is our variant.
    """

    def __init__(self, strength: float, temperature: float) -> None:
        self._strength, self._temperature, self._earlier = strength, temperature, 0

    def begin(self, scene: Scene, earlier: int) -> None:
        self._earlier = earlier
        if earlier:
            snapshot = copy.deepcopy(scene.network).requires_grad_(False).eval()
            self._before = first_exits(snapshot, earlier)

    def penalty(self, images: Tensor, logits: Sequence[Tensor]) -> Tensor | None:
        if not self._earlier:
            return None
        with torch.no_grad():
            before = self._before(images)
        now = list(logits[: self._earlier])
        return self._strength * mean_distillation(now, before, self._temperature)


class _ByFisher(Protection):
    """Knows, for every exit that was trained, its Fisher information of the backbone's weights."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._weights: dict[str, nn.Parameter] = {}

    def remember(self, scene: Scene, exit_: int) -> None:
        network = scene.network
        self._weights = dict(network.backbone.named_parameters())
        order = torch.randperm(len(scene.train), generator=torch.Generator().manual_seed(scene.seed))
        (batch,) = scene.train.subset(order[: self._samples]).batches(self._samples)
        images, exits = to_device(batch.images, scene.device), first_exits(network, exit_ + 1)
        with torch.no_grad():
            labels = draw_labels(exits(images)[-1], scene.seed)
        for weight in self._weights.values():
            weight.requires_grad_(True)
        fisher = diagonal_fisher(lambda image: exits(image)[-1], self._weights, images, labels)
        network.requires_grad_(False)
        self.note(fisher, {name: self._weights[name].detach().clone() for name in fisher})

    def note(self, fisher: dict[str, Tensor], anchors: dict[str, Tensor]) -> None:
        """Keep the Fisher information of one exit, and the weights it was trained with."""


class ElasticWeights(_ByFisher):
    """EWC: lambda / 2 * sum over earlier exits j and weights p of F_jp * (theta_p - theta*_jp)^2 (arXiv 1612.00796).

    Its use on exits is our variant.
    """

    def __init__(self, strength: float, samples: int) -> None:
        super().__init__(samples)
        self._strength = strength
        self._kept: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []

    def note(self, fisher: dict[str, Tensor], anchors: dict[str, Tensor]) -> None:
        self._kept.append((fisher, anchors))

    def penalty(self, images: Tensor, logits: Sequence[Tensor]) -> Tensor | None:
        parts = [
            (information * (self._weights[name] - anchors[name]).square()).sum()
            for fisher, anchors in self._kept
            for name, information in fisher.items()
        ]
        return self._strength / 2 * torch.stack(parts).sum() if parts else None


class Boxes(_ByFisher):
    """Interval protection (arXiv 2206.07996): every weight stays in a box around where each earlier exit had it.

    The paper certifies its boxes by interval arithmetic. These are the cheap form, our variant: with c / sqrt(F) as
    half of a side, and c the ``radius`` over the number of weights, all weights at the border of their boxes change
    the exit's log-probabilities by about ``radius`` nats at the very most, to first order. A weight that the samples
    say less of than of the average one of its tensor moves no further than that one. Boxes of several exits are
    intersected.
    """

    def __init__(self, radius: float, samples: int) -> None:
        super().__init__(samples)
        self._radius = radius
        self.boxes: dict[str, tuple[Tensor, Tensor]] = {}

    def note(self, fisher: dict[str, Tensor], anchors: dict[str, Tensor]) -> None:
        each = self._radius / sum(information.numel() for information in fisher.values())
        for name, information in fisher.items():
            known = torch.maximum(information, information.mean())
            reach = (each / known.sqrt()).clamp(max=LARGEST_REACH)
            low, high = anchors[name] - reach, anchors[name] + reach
            if name in self.boxes:
                low, high = torch.maximum(low, self.boxes[name][0]), torch.minimum(high, self.boxes[name][1])
            self.boxes[name] = (low, high)

    @torch.no_grad()
    def project(self) -> None:
        for name, (low, high) in self.boxes.items():
            self._weights[name].clamp_(low, high)


def protection_of(settings: SequentialSettings) -> Protection:
    """Return the protection that ``settings`` name, which remembers nothing yet."""
    strength = settings.strength
    if settings.protection == "ewc":
        return ElasticWeights(EWC_STRENGTH if strength is None else strength, settings.fisher_samples)
    if settings.protection == "lwf":
        return WithoutForgetting(LWF_STRENGTH if strength is None else strength, settings.temperature)
    if settings.protection == "interval":
        return Boxes(settings.radius, settings.fisher_samples)
    # Neither needs anything kept: with `frozen` nothing that exits share moves at all.
    return Protection()
