"""The test images that an exported network is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aebnas.data.load import DATASETS, load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError
from aebnas.export.manifest import Manifest
from aebnas.settings import parse_settings


def test_images(
    manifest: Manifest, *, data: str | None = None, data_dir: Path | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the test split, preprocessed as the manifest says: ``(N, C, H, W)`` float32 and labels ``(N,)``.

    Of other data than the network's own, too, only the test part is scored; where they have none (a folder without
    test/), it is the part that a search on them would hold out, by default a fifth. Their classes are matched with the
    network's by name; the labels of an .npz file, which has no names, are taken as the network's own class numbers.

    Args:
        data: A data set's name, an .npz file or an image folder; what the network was searched on by default, with
            the same split, so that no training image is among them.
        data_dir: Where a named data set is looked for first.

    Raises:
        DataError: the data are missing, have images of another shape, or a class that the network does not know.
    """
    extra = manifest.values.get("extra", {})
    known = extra.get("data") or {"name": "custom"}
    settings = parse_settings(DataSettings, _chosen(data, known), source="--data", error=DataError)
    if settings.name not in DATASETS:
        if data is not None:
            known_names = f"{', '.join(DATASETS)}, an .npz file or a folder of images"
            raise DataError(f"--data {data!r} is no data set and no file: give one of {known_names}")
        raise DataError("this network was searched on data from Python: name its data set or file with --data")
    bundle = load_data(settings, seed=int(extra.get("seed", 0)), data_dir=data_dir)
    if bundle.input_shape != manifest.input_shape:
        raise DataError(
            f"--data has images of shape {bundle.input_shape}, the network takes {manifest.input_shape}: "
            "choose other data"
        )
    numbers = _class_numbers(settings.name, bundle.classes, manifest.classes)
    return manifest.preprocess(bundle.test.raw().numpy()), numbers[bundle.test.labels.numpy()]


def _class_numbers(name: str, classes: Sequence[str], known: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the network's number of each of the ``classes`` of the data set ``name``."""
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


def _chosen(data: str | None, known: dict[str, Any]) -> dict[str, Any]:
    if data is None or data == known["name"]:
        return known
    path = Path(data)
    if path.suffix == ".npz":
        return {"name": "npz", "path": path}
    if path.is_dir():
        return {**(known if known["name"] == "folder" else {}), "name": "folder", "path": path}
    return {"name": data}
