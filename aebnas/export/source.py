"""The test images that an exported network is evaluated on."""

from __future__ import annotations

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

    Args:
        data: A data set's name, an .npz file or an image folder; what the network was searched on by default, with
            the same split, so that no training image is among them.
        data_dir: Where a named data set is looked for first.

    Raises:
        DataError: the data are missing, or do not fit the network.
    """
    extra = manifest.values.get("extra", {})
    known = extra.get("data") or {"name": "custom"}
    settings = parse_settings(DataSettings, _chosen(data, known), source="--data", error=DataError)
    if settings.name not in DATASETS:
        raise DataError("this network was searched on data from Python: name its data set or file with --data")
    bundle = load_data(settings, seed=int(extra.get("seed", 0)), data_dir=data_dir)
    if bundle.input_shape != manifest.input_shape:
        raise DataError(
            f"--data has images of shape {bundle.input_shape}, the network takes {manifest.input_shape}: "
            "choose other data"
        )
    if bundle.num_classes > len(manifest.classes):
        raise DataError(
            f"--data has {bundle.num_classes} classes, the network knows {len(manifest.classes)}: choose other data"
        )
    return manifest.preprocess(bundle.test.raw().numpy()), bundle.test.labels.numpy()


def _chosen(data: str | None, known: dict[str, Any]) -> dict[str, Any]:
    if data is None or data == known["name"]:
        return known
    path = Path(data)
    if path.suffix == ".npz":
        return {"name": "npz", "path": path}
    if path.is_dir():
        return {**(known if known["name"] == "folder" else {}), "name": "folder", "path": path}
    return {"name": data}
