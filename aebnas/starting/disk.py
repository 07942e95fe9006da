"""How much disk the features of a search take."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.data.splits import DataBundle
from aebnas.errors import ExperimentError
from aebnas.experiment import Experiment
from aebnas.files import nearest
from aebnas.training.regimes import REGIMES

_GIB = 2**30
_BYTES = {"fp16": 2, "fp32": 4}
# Records, exports and pictures beside the features.
_BESIDE_GIB = 0.3


def disk_needed(
    experiment: Experiment, data: DataBundle, backbone: SegmentedBackbone, run_dir: Path
) -> tuple[str, list[str]]:
    """Say how much disk features take, and for how many attach points ``cache_gib`` is enough.

    Raises:
        ExperimentError: there is not so much free where ``run_dir`` is.
    """
    names = [experiment.regime.name, *map(str, experiment.search.genes.get("regime.name", ()))]
    free_gib = _free_gib(run_dir)
    if all(REGIMES[name].kind == "whole" for name in names):
        return f"no features are kept under {experiment.regime.name}; {free_gib:.1f} GiB free", []
    samples = len(data.train) * experiment.cache_copies + len(data.validation)
    sizes_gib = [
        _BYTES[experiment.cache_dtype] * samples * math.prod(point.shape) / _GIB for point in backbone.attach_points
    ]
    # As they are chosen: the deepest first.
    kept_gib, count = 0.0, 0
    for size_gib in reversed(sizes_gib):
        if kept_gib + size_gib > experiment.cache_gib:
            break
        kept_gib, count = kept_gib + size_gib, count + 1
    if kept_gib + _BESIDE_GIB > free_gib:
        raise ExperimentError(
            f"features would take {kept_gib:.1f} GiB, and there are {free_gib:.1f} GiB free for {run_dir}: lower "
            "cache_gib, free some space, or search with --run-dir on another disk"
        )
    text = f"features take {_size(kept_gib)} (cache_gib {experiment.cache_gib:g}); {free_gib:.1f} GiB free"
    hints = [
        f"the features of {len(sizes_gib) - count} of {len(sizes_gib)} attach points do not fit and are computed anew "
        f"for every batch, which is slower: cache_gib: {math.ceil(sum(sizes_gib) + 0.1)} holds all"
    ]
    return text, hints * (count < len(sizes_gib))


def _free_gib(folder: Path) -> float:
    try:
        return shutil.disk_usage(nearest(folder)).free / _GIB
    except OSError as error:
        raise ExperimentError(
            f"{folder} cannot be looked at ({error.strerror}): search with --run-dir in another folder"
        ) from error


def _size(gib: float) -> str:
    return f"{gib:.1f} GiB" if gib >= 0.95 else f"{1024 * gib:.0f} MiB"
