"""What ``manifest.json`` says about an exported network; no torch in here, for it is read on the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aebnas.errors import InputError, RunError
from aebnas.exits.bars import Bar
from aebnas.exits.policy import check_classes, thresholds_from_json
from aebnas.files import digest, read_json

MANIFEST = "manifest.json"
SINGLE_FILE = "model.onnx"
PIXEL_FILE = "model_uint8.onnx"
BACKBONE = "backbone.onnx"
FORMAT = 1


def segment_file(number: int) -> str:
    """Return where segment ``number`` lies in the folder."""
    return f"staged/segment_{number}.onnx"


def branch_file(number: int) -> str:
    """Return where branch ``number`` lies in the folder."""
    return f"staged/branch_{number}.onnx"


@dataclass(frozen=True)
class Manifest:
    """The parts of ``manifest.json`` that running the network needs; ``values`` is all of it.

    A threshold is a number, or one per predicted class, None for one that never leaves there. ``scale``, ``mean`` and
    ``std`` turn raw images into model inputs, per channel: (raw * scale - mean) / std.
    """

    thresholds: tuple[Bar, ...]
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threads: int
    provider: str
    provider_options: dict[str, str | int | float | bool]
    files: dict[str, str]
    values: dict[str, Any]

    @property
    def num_exits(self) -> int:
        """Exits, the final one included."""
        return len(self.thresholds) + 1

    def preprocess(self, images: np.ndarray) -> np.ndarray:
        """Turn raw images (N, C, ...) of any dtype into the model's float32 input."""
        per_channel = (-1,) + (1,) * (len(self.input_shape) - 1)
        mean = np.asarray(self.mean, dtype=np.float32).reshape(per_channel)
        std = np.asarray(self.std, dtype=np.float32).reshape(per_channel)
        return ((images.astype(np.float32, order="C") * np.float32(self.scale) - mean) / std).astype(np.float32)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the exported network in ``folder``.

    Raises:
        RunError: it is missing, damaged or of another format; the message names it.
    """
    path = folder / MANIFEST
    values = read_json(path)
    try:
        if values["format"] != FORMAT:
            raise RunError(
                f"{path} has format {values['format']}, this aebnas reads {FORMAT}: export the network again"
            )
        preprocessing, classes = values["preprocessing"], tuple(str(name) for name in values["classes"])
        manifest = Manifest(
            thresholds=_thresholds(values["thresholds"], len(classes)),
            input_shape=tuple(int(size) for size in values["input_shape"]),
            classes=classes,
            scale=float(preprocessing["scale"]),
            mean=_floats(preprocessing["mean"]),
            std=_floats(preprocessing["std"]),
            threads=int(values["threads"]),
            # Manifests of before this key were all made for the CPU.
            provider=str(values.get("provider", "CPUExecutionProvider")),
            provider_options=dict(values.get("provider_options", {})),
            files={str(name): str(value) for name, value in values["files"].items()},
            values=values,
        )
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise RunError(f"{path} is damaged ({type(error).__name__}: {error}): export the network again") from error
    if any(len(values) not in (1, manifest.input_shape[0]) for values in (manifest.mean, manifest.std)):
        raise RunError(f"{path} is damaged (preprocessing does not fit input_shape): export the network again")
    return manifest


def read_model(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Read the model file ``name`` of the exported network in ``folder``.

    Raises:
        RunError: it is missing, unreadable or not the file that the manifest was written for; the message names it.
    """
    path = folder / name
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing: export the network again") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror or error}): export the network again") from error
    if digest(content) != manifest.files.get(name):
        raise RunError(f"{path} is damaged or belongs to another export: export the network again")
    return content


def _thresholds(value: Any, classes: int) -> tuple[Bar, ...]:
    thresholds = thresholds_from_json(value)
    check_classes(thresholds, classes)
    on = tuple(threshold for threshold in thresholds if threshold is not None)
    if len(on) < len(thresholds):
        raise ValueError("an exit has no threshold")
    return on


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
