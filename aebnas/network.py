"""A backbone with exit branches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import Branch
from aebnas.branches.linked import Cascade, LinkedBranch, build_exit
from aebnas.branches.spec import BranchSpec
from aebnas.errors import BranchError, InputError
from aebnas.exits.bars import bars
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import Decider
from aebnas.exits.policy import Policy, behind_a_gap, check_classes
from aebnas.registry import unknown_name


class Prediction(NamedTuple):
    """What a network with a policy says of a batch: one value per sample, in input order."""

    labels: Tensor  # (N,) int64
    exits: Tensor  # (N,) int64, the branch the sample left at; len(branches) is the final exit
    confidence: Tensor  # (N,) float32, at the exit it left at


class EarlyExitNetwork(nn.Module):
    """Segments of a backbone and the branches that hang between them.

    Args:
        backbone: The cut backbone; its parameters are shared, not copied.
        specs: One per branch, at different attach points, in any order.
        cascade: What a branch hears of the exit before it.

    Raises:
        BranchError: an attach point is unknown or used twice, or a branch does not fit there.
    """

    def __init__(self, backbone: SegmentedBackbone, specs: Sequence[BranchSpec], cascade: Cascade = "none") -> None:
        super().__init__()
        names = [point.name for point in backbone.attach_points]
        for spec in specs:
            if spec.attach not in names:
                raise BranchError(unknown_name("attach point", spec.attach, names))
        ordered = sorted(specs, key=lambda spec: names.index(spec.attach))
        self.points = tuple(names.index(spec.attach) for spec in ordered)
        if len(set(self.points)) != len(self.points):
            raise BranchError("two branches of one network hang at the same attach point: give each its own")
        self.backbone = backbone
        self.cascade = cascade
        self.branches = nn.ModuleList(
            build_exit(
                spec, backbone.attach_points[point].shape, backbone.num_classes, cascade, first=point == self.points[0]
            )
            for spec, point in zip(ordered, self.points, strict=True)
        )

    @property
    def specs(self) -> tuple[BranchSpec, ...]:
        """The branch specifications, in the order of their attach points."""
        return tuple(branch.spec for branch in self.branches if isinstance(branch, Branch | LinkedBranch))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the logits ``(N, classes)`` of every branch and, last, of the backbone."""
        features = self.backbone.features(images)
        return [*self.branch_logits([features[point] for point in self.points]), features[-1]]

    def branch_logits(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits ``(N, classes)`` of every branch from the tensors at their attach points."""
        said: list[Tensor] = []
        for branch, here in zip(self.branches, features, strict=True):
            said.append(branch(here, said[-1]) if isinstance(branch, LinkedBranch) else branch(here))
        return said

    def parts(self, mask: Sequence[bool] | None = None) -> tuple[list[nn.Module], list[nn.Module]]:
        """Return the segments and branches that run when only the branches in ``mask`` are on.

        Segment k leads to branch k; the one after the last branch ends in the backbone's logits.

        Raises:
            InputError: of a cascaded network, a branch is on that hears one which is off.
        """
        on = [i for i in range(len(self.points)) if mask is None or mask[i]]
        deaf = None if mask is None or self.cascade == "none" else behind_a_gap(mask)
        if deaf is not None:
            raise InputError(
                f"branch {deaf} of a cascaded network hears the branch before it, which is off: switch off only the "
                "last branches"
            )
        # Attach point p lies at the end of segment p.
        bounds = [0, *(self.points[i] + 1 for i in on), len(self.backbone.segments)]
        segments = [self.backbone.span(start, stop) for start, stop in itertools.pairwise(bounds)]
        return segments, [self.branches[i] for i in on]

    @torch.no_grad()
    def predict(self, images: Tensor, policy: Policy) -> Prediction:
        """Classify with real exiting: samples that leave are not computed any further.

        Args:
            images: ``(N, C, H, W)`` float32, preprocessed.
            policy: One threshold per branch; a branch whose threshold is None is not executed.

        Raises:
            InputError: the policy is that of a network with another number of branches or classes, or switches off a
                branch that the next one of a cascaded network hears.
        """
        if len(policy.thresholds) != len(self.branches):
            raise InputError(
                f"the policy has {len(policy.thresholds)} thresholds for {len(self.branches)} branches: "
                "give one per branch, None for those that are off"
            )
        check_classes(policy.thresholds, self.backbone.num_classes)
        decider = Decider(build_confidence(policy.confidence))
        segments, branches = self.parts([threshold is not None for threshold in policy.thresholds])
        on = [
            (i, torch.from_numpy(bars(threshold)))
            for i, threshold in enumerate(policy.thresholds)
            if threshold is not None
        ]
        labels = torch.empty(len(images), dtype=torch.int64, device=images.device)
        exits = torch.full_like(labels, len(self.branches))
        confidence = torch.empty(len(images), device=images.device)
        here, rows = images, torch.arange(len(images), device=images.device)
        logits = state = None
        for segment, branch, (number, bars_here) in zip(segments, branches, on, strict=False):
            here = segment(here)
            logits = branch(here, logits) if isinstance(branch, LinkedBranch) else branch(here)
            label, sure, *handed = decider(logits, state)
            wanted = bars_here.to(sure.device)
            leaves = sure >= (wanted[label] if wanted.ndim else wanted)
            left = rows[leaves]
            labels[left], exits[left], confidence[left] = label[leaves], number, sure[leaves]
            here, rows, logits = here[~leaves], rows[~leaves], logits[~leaves]
            state = handed[0][~leaves] if handed else None
            if not len(rows):
                return Prediction(labels, exits, confidence)
        labels[rows], confidence[rows], *_ = decider(segments[-1](here), state)
        return Prediction(labels, exits, confidence)
