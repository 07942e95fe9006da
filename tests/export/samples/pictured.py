"""Exports with pictures beside them, and what is to be said of each; programs that are run on them."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError
from aebnas.exits.policy import Policy
from aebnas.export.package import export_network
from aebnas.export.samples import TEMPLATES
from aebnas.export.session import EarlyExitSession, Prediction

NEAR = 1e-3  # of a threshold, or between the two best classes: there, the last digits of two runtimes may decide
COUNT = 12
LINE = re.compile(r"(?P<file>.*): (?P<name>.*), confidence (?P<sure>\d\.\d{4}), left at exit (?P<exit>\d) of 0 to 2")
# Names that a program has to decode.
NAMES = ("cat", "père", 'a "b"', "back\\slash", "日本", "😀", "two\twords", "], [", "€", "x")


# Sizes (H, W) of pictures and of what a network takes: smaller, larger, along one axis only, the same.
SIZES = [((40, 30), (7, 9)), ((5, 6), (16, 16)), ((20, 8), (8, 8)), ((9, 13), (8, 8)), ((8, 8), (8, 8))]
FORMS = [
    {"resize": resize, "interpolation": interpolation, "crop": crop}
    for resize, crop in [("stretch", 1.0), ("crop", 1.0), ("crop", 0.875), ("pad", 1.0)]
    for interpolation in ("nearest", "bilinear", "bicubic", "lanczos")
]


@dataclass
class Case:
    """An export with pictures beside it, and what is to be said of each."""

    folder: Path
    pictures: list[Path]
    expected: Prediction
    classes: tuple[str, ...]

    def check(self, lines: str) -> None:
        """Compare with what a sample printed."""
        found = [LINE.fullmatch(line) for line in lines.splitlines()]
        assert None not in found, lines
        assert [match["file"] for match in found] == list(map(str, self.pictures))
        assert [match["name"] for match in found] == [self.classes[label] for label in self.expected.labels]
        assert [int(match["exit"]) for match in found] == self.expected.exits.tolist()
        np.testing.assert_allclose([float(match["sure"]) for match in found], self.expected.confidence, atol=1e-3)


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())


def head(channels: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, len(NAMES)))


def export(folder: Path, raw: np.ndarray, white: int, classes: tuple[str, ...]) -> EarlyExitSession:
    """Export an untrained network with three exits, at each of which some of the ``raw`` images leave."""
    torch.manual_seed(0)
    shape = raw.shape[1:]
    segments = [conv(shape[0], 6), conv(6, 8), nn.Sequential(conv(8, 8), head(8))]
    branches = [head(6), head(8)]
    scaled = raw.astype(np.float32) * np.float32(1 / white)
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3))
    features, said = torch.from_numpy((scaled - mean[:, None, None]) / std[:, None, None]), []
    with torch.no_grad():
        for part, exit_ in zip(segments, [*branches, segments[-1][1]], strict=True):
            features = (part[0] if part is segments[-1] else part)(features)
            # Untrained logits hardly differ: these are centred and spread.
            logits = exit_(features)
            exit_[-1].weight *= 2 / logits.std(0).mean()
            exit_[-1].bias.copy_((exit_[-1].bias - logits.mean(0)) * 2 / logits.std(0).mean())
            said.append(exit_(features).softmax(1).max(1).values)
    thresholds = (float(said[0].quantile(0.6)), float(said[1].quantile(0.5)))
    export_network(
        folder,
        segments=segments,
        branches=branches,
        policy=Policy("max-probability", thresholds),
        input_shape=shape,
        classes=classes,
        preprocessing={"scale": 1 / white, "mean": mean.tolist(), "std": std.tolist()},
        costs={},
        extra={"branches": [{"attach": "block.0"}, {"attach": "block.1"}]},
    )
    return EarlyExitSession(folder)


def clear(session: EarlyExitSession, raw: np.ndarray) -> np.ndarray:
    """Which images lie far enough from every threshold, and their labels from being others."""
    logits, _, sure = session.all_exits(raw)
    best = np.sort(logits, axis=2)[..., -2:]
    bars = np.array(session.manifest["thresholds"])[:, None]
    return (np.abs(sure[:-1] - bars) > NEAR).all(0) & (best[..., 1] - best[..., 0] > NEAR).all(0)


def pixels_of(name: str) -> tuple[np.ndarray, int]:
    """Return images, uint8 (N, C, H, W), and the value that counts as 1."""
    if name == "colour":
        random = np.random.default_rng(0)
        coarse = random.integers(0, 256, (400, 3, 4, 5))
        return np.repeat(np.repeat(coarse, 3, axis=2), 4, axis=3).astype(np.uint8), 255
    try:
        data = load_data(DataSettings(name=name), seed=0)
    except DataError as error:
        pytest.skip(str(error))  # fashion-mnist does not come with the package; digits always do
    return data.test.raw(1000).numpy(), round(1 / data.preprocessing.scale)


def save(image: np.ndarray, white: int, path: Path) -> None:
    stretched = np.rint(image.astype(np.float64) * 255 / white).astype(np.uint8)
    Image.fromarray(stretched[0] if len(stretched) == 1 else stretched.transpose(1, 2, 0)).save(path)


def run(*words: object, **options) -> str:
    """Run a program; return what it printed."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def classify(case: Case, *pictures: object) -> str:
    return run(sys.executable, case.folder / "samples" / "python" / "classify.py", *pictures)


@functools.cache
def sample() -> ModuleType:
    """The Python sample, as a module."""
    spec = importlib.util.spec_from_file_location("classify", TEMPLATES / "python" / "classify.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
