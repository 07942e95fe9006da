"""From images on disk to the parts of a data set: looked at, brought to one form, in memory where they fit."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from aebnas.data.arrays import as_labels
from aebnas.data.datasets import PictureData, PicturePart, RawData, raw_data
from aebnas.data.decoding import ImageForm, form_of, import_pillow
from aebnas.data.index import Index, index_pictures, readable
from aebnas.data.parts import Contents, DecodedImages, LazyImages, Part, decode_all
from aebnas.data.pictures import PictureItems
from aebnas.data.reading import default_workers
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError
from aebnas.inputs import ModelInput
from aebnas.progress import Progress

logger = logging.getLogger(__name__)
_GIB = 1 << 30
# From so many images on, progress is shown.
_SHOWN = 2000


def resolve(data: PictureData, settings: DataSettings, *, wanted: ModelInput | None, progress: Progress) -> RawData:
    """Look at the images of ``data`` and return them in one form.

    They are decoded into memory where all of them take at most ``settings.ram_gib``, else whenever they are read.

    Raises:
        MissingExtraError: Pillow is not installed.
        DataError: images are damaged, or differ in size and nobody says what size to bring them to.
    """
    import_pillow()
    workers = default_workers() if settings.workers is None else settings.workers
    given = [part for part in (data.train, data.validation, data.test) if part is not None]
    skip = settings.corrupt == "skip"
    found = [index_pictures(part.pictures, whole=skip, workers=workers, progress=progress) for part in given]
    rows = readable([part.pictures for part in given], found, skip=skip)
    for part, at in zip(given, rows, strict=True):
        if not len(at):
            none = "no images that can be read" if len(part.pictures) else "no images"
            raise DataError(f"{part.pictures.source} holds {none}: add some")
    form = form_of(
        settings.image_size or _size(given, found, rows, wanted),
        grey=settings.grey,
        resize=settings.resize,
        wanted=wanted,
    )
    labels = [_labels(*each) for each in zip(given, found, rows, strict=True)]
    classes = data.classes or tuple(map(str, range(int(labels[0].max()) + 1)))
    for part, numbers in zip(given, labels, strict=True):
        if len(numbers):
            as_labels(numbers, part.pictures.source, images=len(numbers), num_classes=len(classes))
    assert form.size is not None
    total = sum(map(len, rows)) * form.channels * form.size[0] * form.size[1]
    in_memory = total <= settings.ram_gib * _GIB
    if not in_memory:
        logger.info("images take %.1f GiB: they are decoded whenever they are read", total / _GIB)
    parts = {
        id(part): _part(part, one, at, numbers, form, workers, settings, in_memory=in_memory, progress=progress)
        for part, one, at, numbers in zip(given, found, rows, labels, strict=True)
    }
    validation, test = (None if part is None else parts[id(part)] for part in (data.validation, data.test))
    return raw_data(parts[id(data.train)], test, classes, validation=validation)


def _size(
    parts: list[PicturePart], found: list[Index], rows: list[NDArray[np.int64]], wanted: ModelInput | None
) -> tuple[int, int]:
    """Return the size that all images have, else the one that the backbone wants."""
    first = found[0].sizes[rows[0][0]]
    for part, one, at in zip(parts, found, rows, strict=True):
        other = np.flatnonzero((one.sizes[at] != first).any(axis=1))
        if not len(other):
            continue
        if wanted is not None:
            return wanted.size
        name, size = part.pictures.name(int(at[other[0]])), one.sizes[at[other[0]]]
        raise DataError(
            f"{name} is {size[1]}x{size[0]} pixels but {parts[0].pictures.name(int(rows[0][0]))} is "
            f"{first[1]}x{first[0]}: set data.image_size to resize all images"
        )
    return int(first[0]), int(first[1])


def _labels(part: PicturePart, found: Index, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return (found.labels if part.labels is None else part.labels)[rows]


def _part(
    part: PicturePart,
    found: Index,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    form: ImageForm,
    workers: int,
    settings: DataSettings,
    *,
    in_memory: bool,
    progress: Progress,
) -> Part:
    items, source = PictureItems(part.pictures, rows, labels, form), part.pictures.source
    contents = Contents(found.digests[rows], form)
    if not in_memory:
        return LazyImages(items, labels, source, contents, workers)
    assert form.size is not None
    images = np.empty((len(rows), form.channels, *form.size), dtype=np.uint8)
    filled = 0
    shown = progress if len(rows) >= _SHOWN else Progress()
    with shown.stage(f"decoding the images of {source}", len(rows)) as stage:
        for piece in decode_all(items, np.arange(len(rows)), workers):
            images[filled : filled + len(piece)] = piece
            filled += len(piece)
            stage.advance(len(piece))
    return DecodedImages(images, labels, source, altering_workers(settings), contents=contents)


def altering_workers(settings: DataSettings) -> int:
    """Return how many processes alter images that are in memory: some where torchvision does it, which takes long."""
    if settings.workers is not None:
        return settings.workers
    return default_workers() if settings.augment.uses_library else 0
