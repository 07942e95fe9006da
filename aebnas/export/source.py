"""The test images that an exported network is evaluated on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aebnas.data.datasets import DECODING
from aebnas.data.load import DATASETS, load_data
from aebnas.data.placing import placed
from aebnas.data.settings import DataSettings
from aebnas.data.splits import DataBundle, ImageSplit
from aebnas.errors import DataError
from aebnas.export.manifest import Manifest
from aebnas.inputs import ModelInput
from aebnas.settings import parse_settings


def test_images(
    manifest: Manifest,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return the images ``(N, C, H, W)`` and labels ``(N,)`` to score: those of the test split.

    Images are raw uint8, which take a quarter of the memory, or, where they are stored as floats, float32 preprocessed
    as the manifest says. They are brought to the size that the network takes.

    Of other data than the network's own, too, only the test part is scored. Where they have neither a test nor a
    validation part (a folder of class folders), all are: train, validation and test as a search would draw them, one
    after the other. Where they have a validation part alone, it is the fifth that a search would hold out of the rest.
    Their classes are matched with the network's by name; the labels of an .npz file, which has no names, are taken as
    the network's own class numbers.

    Args:
        data: A data set's name, an .npz or CSV file or an image folder; what the network was searched on by default,
            with the same split, so that no training image is among them.
        data_dir: Where a named data set is looked for first, or the network's own where its files were moved.
        say: Told in a line which images are scored of data without a test part.

    Raises:
        DataError: the data are missing, have images of another shape, or a class that the network does not know.
    """
    extra = manifest.values.get("extra", {})
    known = extra.get("data") or {"name": "custom"}
    chosen = _chosen(data, known, manifest.input_shape)
    settings = parse_settings(DataSettings, chosen, source="--data", error=DataError)
    if settings.name not in DATASETS:
        if data is not None:
            known_names = f"{', '.join(DATASETS)}, an .npz or CSV file or a folder of images"
            raise DataError(f"--data {data!r} is no data set and no file: give one of {known_names}")
        raise DataError("this network was searched on data from Python: name its data set or file with --data")
    wanted = wanted_by(manifest)
    if data_dir is not None and data not in (None, known["name"]) and settings.path is not None:
        # What --data names is taken from there; of a table, images may be elsewhere.
        if settings.name != "csv":
            raise DataError(f"--data {data} says where its files are: leave out --data-dir")
        settings = settings.model_copy(update={"data_dir": data_dir.expanduser().absolute()})
    else:
        settings = placed(settings, data_dir)
    bundle = load_data(settings, seed=int(extra.get("seed", 0)), wanted=wanted)
    if bundle.input_shape != manifest.input_shape:
        raise DataError(
            f"--data has images of shape {bundle.input_shape}, the network takes {manifest.input_shape}: "
            "choose other data"
        )
    numbers = _class_numbers(settings.name, bundle.classes, manifest.classes)
    parts = [bundle.test] if chosen is known else _scored(bundle, say)
    images = parts[0].raw().numpy() if len(parts) == 1 else np.concatenate([part.raw().numpy() for part in parts])
    labels = numbers[np.concatenate([part.labels.numpy() for part in parts])]
    return images if images.dtype == np.uint8 else manifest.preprocess(images), labels


def _scored(bundle: DataBundle, say: Callable[[str], None]) -> list[ImageSplit]:
    """Return the splits of other data than the network's own that are scored, and say it where they give no test part.

    Nothing of them was trained on, so where no split is given for them none has to be left out.
    """
    if "test" not in bundle.drawn:
        return [bundle.test]
    parts: list[ImageSplit] = [bundle.train, bundle.validation, bundle.test]
    count = sum(map(len, parts))
    if "validation" in bundle.drawn:
        say(
            f"--data gives no split: all its {count:,} images are scored; if the network was trained on some of them, "
            "leave out --data (--data-dir says where its own were moved to)"
        )
        return parts
    say(
        f"--data gives no test part: {len(bundle.test):,} of its {count:,} images are scored, drawn from the train part"
    )
    return [bundle.test]


def wanted_by(manifest: Manifest) -> ModelInput | None:
    """Return what the images of an exported network were prepared for, where its backbone said so."""
    wanted = manifest.values.get("extra", {}).get("wanted")
    if wanted is None:
        return None
    lists: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in wanted.items()}
    return ModelInput(**lists)


def _class_numbers(name: str, classes: Sequence[str], known: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the network's number of each of the ``classes`` of the data set ``name``."""
    if tuple(classes) == tuple(known):
        return np.arange(len(classes))  # also where several have one name
    if name == "npz":
        if len(classes) > len(known):
            raise DataError(f"--data has {len(classes)} classes, the network knows {len(known)}: choose other data")
        return np.arange(len(classes))
    for label in classes:
        if label not in known:
            raise DataError(
                f"--data has a class {label!r} that the network does not know: rename or remove it, manifest.json "
                "lists the known ones"
            )
    return np.array([known.index(label) for label in classes], dtype=np.int64)


def _columns(path: Path, known: dict[str, Any]) -> dict[str, str]:
    """Return the columns of the table that the network was searched on, those that the one at ``path`` has too."""
    chosen = known.get("columns") if known["name"] == "csv" else None
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
    except (OSError, UnicodeDecodeError):
        return {}  # whoever reads the table says so
    names = {name.strip().strip('"') for name in re.split("[,;\t]", header)}
    return {key: name for key, name in (chosen or {}).items() if name in names}


def _chosen(data: str | None, known: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    if data is None or data == known["name"]:
        return known
    path = Path(data)
    place = known.get("path") if ":" not in known["name"] else None  # with a colon it is where code lies
    if place is not None and path.exists() and path.resolve() == Path(place).resolve():
        return known  # its own data, by their place: split as they were
    if path.suffix == ".npz":
        return {"name": "npz", "path": path}
    # As the network's own images were, so that others can be scored; it may be that those had no need of a size.
    alike = {key: known[key] for key in (*DECODING, "workers") if key in known}
    alike |= {"image_size": alike.get("image_size") or shape[1:], "grey": shape[0] == 1}
    if path.suffix == ".csv":
        return {**alike, "name": "csv", "path": path, "columns": _columns(path, known)}
    if path.is_dir():
        return {**alike, "name": "folder", "path": path}
    return {**alike, "name": data} if data.startswith(("torchvision:", "huggingface:")) else {"name": data}
