"""Accuracy, exit shares and latency of an exported network, measured on a device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aebnas.devices.device import Device
from aebnas.errors import InputError
from aebnas.exits.accuracy import accuracy_of
from aebnas.exits.by_class import ClassFigures, by_class
from aebnas.export.images import as_batch
from aebnas.export.implied import implied_profile
from aebnas.export.manifest import BACKBONE, PIXEL_FILE, SINGLE_FILE, Manifest, read_manifest, read_model
from aebnas.export.session import EarlyExitSession

# Inputs are sent to the measuring process in pieces of about this size.
_PIECE_BYTES = 64 << 20
_BURST = 16


@dataclass(frozen=True)
class Latency:
    """Milliseconds per sample, batch 1."""

    mean: float
    p50: float
    p95: float


@dataclass(frozen=True)
class EvaluationResult:
    """What ``aebnas evaluate`` reports; accuracies and shares are fractions, ``speedup`` is the ratio of the means.

    ``predicted_ms`` is what the search predicted for the mean latency on prepared images, None where it did not.
    Balanced accuracies are means over the classes that have samples here; ``classes`` are the figures of every class.
    ``pixels`` tells whether both networks were given raw pixels, so that preparing them is part of their latencies.
    """

    samples: int
    accuracy: float
    exit_shares: tuple[float, ...]
    latency_ms: Latency
    backbone_accuracy: float
    backbone_latency_ms: Latency
    speedup: float
    predicted_ms: float | None = None
    balanced_accuracy: float | None = None
    backbone_balanced_accuracy: float | None = None
    classes: tuple[ClassFigures, ...] = ()
    pixels: bool = False

    def to_json(self, *, per_class: bool = False) -> dict[str, Any]:
        """Return the result as plain values; those of every class, ``per_class``, only where they are asked for."""
        values = {**asdict(self), "exit_shares": list(self.exit_shares)}
        del values["classes"]
        return values | ({"per_class": [one.to_json() for one in self.classes]} if per_class else {})


def evaluate_export(
    folder: str | Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    device: Device | None = None,
    provider: str | None = None,
    limit: int | None = None,
    repeats: int = 3,
    pixels: bool = False,
) -> EvaluationResult:
    """Run the exported network in ``folder`` and its static backbone on ``images``, one sample at a time.

    The two take turns, in a process of their own, each on some samples in a row: as a stream of images finds the
    caches, and so that a slow moment of the machine falls on both. Of a few runs of every sample the median counts.
    Profiling is off; preprocessing is not timed, and neither is picking the backbone's label from its logits. Samples
    come in one fixed random order, so that the first few hold all classes even where the data are sorted by class.

    Args:
        folder: What ``aebnas export`` wrote.
        images: (N, C, H, W), uint8 (raw) or float32 (preprocessed).
        labels: Integers (N,).
        device: Where they run; this machine with the manifest's provider and threads when None.
        provider: An onnxruntime execution provider instead of the manifest's, on this machine.
        limit: Only so many samples, drawn over all of them and the same in every call.
        repeats: Runs of every sample.
        pixels: Run the file that takes raw pixels, ``model_uint8.onnx``, and the backbone with the same preprocessing
            before it, so that preparing images is timed in both.

    Raises:
        InputError: images or labels have the wrong dtype or shape, there are none, the limit is below 1, or pixels are
            wanted of images that are none, or of a network that cannot take them.
        RunError: a file of the export is missing or damaged.
        MeasurementError: the device cannot be reached, or cannot run the network.
    """
    manifest = read_manifest(Path(folder))
    session = EarlyExitSession(folder, provider="CPUExecutionProvider")
    images, labels = np.asarray(images), np.asarray(labels)
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels are {labels.dtype} {labels.shape}: give one integer for each of {len(images)} images")
    if not len(images):
        raise InputError("there are no images to evaluate: give at least one")
    if not 0 <= labels.min() <= labels.max() < len(manifest.classes):
        raise InputError(
            f"labels lie between {labels.min()} and {labels.max()}, but the network tells classes 0 to "
            f"{len(manifest.classes) - 1}: give its own class numbers"
        )
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, not {limit}")
    order = np.random.default_rng(0).permutation(len(images))[:limit]
    images, labels = images[order], labels[order]
    models = _pixel_models(Path(folder), manifest, images) if pixels else _models(Path(folder), manifest)
    with contextlib.nullcontext(device) if device else Device(implied_profile(manifest, provider)) as runs:
        parts = [_run(runs, models, piece, repeats) for piece in _pieces(session, images, pixels=pixels)]
    times_ms, predicted, exits, static = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
    means_ms, costs = times_ms.mean(axis=1), manifest.values.get("costs")
    right, static_right = predicted == labels, static == labels
    return EvaluationResult(
        samples=len(order),
        accuracy=float(right.mean()),
        exit_shares=tuple(float((exits == number).mean()) for number in range(session.num_exits)),
        latency_ms=_latency(times_ms[0]),
        backbone_accuracy=float(static_right.mean()),
        backbone_latency_ms=_latency(times_ms[1]),
        speedup=float(means_ms[1] / means_ms[0]),
        predicted_ms=costs.get("latency_ms_mean") if isinstance(costs, dict) else None,
        balanced_accuracy=accuracy_of(right, labels, "balanced"),
        backbone_balanced_accuracy=accuracy_of(static_right, labels, "balanced"),
        classes=by_class(
            manifest.classes,
            labels,
            right,
            exits,
            session.num_exits,
            latency_ms=times_ms[0],
            backbone_right=static_right,
        ),
        pixels=pixels,
    )


def _models(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    return {name: read_model(folder, name, manifest) for name in (SINGLE_FILE, BACKBONE)}


def _pixel_models(folder: Path, manifest: Manifest, images: np.ndarray) -> dict[str, bytes]:
    """Return both networks as they take raw pixels; the exiting one is called as the other file is."""
    import onnx

    from aebnas.export.graphs import with_batch_of_one
    from aebnas.export.pixels import with_pixels

    if PIXEL_FILE not in manifest.files:
        reason = manifest.values.get("pixels", {}).get("left_out", "it is of an earlier version: export it again")
        raise InputError(f"{folder} has no {PIXEL_FILE} ({reason}): leave out --uint8")
    if images.dtype != np.uint8:
        raise InputError(f"{PIXEL_FILE} takes raw pixels, and these images are {images.dtype}: leave out --uint8")
    backbone = with_batch_of_one(onnx.load_from_string(read_model(folder, BACKBONE, manifest)))
    prepared = with_pixels(backbone, manifest.values["preprocessing"], manifest.input_shape)
    return {SINGLE_FILE: read_model(folder, PIXEL_FILE, manifest), BACKBONE: prepared.SerializeToString()}


def _pieces(session: EarlyExitSession, images: np.ndarray, *, pixels: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pieces of the images as the network's input, and what the static backbone says of each."""
    count = max(_BURST, _PIECE_BYTES // max(1, 4 * int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), count):
        piece = images[start : start + count]
        inputs = session.prepare(piece)
        said = session.backbone(inputs)
        yield (as_batch(piece, session.manifest["input_shape"]).transpose(0, 2, 3, 1) if pixels else inputs), said


def _run(
    device: Device, models: dict[str, bytes], piece: tuple[np.ndarray, np.ndarray], repeats: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return times in ms (2, n), and the labels, exits and static labels (n,) of one piece."""
    inputs, static = piece
    ran = device.run(models, inputs, outputs={SINGLE_FILE: ["label", "exit"]}, repeats=repeats, burst=_BURST)
    outputs = ran[SINGLE_FILE].outputs
    times_ms = np.stack([ran[SINGLE_FILE].latency_ms, ran[BACKBONE].latency_ms])
    return times_ms, outputs["label"].reshape(-1), outputs["exit"].reshape(-1), static


def _latency(times_ms: np.ndarray) -> Latency:
    median, high = np.quantile(times_ms, [0.5, 0.95])
    return Latency(mean=float(times_ms.mean()), p50=float(median), p95=float(high))
