"""Writing a backbone's segments and one branch as ONNX, and running them, as a search and an export will."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import build_branch
from aebnas.branches.spec import BranchSpec
from aebnas.errors import BackboneError
from aebnas.export.blocks import block_bytes, export_block

_CLOSE = 1e-3


@torch.no_grad()
def deploy_once(backbone: SegmentedBackbone, branch: BranchSpec, images: Tensor) -> str:
    """Export every segment, and ``branch`` with fresh weights; run them with onnxruntime; return what was found.

    Raises:
        BackboneError: a block cannot be written, cannot be run, or gives something else than PyTorch gives.
    """
    points = [point.name for point in backbone.attach_points]
    number = points.index(branch.attach)
    shapes = [backbone.input_shape, *(point.shape for point in backbone.attach_points)]
    blocks: list[tuple[str, nn.Module, tuple[int, ...]]] = [
        (f"segment {place + 1}", segment, shape)
        for place, (segment, shape) in enumerate(zip(backbone.segments, shapes, strict=True))
    ]
    made = build_branch(branch, shapes[number + 1], backbone.num_classes).eval()
    blocks.append((f"the branch at {branch.attach}", made, shapes[number + 1]))
    inputs = [images, *backbone.features(images)[:-1]]
    inputs.append(inputs[number + 1])
    worst, size = 0.0, 0
    for (name, module, shape), given in zip(blocks, inputs, strict=True):
        content = block_bytes(export_block(module, shape))
        size += len(content)
        worst = max(worst, _difference(name, content, module, given))
    return (
        f"{len(backbone.segments)} segments and a branch of {len(branch.layers)} layers run in onnxruntime as in "
        f"PyTorch (difference {worst:.1g}), {size / 2**20:.1f} MiB"
    )


def _difference(name: str, content: bytes, module: nn.Module, given: Tensor) -> float:
    """Return by how much onnxruntime differs from PyTorch, relative to the largest value."""
    import onnxruntime

    expected = module(given).numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (answer,) = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(given.numpy())})
    except Exception as error:  # its errors share no base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackboneError(
            f"onnxruntime cannot run {name} ({reason}): replace the operation it names, or take a newer onnxruntime"
        ) from error
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(answer - expected).max()) / scale
    if not difference <= _CLOSE:
        raise BackboneError(
            f"{name} gives something else in onnxruntime than in PyTorch (by {difference:.2g} of its largest value): "
            "replace what depends on chance or on the batch in it"
        )
    return difference
