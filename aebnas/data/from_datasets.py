"""From torch Datasets to the three splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from aebnas.data.augment import Augment
from aebnas.data.bundling import altering, fingerprint_of, normalised
from aebnas.data.datasets import TorchData
from aebnas.data.decoding import ImageForm
from aebnas.data.partition import Indices, hold_out, require_samples, split_generator
from aebnas.data.preprocessing import Preprocessing, identity
from aebnas.data.scan import Scan, require_alike, scan_dataset
from aebnas.data.settings import AugmentSettings, DataSettings
from aebnas.data.splits import DataBundle, DatasetSplit
from aebnas.errors import DataError
from aebnas.files import digest
from aebnas.inputs import ModelInput


def bundle_from_datasets(
    train: Dataset[Any],
    test: Dataset[Any],
    *,
    validation: Dataset[Any] | float = 0.2,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    name: str = "custom",
    augment: AugmentSettings | None = None,
    workers: int = 0,
) -> DataBundle:
    """Make the splits from map-style torch Datasets of (image, label) pairs.

    Every item is read once here, to check it and to take its label. Float tensors (C, H, W) are used as they are, as
    the Dataset's transforms have prepared them for the model; uint8 tensors are scaled by 1/255 and standardised with
    the mean and deviation of the train split. Images of Pillow, all of one size, become uint8 tensors of three colours.

    Args:
        train: What to train on.
        test: The samples that are scored once, at the end.
        validation: A Dataset, or the fraction of ``train`` to hold out class by class, in (0, 0.5]; held-out samples
            keep the transforms of ``train``, so give a Dataset where those augment at random.
        classes: Class names; by default the numbers of the labels that ``train`` has.
        seed: Determines which samples are held out.
        name: What the data set is called in reports.
        augment: How images of the train split are altered, where the Dataset's own transforms do not.
        workers: Processes that read items; none by default.

    Raises:
        DataError: images differ in shape or are neither uint8 nor float, a label is out of range, a class has too few
            samples, or ``validation`` is no such fraction.
    """
    fraction, given = (validation, None) if isinstance(validation, (int, float)) else (0.2, validation)
    if not 0 < fraction <= 0.5:
        raise DataError(f"validation must be a Dataset or a fraction above 0 and up to 0.5 (got {fraction})")
    data = TorchData(train, given, test, tuple(classes) if classes else None)
    settings = DataSettings(
        name=name,
        validation=fraction,
        augment=augment or AugmentSettings(),
        workers=workers,
    )
    return bundle_of(data, settings, seed=seed, form=ImageForm(), wanted=None)


def bundle_of(
    data: TorchData, settings: DataSettings, *, seed: int, form: ImageForm, wanted: ModelInput | None
) -> DataBundle:
    """Make the splits of ``data``; images of Pillow are brought to ``form``.

    Raises:
        DataError: as :func:`bundle_from_datasets`.
    """
    generator = split_generator(seed)
    scan = scan_dataset(data.train, "the train Dataset", num_classes=len(data.classes or ()) or None, form=form)
    names = data.classes or tuple(str(number) for number in range(int(scan.labels.max()) + 1))
    of_test = _scan_like(scan, data.test, "the test Dataset", len(names), form)
    rows, held = np.arange(len(scan.labels)), np.arange(0)
    validation_data, of_validation = data.train, scan
    if data.validation is None:
        require_samples(scan.labels, names, ["train", "validation"], scan.source)
        rows, held = hold_out(scan.labels, settings.validation, generator)
    else:
        require_samples(scan.labels, names, ["train"], scan.source)
        validation_data = data.validation
        of_validation = _scan_like(scan, validation_data, "the validation Dataset", len(names), form)
        held = np.arange(len(of_validation.labels))
    preprocessing = _preprocessing(scan, rows, settings, wanted)
    augment = altering(settings.augment, (len(rows), *scan.shape), is_float=scan.is_float)
    everything = np.arange(len(of_test.labels))

    def split(dataset: Dataset[Any], found: Scan, indices: Indices, augment: Augment | None = None) -> DatasetSplit:
        labels, places = torch.tensor(found.labels[indices]), torch.tensor(indices)
        return DatasetSplit(dataset, labels, preprocessing, places, augment, workers=settings.workers or 0, form=form)

    parts = [digest(str(one.shape), one.digest, one.labels.tobytes()) for one in (scan, of_validation, of_test)]
    return DataBundle(
        name=settings.name,
        train=split(data.train, scan, rows, augment),
        validation=split(validation_data, of_validation, held),
        test=split(data.test, of_test, everything),
        classes=names,
        input_shape=scan.shape,
        preprocessing=preprocessing,
        fingerprint=fingerprint_of(parts, [rows, held], names, preprocessing, settings.augment),
        wanted=wanted,
    )


def _preprocessing(scan: Scan, rows: Indices, settings: DataSettings, wanted: ModelInput | None) -> Preprocessing:
    channels = scan.shape[0]
    if not scan.is_float:
        return normalised(settings.normalise, 1 / 255, lambda: scan.moments[rows], channels=channels, wanted=wanted)
    if settings.normalise == "backbone":
        raise DataError("float tensors are used as they are: set data.normalise to data, and normalise them yourself")
    return identity(channels)


def _scan_like(train: Scan, dataset: Dataset[Any], source: str, num_classes: int, form: ImageForm) -> Scan:
    scan = scan_dataset(dataset, source, num_classes=num_classes, form=form)
    require_alike(train, scan)
    return scan
