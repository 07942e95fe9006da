"""From a data set's name, or a pair of torch Datasets, to the three splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

# Imported for their effect: each registers its data set.
from aebnas.data import digits, fashion_mnist, folder, npz  # noqa: F401
from aebnas.data.augment import Augment
from aebnas.data.datasets import DATASETS, LabelledImages
from aebnas.data.partition import Indices, hold_out, require_samples, split_generator
from aebnas.data.preprocessing import Preprocessing, identity, image_moments, standardise
from aebnas.data.scan import Scan, require_alike, scan_dataset
from aebnas.data.settings import AugmentSettings, DataSettings
from aebnas.data.splits import DataBundle, DatasetSplit, TensorSplit
from aebnas.errors import DataError
from aebnas.files import canonical_json, digest
from aebnas.inputs import ModelInput

__all__ = ["DATASETS", "bundle_from_datasets", "load_data"]


def load_data(
    settings: DataSettings, *, seed: int, data_dir: Path | None = None, wanted: ModelInput | None = None
) -> DataBundle:
    """Load a data set of the registry ``DATASETS`` and split it.

    The test split is the data set's own test part, or ``settings.test`` of everything where it has none; the
    validation split is ``settings.validation`` of what is left. Both are drawn class by class.

    Args:
        settings: Which data set, and the fractions.
        seed: Determines which samples are held out.
        data_dir: Where fashion-mnist is looked for before ``settings.data_dir``.
        wanted: How the backbone wants images prepared; None: it does not say.

    Raises:
        DataError: the name is unknown, a file is missing or damaged, an array is wrong, or a class has too few samples.
        MissingExtraError: images of a folder need Pillow.
    """
    raw = DATASETS[settings.name](settings, data_dir)
    generator = split_generator(seed)
    held_parts = ["validation"] if raw.test else ["validation", "test"]
    require_samples(raw.train.labels, raw.classes, ["train", *held_parts], raw.train.source)
    rest, test, own_test = np.arange(len(raw.train.labels)), raw.test, np.empty(0, dtype=np.int64)
    if test is None:
        rest, own_test = hold_out(raw.train.labels, settings.test, generator, leave=2)
        test = _pick(raw.train, own_test)
    kept, held = hold_out(raw.train.labels[rest], settings.validation, generator)
    train, validation = _pick(raw.train, rest[kept]), _pick(raw.train, rest[held])
    preprocessing = standardise(image_moments(train.images), raw.scale)
    return DataBundle(
        name=settings.name,
        train=_tensor_split(train, preprocessing, _augment(settings.augment, train.images.shape)),
        validation=_tensor_split(validation, preprocessing),
        test=_tensor_split(test, preprocessing),
        classes=raw.classes,
        input_shape=tuple(train.images.shape[1:]),
        preprocessing=preprocessing,
        fingerprint=_fingerprint(
            [_array_digest(part) for part in (train, validation, test)],
            [rest[kept], rest[held], own_test],
            raw.classes,
            preprocessing,
            settings.augment,
        ),
    )


def bundle_from_datasets(
    train: Dataset[Any],
    test: Dataset[Any],
    *,
    validation: Dataset[Any] | float = 0.2,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    name: str = "custom",
    augment: AugmentSettings | None = None,
) -> DataBundle:
    """Make the splits from map-style torch Datasets of (image tensor (C, H, W), label) pairs.

    Every item is read once here, to check it and to take its label. Float images are used as they are, as the
    Dataset's transforms have prepared them for the model; uint8 images are scaled by 1/255 and standardised with the
    mean and deviation of the train split.

    Args:
        train: What to train on.
        test: The samples that are scored once, at the end.
        validation: A Dataset, or the fraction of ``train`` to hold out class by class, in (0, 0.5]; held-out samples
            keep the transforms of ``train``, so give a Dataset where those augment at random.
        classes: Class names; by default the numbers of the labels that ``train`` has.
        seed: Determines which samples are held out.
        name: What the data set is called in reports.
        augment: How images of the train split are altered, where the Dataset's own transforms do not.

    Raises:
        DataError: images differ in shape or are neither uint8 nor float, a label is out of range, a class has too few
            samples, or ``validation`` is no such fraction.
    """
    generator = split_generator(seed)
    train_scan = scan_dataset(train, "the train Dataset", num_classes=len(classes) if classes else None)
    names = tuple(classes) if classes else tuple(str(number) for number in range(int(train_scan.labels.max()) + 1))
    test_scan = _scan_like(train_scan, test, "the test Dataset", len(names))
    train_indices, held = np.arange(len(train_scan.labels)), np.arange(0)
    validation_data, validation_scan = train, train_scan
    if isinstance(validation, (int, float)):
        if not 0 < validation <= 0.5:
            raise DataError(f"validation must be a Dataset or a fraction above 0 and up to 0.5 (got {validation})")
        require_samples(train_scan.labels, names, ["train", "validation"], train_scan.source)
        train_indices, held = hold_out(train_scan.labels, validation, generator)
    else:
        require_samples(train_scan.labels, names, ["train"], train_scan.source)
        validation_data = validation
        validation_scan = _scan_like(train_scan, validation, "the validation Dataset", len(names))
        held = np.arange(len(validation_scan.labels))
    preprocessing = identity(train_scan.shape[0])
    if not train_scan.is_float:
        preprocessing = standardise(train_scan.moments[train_indices], 1 / 255)
    scans = (train_scan, validation_scan, test_scan)
    alters = augment or AugmentSettings()
    parts = [digest(str(scan.shape), scan.digest, scan.labels.tobytes()) for scan in scans]
    return DataBundle(
        name=name,
        train=_dataset_split(
            train, train_scan, train_indices, preprocessing, _augment(alters, (len(train_indices), *train_scan.shape))
        ),
        validation=_dataset_split(validation_data, validation_scan, held, preprocessing),
        test=_dataset_split(test, test_scan, np.arange(len(test_scan.labels)), preprocessing),
        classes=names,
        input_shape=train_scan.shape,
        preprocessing=preprocessing,
        fingerprint=_fingerprint(parts, [train_indices, held], names, preprocessing, alters),
    )


def _pick(part: LabelledImages, indices: Indices) -> LabelledImages:
    return LabelledImages(part.images[indices], part.labels[indices], part.source)


def _augment(settings: AugmentSettings, shape: tuple[int, ...]) -> Augment | None:
    """Return what alters the images of a split of ``shape`` (N, C, H, W), if anything does."""
    if settings.shift >= min(shape[2:]):
        raise DataError(
            f"data.augment.shift must be below {min(shape[2:])}, the side of an image (got {settings.shift})"
        )
    return Augment(settings, shape[0]) if settings.on else None


def _tensor_split(part: LabelledImages, preprocessing: Preprocessing, augment: Augment | None = None) -> TensorSplit:
    # Arrays over a file's bytes are read-only, which torch refuses; require copies only those.
    images = np.require(part.images, requirements=["C", "W"])
    return TensorSplit(torch.from_numpy(images), torch.from_numpy(part.labels), preprocessing, augment)


def _dataset_split(
    dataset: Dataset[Any],
    scan: Scan,
    indices: Indices,
    preprocessing: Preprocessing,
    augment: Augment | None = None,
) -> DatasetSplit:
    return DatasetSplit(dataset, torch.tensor(scan.labels[indices]), preprocessing, torch.tensor(indices), augment)


def _scan_like(train: Scan, dataset: Dataset[Any], source: str, num_classes: int) -> Scan:
    scan = scan_dataset(dataset, source, num_classes=num_classes)
    require_alike(train, scan)
    return scan


def _array_digest(part: LabelledImages) -> str:
    images: NDArray[Any] = np.ascontiguousarray(part.images)
    return digest(f"{images.shape} {images.dtype}", hashlib.sha256(images.data).digest(), part.labels.tobytes())


def _fingerprint(
    parts: list[str],
    indices: list[Indices],
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    augment: AugmentSettings,
) -> str:
    positions = [split.astype("<i8").tobytes() for split in indices]
    plain = digest(*parts, *positions, *classes, canonical_json(preprocessing.to_json()))
    return digest(plain, canonical_json(augment.model_dump())) if augment.on else plain
