"""Small data sets on disk."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)

FASHION_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_bytes(array):
    return struct.pack(f">I{array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def write_idx():
    def write(path: Path, array: np.ndarray) -> Path:
        content = idx_bytes(array)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return write


@pytest.fixture
def write_fashion(write_idx):
    """Write the four files with 40 and 20 images of 4x5 pixels; returns the arrays."""

    def write(folder: Path, *, suffix: str = ".gz", seed: int = 0) -> list[np.ndarray]:
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(seed)
        arrays = []
        for count in (40, 20):
            arrays += [random.integers(0, 256, (count, 4, 5)), np.arange(count) % 10]
        for name, array in zip(FASHION_FILES, arrays, strict=True):
            write_idx(folder / f"{name}{suffix}", array)
        return arrays

    return write


@pytest.fixture
def arrays():
    """Return x_train, y_train, x_test, y_test of 3 classes: 30 and 12 grey images of 6x7 pixels."""
    random = np.random.default_rng(1)
    return {
        "x_train": random.integers(0, 256, (30, 6, 7), dtype=np.uint8),
        "y_train": np.arange(30) % 3,
        "x_test": random.integers(0, 256, (12, 6, 7), dtype=np.uint8),
        "y_test": np.arange(12) % 3,
    }


@pytest.fixture
def save_npz(tmp_path, arrays):
    """Save ``arrays`` with some replaced, or left out where given None; returns the path."""

    def save(**changes) -> Path:
        path = tmp_path / "data.npz"
        np.savez(path, **{name: value for name, value in {**arrays, **changes}.items() if value is not None})
        return path

    return save


@pytest.fixture
def save_images():
    """Save ``count`` PNGs of random colours per class name below ``root``."""

    def save(root: Path, counts: dict[str, int], *, size: tuple[int, int] = (5, 4), seed: int = 0) -> Path:
        image_module = pytest.importorskip("PIL.Image")
        random = np.random.default_rng(seed)
        for name, count in counts.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                image_module.fromarray(pixels).save(root / name / f"{number:03}.png")
        return root

    return save
