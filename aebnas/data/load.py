"""From a data set's name to the three splits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

# Imported for their effect: each registers its data set.
from aebnas.data import (  # noqa: F401
    csv_table,
    digits,
    fashion_mnist,
    folder,
    huggingface,
    npz,
    own_code,
    torchvision_sets,
)
from aebnas.data.bundling import altering, fingerprint_of, normalised
from aebnas.data.datasets import DATASETS, PictureData, RawData, TorchData
from aebnas.data.decoding import form_of
from aebnas.data.from_datasets import bundle_from_datasets, bundle_of
from aebnas.data.partition import hold_out, require_samples, split_generator
from aebnas.data.parts import DecodedImages, LabelledImages, Part, Rows
from aebnas.data.resolve import altering_workers, resolve
from aebnas.data.settings import DataSettings
from aebnas.data.splits import DataBundle
from aebnas.inputs import ModelInput
from aebnas.progress import Progress

__all__ = ["DATASETS", "bundle_from_datasets", "load_data"]


def load_data(
    settings: DataSettings,
    *,
    seed: int,
    wanted: ModelInput | None = None,
    progress: Progress | None = None,
) -> DataBundle:
    """Load a data set of the registry ``DATASETS`` and split it.

    The test split is the data set's own test part, or ``settings.test`` of everything where it has none; the
    validation split is its own validation part, or ``settings.validation`` of what is left. Both are drawn class by
    class.

    Args:
        settings: Which data set, and the fractions.
        seed: Determines which samples are held out.
        wanted: How the backbone wants images prepared; None: it does not say.
        progress: Shows how far the first look at many images is.

    Raises:
        DataError: the name is unknown, a file is missing or damaged, an array is wrong, or a class has too few samples.
        MissingExtraError: a library that the data set needs is not installed.
    """
    raw = DATASETS[settings.name](settings)
    if isinstance(raw, TorchData):
        form = form_of(settings.image_size, grey=settings.grey, resize=settings.resize, wanted=wanted)
        return bundle_of(raw, settings, seed=seed, form=form, wanted=wanted)
    if isinstance(raw, PictureData):
        raw = resolve(raw, settings, wanted=wanted, progress=progress or Progress())
    elif isinstance(raw.train, LabelledImages):
        raw = replace(raw, train=replace(raw.train, workers=altering_workers(settings)))
    return _bundle(raw, settings, seed, wanted)


def _bundle(raw: RawData, settings: DataSettings, seed: int, wanted: ModelInput | None) -> DataBundle:
    train, validation, test = _partition(raw, settings, seed)
    of_train = train[1]
    preprocessing = normalised(
        settings.normalise, raw.scale, lambda: raw.train.moments(of_train), channels=raw.train.shape[0], wanted=wanted
    )
    augment = altering(settings.augment, (len(of_train), *raw.train.shape), is_float=raw.train.dtype != np.uint8)
    # A part of the data set's own has no positions in another; earlier versions knew only a test part as such.
    own = [np.empty(0, dtype=np.int64) if part is not raw.train else rows for part, rows in (validation, test)]
    parts, earlier = (train, validation, test), _as_before(raw)
    return DataBundle(
        name=settings.name,
        train=raw.train.split(of_train, preprocessing, augment),
        validation=validation[0].split(validation[1], preprocessing, None),
        test=test[0].split(test[1], preprocessing, None),
        classes=raw.classes,
        input_shape=tuple(raw.train.shape),
        preprocessing=preprocessing,
        fingerprint=fingerprint_of(
            [part.fingerprint(rows) for part, rows in parts],
            [of_train, *own],
            raw.classes,
            preprocessing,
            settings.augment,
        ),
        wanted=wanted,
        drawn=_drawn(raw),
        before=None if earlier is None else partial(_bundle, earlier, settings, seed, wanted),
    )


def _as_before(raw: RawData) -> RawData | None:
    """Return ``raw`` as earlier versions had it, None where that is no other."""
    if not isinstance(raw.train, DecodedImages):
        return None
    train, validation, test = (
        part.as_before() if isinstance(part, DecodedImages) else part for part in (raw.train, raw.validation, raw.test)
    )
    assert train is not None
    return replace(raw, train=train, validation=validation, test=test)


def _partition(raw: RawData, settings: DataSettings, seed: int) -> list[tuple[Part, Rows]]:
    """Return train, validation and test as rows of a part of the data set."""
    generator = split_generator(seed)
    held = _drawn(raw)
    require_samples(raw.train.labels, raw.classes, ["train", *held], raw.train.source)
    rest, own_test = np.arange(len(raw.train)), None
    if raw.test is None:
        rest, own_test = hold_out(raw.train.labels, settings.test, generator, leave=len(held))
    own_validation = None
    if raw.validation is None:
        kept, taken = hold_out(raw.train.labels[rest], settings.validation, generator)
        rest, own_validation = rest[kept], rest[taken]
    return [(raw.train, rest), _own(raw, raw.validation, own_validation), _own(raw, raw.test, own_test)]


def _drawn(raw: RawData) -> tuple[str, ...]:
    """Return which of validation and test the data set has no part of its own for."""
    return tuple(name for name, part in (("validation", raw.validation), ("test", raw.test)) if part is None)


def _own(raw: RawData, part: Part | None, rows: Rows | None) -> tuple[Part, Rows]:
    if part is not None:
        return part, np.arange(len(part))
    assert rows is not None
    return raw.train, rows
