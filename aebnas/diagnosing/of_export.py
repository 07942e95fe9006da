"""An exported network, run by onnxruntime on the validation and test images that it was searched on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from aebnas.data.load import DATASETS, load_data
from aebnas.data.placing import placed
from aebnas.data.settings import DataSettings
from aebnas.data.splits import DataBundle, ImageSplit
from aebnas.devices.target.session import CPU
from aebnas.diagnosing.macs import block_macs
from aebnas.diagnosing.subject import SPLITS, Said, Subject, require_exits
from aebnas.errors import DataError
from aebnas.exits.costs import Mask
from aebnas.exits.policy import Policy, thresholds_from_json
from aebnas.export.manifest import BACKBONE, Manifest, branch_file, read_manifest, read_model, segment_file
from aebnas.export.ports import PREVIOUS
from aebnas.export.session import EarlyExitSession
from aebnas.export.source import wanted_by
from aebnas.settings import parse_settings

# As fine as an experiment's own default; a manifest does not know its experiment's.
_GRID = 20
_BATCH = 256


def subject_of_export(folder: Path, *, data_dir: Path | None = None) -> Subject:
    """Return the exported network in ``folder``, with what its ONNX files say of both splits, on the CPU.

    Args:
        data_dir: Where a named data set is looked for first, or one whose files were moved.

    Raises:
        InputError: it has no early exit.
        DataError: its data set is missing, came from Python, or is not the one that it was searched on.
        RunError: a file of the export is missing or damaged.
    """
    manifest = read_manifest(folder)
    thresholds = thresholds_from_json(manifest.values["thresholds"])
    require_exits(thresholds, str(folder), "export another point of the run")
    data = _data(manifest, data_dir)
    session = EarlyExitSession(folder, provider=CPU)
    extra = manifest.values.get("extra", {})
    attached = [str(branch.get("attach", "")) for branch in extra.get("branches", [])]
    segments, branches = _macs(folder, manifest)

    def exit_macs(mask: Mask) -> NDArray[np.float64]:
        # The final exit has no branch of its own.
        run = [macs if is_on else 0 for macs, is_on in zip(branches, mask, strict=True)]
        return np.array([np.cumsum(segments) + np.cumsum([*run, 0])], dtype=np.float64)

    return Subject(
        kind="export",
        source=str(folder),
        id=str(extra.get("id", folder.name)),
        branches=tuple(
            attached[number] if number < len(attached) and attached[number] else f"exit {number}"
            for number in range(len(thresholds))
        ),
        policy=Policy(str(manifest.values["confidence"]), thresholds),
        prefixes=_is_cascaded(folder, manifest),
        exit_macs=exit_macs,
        backbone_macs=float(block_macs(read_model(folder, BACKBONE, manifest), BACKBONE)),
        grid=_GRID,
        splits={name: _said(session, manifest, getattr(data, name)) for name in SPLITS},
        classes=manifest.classes,
        accuracy="balanced" if extra.get("accuracy") == "balanced" else "plain",
    )


def _said(session: EarlyExitSession, manifest: Manifest, split: ImageSplit) -> Said:
    # Batch by batch, for images may be more than fit in memory.
    said = [session.all_exits(manifest.preprocess(images.numpy())) for images in split.raw_batches(_BATCH)]
    logits, labels, confidences = (np.concatenate(each, axis=1) for each in zip(*said, strict=True))
    return Said([torch.from_numpy(one) for one in logits], split.labels, labels, confidences)


def _macs(folder: Path, manifest: Manifest) -> tuple[list[int], list[int]]:
    count = len(manifest.thresholds)
    names = [*map(segment_file, range(count + 1)), *map(branch_file, range(count))]
    found = [block_macs(read_model(folder, name, manifest), name) for name in names]
    return found[: count + 1], found[count + 1 :]


def _is_cascaded(folder: Path, manifest: Manifest) -> bool:
    """Tell whether a branch hears what the exit before it said."""
    blocks = [read_model(folder, branch_file(number), manifest) for number in range(len(manifest.thresholds))]
    return any(port.name == PREVIOUS for block in blocks for port in onnx.load_from_string(block).graph.input)


def _data(manifest: Manifest, data_dir: Path | None) -> DataBundle:
    """Return the splits that the network was searched on."""
    extra = manifest.values.get("extra", {})
    settings = parse_settings(DataSettings, extra.get("data") or {"name": "custom"}, source="data", error=DataError)
    if settings.name not in DATASETS:
        raise DataError(
            "this network was searched on data from Python, whose validation split its manifest does not know: "
            "diagnose the run in Python instead"
        )
    wanted = wanted_by(manifest)
    data = load_data(placed(settings, data_dir), seed=int(extra.get("seed", 0)), wanted=wanted)
    if data.input_shape != manifest.input_shape or data.classes != manifest.classes:
        raise DataError(
            f"the data set {settings.name} has other images or classes than manifest.json says: restore the one that "
            "the network was searched on"
        )
    return data
