"""Writing an early-exit network as a folder of ONNX files."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import nn

from aebnas.errors import RunError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.policy import Policy
from aebnas.export.blocks import OPSET, block_bytes, export_block, output_shape
from aebnas.export.gate import GATED_OUTPUTS, Gate, GatedExit
from aebnas.export.manifest import BACKBONE, FORMAT, MANIFEST, SINGLE_FILE, branch_file, read_manifest, segment_file
from aebnas.export.single_file import Stage, assemble
from aebnas.files import digest, write_bytes, write_json


def export_network(
    out: Path,
    *,
    segments: Sequence[nn.Module],
    branches: Sequence[nn.Module],
    policy: Policy,
    input_shape: Sequence[int],
    classes: Sequence[str],
    preprocessing: Mapping[str, Any],
    costs: Mapping[str, Any],
    extra: Mapping[str, Any],
    backbone: nn.Module | None = None,
    threads: int = 1,
    provider: str = "CPUExecutionProvider",
) -> Path:
    """Write the network to ``out`` as one exiting file, as staged files for batches, and as the static backbone.

    Exits are numbered among those that are exported. The manifest is written last: a folder without one, or whose
    manifest does not fit a model file, comes from an export that was interrupted.

    Args:
        out: The folder, created when it is missing; an earlier export in it is replaced.
        segments: ``segments[k]`` leads from exit k-1's attach tensor (or the input) to exit k's; the last one ends in
            the backbone's logits.
        branches: ``branches[k]`` turns exit k's attach tensor into logits.
        policy: Thresholds that are not None belong to ``branches``, in order.
        input_shape: One sample's shape, (C, H, W).
        classes: Class names, in the order of the logits.
        preprocessing: ``scale``, ``mean``, ``std``: model input = (raw * scale - mean) / std, per channel.
        costs: What the network was predicted to cost; kept in the manifest as it is.
        extra: Anything else worth keeping in the manifest.
        backbone: The static classifier; the segments in a row when None.
        threads: Threads that a session uses unless told otherwise.
        provider: The onnxruntime execution provider that a session uses unless told otherwise.

    Returns:
        ``out``.

    Raises:
        BackboneError: a part uses an operation that ONNX does not have.
        RunError: the folder cannot be written.
    """
    thresholds = [threshold for threshold in policy.thresholds if threshold is not None]
    if len(segments) != len(branches) + 1 or len(thresholds) != len(branches):
        raise ValueError(
            f"{len(branches)} branches need {len(branches) + 1} segments and {len(branches)} thresholds, "
            f"not {len(segments)} and {len(thresholds)}"
        )
    gate = Gate(build_confidence(policy.confidence))
    exits = [GatedExit(branch, gate) for branch in branches]
    final = GatedExit(segments[-1], gate)
    shapes = [tuple(input_shape)]
    for segment in segments[:-1]:
        shapes.append(output_shape(segment, shapes[-1]))

    models = {
        SINGLE_FILE: _single_file(segments[:-1], exits, final, thresholds, shapes),
        BACKBONE: export_block(backbone or nn.Sequential(*segments), shapes[0], output_names=["logits"]),
        **{segment_file(k): export_block(part, shapes[k]) for k, part in enumerate(segments[:-1])},
        segment_file(len(branches)): export_block(final, shapes[-1], output_names=GATED_OUTPUTS),
        **{
            branch_file(k): export_block(part, shapes[k + 1], output_names=GATED_OUTPUTS)
            for k, part in enumerate(exits)
        },
    }
    contents = {name: block_bytes(model) for name, model in models.items()}
    _remove_earlier(out)
    for name, content in contents.items():
        write_bytes(out / name, content)
    write_json(
        out / MANIFEST,
        {
            "format": FORMAT,
            "confidence": policy.confidence,
            "thresholds": thresholds,
            "exits": len(branches) + 1,
            "input_shape": list(input_shape),
            "attach_shapes": [list(shape) for shape in shapes[1:]],
            "classes": list(classes),
            "preprocessing": dict(preprocessing),
            "threads": threads,
            "provider": provider,
            "costs": dict(costs),
            "extra": dict(extra),
            "versions": _versions(),
            "files": {name: digest(content) for name, content in contents.items()},
        },
    )
    return out


def update_costs(folder: Path, costs: Mapping[str, Any]) -> None:
    """Replace the ``costs`` in the manifest of the exported network in ``folder``, say by what was measured on it.

    Raises:
        RunError: the manifest is missing or damaged, or cannot be written; then it stays as it was.
    """
    write_json(folder / MANIFEST, {**read_manifest(folder).values, "costs": dict(costs)})


def _single_file(
    segments: Sequence[nn.Module],
    exits: Sequence[nn.Module],
    final: nn.Module,
    thresholds: Sequence[float],
    shapes: Sequence[tuple[int, ...]],
) -> onnx.ModelProto:
    stages = [
        Stage(
            segment=export_block(segment, shapes[k], dynamic_batch=False),
            branch=export_block(branch, shapes[k + 1], output_names=GATED_OUTPUTS, dynamic_batch=False),
            threshold=threshold,
        )
        for k, (segment, branch, threshold) in enumerate(zip(segments, exits, thresholds, strict=True))
    ]
    return assemble(stages, export_block(final, shapes[-1], output_names=GATED_OUTPUTS, dynamic_batch=False))


def _remove_earlier(out: Path) -> None:
    """Take away the manifest first, then the stages, of an earlier export that may have had more of them."""
    path = out / MANIFEST
    try:
        path.unlink(missing_ok=True)
        for pattern in ("segment_*.onnx", "branch_*.onnx"):
            for path in (out / "staged").glob(pattern):
                path.unlink()
    except OSError as error:
        raise RunError(
            f"{path} of an earlier export cannot be removed ({error.strerror or error}): choose another folder"
        ) from error


def _versions() -> dict[str, str]:
    versions = {"opset": str(OPSET), "torch": torch.__version__, "onnx": onnx.__version__}
    versions["onnxruntime"] = onnxruntime.__version__
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions["aebnas"] = importlib.metadata.version("aebnas")
    return versions
