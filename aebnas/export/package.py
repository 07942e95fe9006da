"""Writing an early-exit network as a folder of ONNX files."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import nn

from aebnas.branches.spec import FP32
from aebnas.errors import RunError
from aebnas.exits.bars import Bar
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import Decider
from aebnas.exits.policy import Policy, check_classes
from aebnas.export.blocks import OPSET, block_bytes, export_block, output_shape
from aebnas.export.gate import Decision, export_decision, export_exit, hears
from aebnas.export.graphs import join, with_batch_of_one
from aebnas.export.manifest import (
    BACKBONE,
    FORMAT,
    MANIFEST,
    PIXEL_FILE,
    SINGLE_FILE,
    branch_file,
    read_manifest,
    segment_file,
)
from aebnas.export.pixels import describe_pixels, why_no_pixels, with_pixels
from aebnas.export.ports import LOGITS
from aebnas.export.samples import read_samples, write_samples
from aebnas.export.single_file import Stage, assemble
from aebnas.files import digest, write_bytes, write_json

Part = nn.Module | onnx.ModelProto


def export_network(
    out: Path,
    *,
    segments: Sequence[Part],
    branches: Sequence[Part],
    policy: Policy,
    input_shape: Sequence[int],
    classes: Sequence[str],
    preprocessing: Mapping[str, Any],
    costs: Mapping[str, Any],
    extra: Mapping[str, Any],
    form: Mapping[str, Any] | None = None,
    backbone: nn.Module | None = None,
    precision: str = FP32,
    threads: int = 1,
    provider: str = "CPUExecutionProvider",
    provider_options: Mapping[str, str | int | float | bool] | None = None,
) -> Path:
    """Write the network to ``out`` as one exiting file, as staged files for batches, and as the static backbone.

    Where the data are 8-bit pixels, a second exiting file takes them as they are. Beside the files lie samples that run
    them.

    A part is a module, which is written in fp32, or a block that is in its precision already: that is written as it
    is, with a free batch or one of 1. Cascaded branches have to be modules. Exits are numbered among those that are
    exported. The manifest is written last: a folder without one, or whose manifest does not fit a model file, comes
    from an export that was interrupted.

    Args:
        out: The folder, created when it is missing; an earlier export in it is replaced.
        segments: ``segments[k]`` leads from exit k-1's attach tensor (or the input) to exit k's; the last one ends in
            the backbone's logits, or in a branch, which may be a cascaded one.
        branches: ``branches[k]`` turns exit k's attach tensor into logits; a cascaded one hears ``branches[k - 1]``.
        policy: Thresholds that are not None belong to ``branches``, in order.
        input_shape: One sample's shape, (C, H, W).
        classes: Class names, in the order of the logits.
        preprocessing: ``scale``, ``mean``, ``std``: model input = (raw * scale - mean) / std, per channel.
        costs: What the network was predicted to cost; kept in the manifest as it is.
        extra: Anything else worth keeping in the manifest.
        form: How pictures of another size become the data set's: ``resize`` (stretch, crop or pad), ``interpolation``
            and ``crop``, the share of the shorter side that is kept; stretched and bilinear by default.
        backbone: The static classifier, always written in fp32: it is what the network is compared with. None: the
            segments in a row, which then have to be modules.
        precision: That of the parts.
        threads: Threads that a session uses unless told otherwise.
        provider: The onnxruntime execution provider that a session uses unless told otherwise.
        provider_options: Its options.

    Returns:
        ``out``.

    Raises:
        InputError: the policy is that of a network with another number of classes.
        BackboneError: a part uses an operation that ONNX does not have.
        RunError: the folder cannot be written. RunFailed: this installation lacks the samples.
    """
    check_classes(policy.thresholds, len(classes))
    thresholds = [threshold for threshold in policy.thresholds if threshold is not None]
    if len(segments) != len(branches) + 1 or len(thresholds) != len(branches):
        raise ValueError(
            f"{len(branches)} branches need {len(branches) + 1} segments and {len(branches)} thresholds, "
            f"not {len(segments)} and {len(thresholds)}"
        )
    shapes = [tuple(input_shape)]
    for segment in segments[:-1]:
        shapes.append(_output_shape(segment, shapes[-1]))
    exits = _Exits(Decider(build_confidence(policy.confidence)), len(branches) + 1, len(classes))
    single = _single_file(segments, branches, exits, thresholds, shapes)
    models = {
        SINGLE_FILE: single,
        BACKBONE: export_block(backbone or _in_a_row(segments), shapes[0], output_names=[LOGITS]),
        **{segment_file(k): _block(part, shapes[k]) for k, part in enumerate(segments[:-1])},
        segment_file(len(branches)): exits.block(segments[-1], len(branches), shapes[-1]),
        **{branch_file(k): exits.block(part, k, shapes[k + 1]) for k, part in enumerate(branches)},
    }
    if why_no_pixels(preprocessing, input_shape) is None:
        models[PIXEL_FILE] = with_pixels(single, preprocessing, input_shape)
    contents = {name: block_bytes(model) for name, model in models.items()}
    samples = read_samples()
    _remove_earlier(out)
    for name, content in contents.items():
        write_bytes(out / name, content)
    write_samples(out, samples)
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
            "pixels": describe_pixels(preprocessing, input_shape, form),
            "threads": threads,
            "provider": provider,
            "provider_options": dict(provider_options or {}),
            "precision": precision,
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


@dataclass(frozen=True)
class _Exits:
    """Writes exits with their decisions; what an exit takes and hands on depends on where it stands."""

    decider: Decider
    count: int
    classes: int

    def block(self, part: Part, number: int, shape: tuple[int, ...], *, dynamic_batch: bool = True) -> onnx.ModelProto:
        decision = Decision(self.decider, first=number == 0, last=number == self.count - 1)
        if isinstance(part, nn.Module):
            if hears(part) and number == 0:
                raise ValueError("a cascaded branch stands first: nothing was said before it")
            return export_exit(part, decision, shape, self.classes, dynamic_batch=dynamic_batch)
        joined = join([part, export_decision(decision, self.classes)], keep_inner=True)
        return _block(joined, shape, dynamic_batch=dynamic_batch)


def _single_file(
    segments: Sequence[Part],
    branches: Sequence[Part],
    exits: _Exits,
    thresholds: Sequence[Bar],
    shapes: Sequence[tuple[int, ...]],
) -> onnx.ModelProto:
    stages = [
        Stage(
            segment=_block(segment, shapes[k], dynamic_batch=False),
            branch=exits.block(branch, k, shapes[k + 1], dynamic_batch=False),
            threshold=threshold,
        )
        for k, (segment, branch, threshold) in enumerate(zip(segments, branches, thresholds, strict=False))
    ]
    return assemble(stages, exits.block(segments[-1], len(branches), shapes[-1], dynamic_batch=False))


def _block(part: Part, shape: tuple[int, ...], *, dynamic_batch: bool = True) -> onnx.ModelProto:
    if isinstance(part, nn.Module):
        return export_block(part, shape, dynamic_batch=dynamic_batch)
    return part if dynamic_batch else with_batch_of_one(part)


def _in_a_row(segments: Sequence[Part]) -> nn.Module:
    modules = [segment for segment in segments if isinstance(segment, nn.Module)]
    if len(modules) < len(segments):
        raise ValueError("segments that are blocks say nothing of the backbone in fp32: give it")
    return nn.Sequential(*modules)


def _output_shape(part: Part, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(part, nn.Module):
        return output_shape(part, shape)
    return tuple(size.dim_value for size in part.graph.output[0].type.tensor_type.shape.dim[1:])


def _remove_earlier(out: Path) -> None:
    """Take away the manifest first, then what an earlier export may have had more of."""
    path = out / MANIFEST
    try:
        path.unlink(missing_ok=True)
        path = out / PIXEL_FILE
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
