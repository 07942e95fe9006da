from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from aebnas.exits.confidence import build_confidence
from aebnas.exits.policy import Policy
from aebnas.export.package import export_network

INPUT_SHAPE = (2, 8, 8)
CLASSES = ("a", "b", "c")
PREPROCESSING = {"scale": 1 / 255, "mean": [0.4, 0.5], "std": [0.2, 0.3]}


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _head(channels: int) -> nn.Module:
    return nn.Sequential(nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, len(CLASSES)))


@dataclass
class Toy:
    """A small convolutional network with exits, and the plain PyTorch answer to what it predicts."""

    segments: list[nn.Module]
    branches: list[nn.Module]
    policy: Policy

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, exits and confidences; every exit is computed for every sample, the policy picks one."""
        labels, scores = self._all_exits(images)
        exits = self.policy.leave_at(scores[:-1])
        rows = np.arange(len(images))
        return labels[exits, rows], exits, scores[exits, rows]

    def clear(self, images: np.ndarray) -> np.ndarray:
        """Which samples lie far enough from every threshold for the last bits not to matter."""
        _, scores = self._all_exits(images)
        thresholds = np.array(self.policy.thresholds).reshape(-1, 1)
        return (np.abs(scores[:-1] - thresholds) > 1e-5).all(axis=0)

    @torch.no_grad()
    def _all_exits(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for part in (*self.segments, *self.branches):
            part.eval()
        features, logits = torch.from_numpy(images), []
        for segment, branch in zip(self.segments, self.branches, strict=False):
            features = segment(features)
            # Toy branches begin with an in-place ReLU.
            logits.append(branch(features.clone()))
        logits.append(self.segments[-1](features))
        confidence = build_confidence(self.policy.confidence)
        return np.stack([each.argmax(1) for each in logits]), np.stack([confidence(each) for each in logits])

    def export(self, out: Path) -> Path:
        return export_network(
            out,
            segments=self.segments,
            branches=self.branches,
            policy=self.policy,
            input_shape=INPUT_SHAPE,
            classes=CLASSES,
            preprocessing=PREPROCESSING,
            costs={"macs_mean": 12.5},
            extra={"id": "toy"},
        )


def make_toy(branches: int, confidence: str = "max-probability") -> Toy:
    torch.manual_seed(branches)
    torch.set_num_threads(1)
    widths = [2, 6, 8, 10, 12]
    segments = [_conv(widths[k], widths[k + 1], 1 + k % 2) for k in range(branches)]
    segments.append(nn.Sequential(_conv(widths[branches], widths[branches + 1]), _head(widths[branches + 1])))
    heads = [nn.Sequential(nn.ReLU(inplace=True), _head(widths[k + 1])) for k in range(branches)]
    for part in (*segments, *heads):
        for layer in part.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight)
    toy = Toy(segments, heads, Policy(confidence, (2.0,) * branches))
    # Thresholds at quantiles of what reaches the exit, so that every exit takes some of the samples.
    images, thresholds = make_images(200), []
    for branch in range(branches):
        toy.policy = Policy(confidence, (*thresholds, *(2.0,) * (branches - branch)))
        _, exits, _ = toy.predict(images)
        toy.policy = Policy(confidence, (*thresholds, 0.0, *(2.0,) * (branches - branch - 1)))
        scores = toy.predict(images)[2][exits == branches]
        # Between two samples, for PyTorch and onnxruntime differ in the last bit.
        low, high = np.sort(scores)[int(0.6 * len(scores)) :][:2]
        thresholds.append(float((low + high) / 2))
    toy.policy = Policy(confidence, tuple(thresholds))
    return toy


def make_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *INPUT_SHAPE)).astype(np.float32)


@pytest.fixture(scope="session")
def toys() -> dict[int, Toy]:
    return {branches: make_toy(branches) for branches in range(4)}


@pytest.fixture(scope="session")
def exported(toys: dict[int, Toy], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    root = tmp_path_factory.mktemp("exported")
    return {branches: toy.export(root / str(branches)) for branches, toy in toys.items()}


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return make_images(300)


@pytest.fixture
def new_toy():
    return make_toy
