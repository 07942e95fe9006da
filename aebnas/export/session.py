"""Running an exported early-exit network; numpy and onnxruntime are all it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from aebnas.devices.target.session import RUNTIME_ERRORS, ProviderRefused, open_session
from aebnas.errors import InputError, ProfileError, RunError
from aebnas.exits.bars import Bar, leaves
from aebnas.export.images import as_batch
from aebnas.export.manifest import (
    BACKBONE,
    PIXEL_FILE,
    SINGLE_FILE,
    branch_file,
    read_manifest,
    read_model,
    segment_file,
)
from aebnas.export.ports import CONFIDENCE, EXIT, IMAGE, INPUT, LABEL, LOGITS, NEXT_STATE, PREVIOUS, STATE

Mode = Literal["auto", "single", "staged"]


@dataclass(frozen=True)
class Prediction:
    """For every image the predicted class int64 (N,), the exit it left at int64 (N,), the confidence float32 (N,).

    ``classes`` are the names of all classes, in the order of the labels.
    """

    labels: np.ndarray
    exits: np.ndarray
    confidence: np.ndarray
    classes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def names(self) -> list[str]:
        """The name of every predicted class, as the data have it; its number where classes have no names."""
        return [self.classes[label] if self.classes else str(label) for label in self.labels.tolist()]


@dataclass(frozen=True)
class _Said:
    """What one exit says of some images: logits (N, K), labels (N,), confidences (N,), and the state it hands on."""

    logits: np.ndarray
    label: np.ndarray
    confidence: np.ndarray
    state: np.ndarray | None

    def rows(self, kept: np.ndarray) -> _Said:
        """Return it for those images alone."""
        state = None if self.state is None else self.state[kept]
        return _Said(self.logits[kept], self.label[kept], self.confidence[kept], state)

    def leaving(self, threshold: Bar) -> np.ndarray:
        """Tell which images leave."""
        return leaves(self.confidence, self.label, threshold)


class EarlyExitSession:
    """An exported early-exit network, ready to predict.

    One image runs through the single file, which skips what lies behind the exit it takes; a batch runs stage by
    stage, and images that left are no longer computed.

    Example:
        >>> session = EarlyExitSession("out/")  # doctest: +SKIP
        >>> session.run(images).labels  # doctest: +SKIP

    Args:
        folder: What ``aebnas export`` wrote.
        threads: Threads inside one operator; the manifest's number when None.
        provider: An onnxruntime execution provider; the manifest's when None.
        batch_size: Images that are computed at once at most.

    Raises:
        RunError: a file is missing or damaged (model files are read when they are first needed).
        ProfileError: this onnxruntime does not have the provider.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        threads: int | None = None,
        provider: str | None = None,
        batch_size: int = 256,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}")
        self._folder = Path(folder)
        self._manifest = read_manifest(self._folder)
        self._threads = threads or self._manifest.threads
        self._provider = provider or self._manifest.provider
        # Options are one provider's own.
        own = self._provider == self._manifest.provider
        self._options = self._manifest.provider_options if own else {}
        if self._provider not in ort.get_available_providers():
            offered = ", ".join(ort.get_available_providers())
            raise ProfileError(f"this onnxruntime has no provider {self._provider!r}: choose one of {offered}")
        self._batch_size = batch_size
        self._sessions: dict[tuple[str, int | None], ort.InferenceSession] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self._manifest.classes

    @property
    def num_exits(self) -> int:
        """Exits, the final one included."""
        return self._manifest.num_exits

    @property
    def manifest(self) -> dict[str, Any]:
        """All that ``manifest.json`` holds."""
        return self._manifest.values

    def run(self, images: np.ndarray, mode: Mode = "auto") -> Prediction:
        """Predict ``images``.

        Args:
            images: float32 is taken as preprocessed: (N, C, H, W) or one image (C, H, W). uint8 is raw pixels, in these
                forms or with channels last: (N, H, W, C), (H, W, C), or (H, W) for a network of one channel; where both
                orders fit (C = H = W), channels come first.
            mode: ``single`` runs the exiting file image by image, ``staged`` runs the stages on batches, ``auto``
                takes ``single`` for one image and ``staged`` for more.

        Raises:
            InputError: the dtype or the shape is wrong, or there is no such mode.
            RunError: a model file is missing or damaged.
        """
        if mode not in ("auto", "single", "staged"):
            raise InputError(f"there is no mode {mode!r}: known are auto, single, staged")
        batch = as_batch(images, self._manifest.input_shape)
        single = mode == "single" or (mode == "auto" and len(batch) == 1)
        if single and batch.dtype == np.uint8 and self._takes_pixels:
            return _joined([self._run_pixels(image) for image in batch], self.classes)
        inputs, size = self.prepare(batch), 1 if single else self._batch_size
        parts = [inputs[start : start + size] for start in range(0, len(inputs), size)]
        found = [self.run_single(part) if single else self._run_staged(part) for part in parts]
        return _joined(found, self.classes)

    def run_single(self, prepared: np.ndarray) -> Prediction:
        """Predict one image, float32 (1, C, H, W) as ``prepare`` gives it, with the exiting file."""
        session = self._session(SINGLE_FILE)
        labels, exits, confidence = session.run([LABEL, EXIT, CONFIDENCE], {INPUT: prepared})
        return Prediction(labels, exits, confidence, self.classes)

    def all_exits(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what every exit says of every image, whether or not it would have left before.

        Args:
            images: As :meth:`run` takes them.

        Returns:
            Logits (E, N, K) float32, labels (E, N) int64 and confidences (E, N) float32, the final exit last.

        Raises:
            InputError: the dtype or the shape is wrong.
            RunError: a model file is missing or damaged.
        """
        inputs, size = self.prepare(images), self._batch_size
        # No image has no answers, of the same shape.
        parts = [inputs[start : start + size] for start in range(0, len(inputs), size)] or [inputs]
        exits: list[list[_Said]] = [[] for _ in range(self.num_exits)]
        for features in parts:
            said = None
            for number, found in enumerate(exits):
                features, said = self._exit(number, features, said)
                found.append(said)
        return (
            np.stack([np.concatenate([said.logits for said in found]) for found in exits]),
            np.stack([np.concatenate([said.label for said in found]) for found in exits]),
            np.stack([np.concatenate([said.confidence for said in found]) for found in exits]),
        )

    def backbone(self, images: np.ndarray) -> np.ndarray:
        """Return the labels, int64 (N,), that the static backbone gives ``images``.

        Raises:
            InputError: the dtype or the shape is wrong.
            RunError: ``backbone.onnx`` is missing or damaged.
        """
        inputs = self.prepare(images)
        parts = [inputs[start : start + self._batch_size] for start in range(0, len(inputs), self._batch_size)]
        labels = [self._session(BACKBONE).run([LOGITS], {INPUT: part})[0].argmax(axis=1) for part in parts]
        return np.concatenate([np.empty(0, np.int64), *labels])

    def backbone_single(self, prepared: np.ndarray) -> np.ndarray:
        """Return the static backbone's logits (1, K) of one prepared image, from a session made for single images."""
        logits: np.ndarray = self._session(BACKBONE, batch=1).run([LOGITS], {INPUT: prepared})[0]
        return logits

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Return ``images``, as :meth:`run` takes them, as the model's input, float32 (N, C, H, W).

        Raises:
            InputError: the dtype or the shape is wrong.
        """
        batch = as_batch(images, self._manifest.input_shape)
        return self._manifest.preprocess(batch) if batch.dtype == np.uint8 else batch

    @cached_property
    def _takes_pixels(self) -> bool:
        """Whether there is a file that prepares pixels itself; without it they are prepared here."""
        return PIXEL_FILE in self._manifest.files and (self._folder / PIXEL_FILE).exists()

    def _run_pixels(self, image: np.ndarray) -> Prediction:
        """Predict one image, uint8 (C, H, W)."""
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))[None]
        labels, exits, confidence = self._session(PIXEL_FILE).run([LABEL, EXIT, CONFIDENCE], {IMAGE: pixels})
        return Prediction(labels, exits, confidence, self.classes)

    def _run_staged(self, inputs: np.ndarray) -> Prediction:
        count = len(inputs)
        labels, exits = np.empty(count, np.int64), np.empty(count, np.int64)
        confidence = np.empty(count, np.float32)
        waiting, features, said = np.arange(count), inputs, None
        for number, threshold in enumerate((*self._manifest.thresholds, None)):
            features, said = self._exit(number, features, said)
            # The final exit takes the rest.
            go = np.ones(len(waiting), np.bool_) if threshold is None else said.leaving(threshold)
            left = waiting[go]
            labels[left], exits[left], confidence[left] = said.label[go], number, said.confidence[go]
            waiting, features, said = waiting[~go], features[~go], said.rows(~go)
            if not len(waiting):
                break
        return Prediction(labels, exits, confidence, self.classes)

    def _exit(self, number: int, features: np.ndarray, before: _Said | None) -> tuple[np.ndarray, _Said]:
        """Return the features at exit ``number`` (those it was given, of the final one) and what the exit says."""
        name = segment_file(number)
        if number < self.num_exits - 1:
            (features,) = self._session(name).run(None, {INPUT: features})
            name = branch_file(number)
        session, offered = self._session(name), {INPUT: features}
        if before is not None:
            offered |= {PREVIOUS: before.logits} | ({} if before.state is None else {STATE: before.state})
        given = {value.name: offered[value.name] for value in session.get_inputs()}
        names = [value.name for value in session.get_outputs()]
        said = dict(zip(names, session.run(names, given), strict=True))
        return features, _Said(said[LOGITS], said[LABEL], said[CONFIDENCE], said.get(NEXT_STATE))

    def _session(self, name: str, batch: int | None = None) -> ort.InferenceSession:
        key = (name, batch)
        if key not in self._sessions:
            model = read_model(self._folder, name, self._manifest)
            try:
                session = open_session(
                    model,
                    threads=self._threads,
                    provider=self._provider,
                    provider_options=self._options,
                    batch=batch,
                )
            except ProviderRefused as error:
                raise ProfileError(f"{error}: choose another provider") from error
            except RUNTIME_ERRORS as error:
                raise RunError(f"{self._folder / name} cannot be loaded ({error}): export the network again") from error
            self._sessions[key] = session
        return self._sessions[key]


def _joined(parts: list[Prediction], classes: tuple[str, ...]) -> Prediction:
    return Prediction(
        np.concatenate([np.empty(0, np.int64), *(part.labels for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.exits for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.confidence for part in parts)]),
        classes,
    )
