"""Fashion-MNIST (arXiv 1708.07747): 70,000 grey images of clothing, 28x28 pixels, read from its four IDX files."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from aebnas.data.datasets import DATASETS, DECODING, LIBRARY, RawData, labelled_images, raw_data, refuse_options
from aebnas.data.idx import read_idx
from aebnas.data.parts import LabelledImages
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError

logger = logging.getLogger(__name__)

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
ENVIRONMENT_VARIABLE = "AEBNAS_DATA"
# Where Debian's package dataset-fashion-mnist puts the files.
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")


@DATASETS.add("fashion-mnist")
def load(settings: DataSettings) -> RawData:
    """Return the 60,000 training and 10,000 test images, uint8 (N, 1, 28, 28).

    The files, plain or .gz, are looked for in ``settings.data_dir``, the folder that the environment variable
    AEBNAS_DATA names (in each also in its sub-folder fashion-mnist), then where Debian's package puts them.

    Raises:
        DataError: a file is missing or damaged.
    """
    refuse_options(settings, "path", *DECODING, *LIBRARY)
    files = find_files(search_places(settings.data_dir))
    logger.info("reading fashion-mnist from %s", files[FILES[0]].parent)
    train, test = (_read_part(files[images], files[labels]) for images, labels in (FILES[:2], FILES[2:]))
    return raw_data(train, test, CLASSES)


def search_places(folder: Path | None) -> list[Path]:
    """Return where the files are looked for, in order: ``folder``, $AEBNAS_DATA, the system's folder."""
    variable = os.environ.get(ENVIRONMENT_VARIABLE)
    roots = [folder, Path(variable) if variable else None]
    places = [place for root in roots if root is not None for place in (root, root / "fashion-mnist")]
    return list(dict.fromkeys([*places, SYSTEM_FOLDER]))


def find_files(places: list[Path]) -> dict[str, Path]:
    """Return the path of each of ``FILES`` in the first of ``places`` that has any of them.

    Files of different places are never mixed, as they may not belong together.

    Raises:
        DataError: no place has any, or the first that has some lacks others; the message lists the places.
    """
    looked_in: list[Path] = []
    missing = list(FILES)
    for place in places:
        looked_in.append(place)
        found = {name: path for name in FILES if (path := _plain_or_compressed(place / name))}
        missing = [name for name in FILES if name not in found]
        if not missing:
            return found
        if found:
            break
    searched = ", then ".join(map(str, looked_in))
    raise DataError(
        f"fashion-mnist's {', '.join(missing)} (plain or .gz) not found, looked in {searched}: "
        "run apt-get install dataset-fashion-mnist, or name the folder that has all four files with --data-dir"
    )


def _plain_or_compressed(path: Path) -> Path | None:
    compressed = path.with_name(f"{path.name}.gz")
    return next((candidate for candidate in (compressed, path) if candidate.is_file()), None)


def _read_part(images: Path, labels: Path) -> LabelledImages:
    return labelled_images(
        read_idx(images, 3),
        read_idx(labels, 1),
        images_source=str(images),
        labels_source=str(labels),
        num_classes=len(CLASSES),
    )
