"""The single file with its preprocessing inside: it takes 8-bit pixels as cameras and image libraries give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from aebnas.export.manifest import PIXEL_FILE
from aebnas.export.ports import IMAGE, INPUT

# How far 1 / scale may lie from a whole number.
_SLACK = 1e-6
# How pictures of another size are resized where the data set does not say.
_FORM = {"resize": "stretch", "interpolation": "bilinear", "crop": 1.0}


def why_no_pixels(preprocessing: Mapping[str, Any], input_shape: Sequence[int]) -> str | None:
    """Return why a network cannot take 8-bit pixels, in a sentence; None where it can.

    Args:
        preprocessing: As :func:`aebnas.export.package.export_network` takes it.
        input_shape: One sample's.
    """
    if len(input_shape) != 3:
        return f"a sample has shape {tuple(input_shape)}, which is no image (C, H, W)"
    white = 1 / preprocessing["scale"]
    if not 1 < round(white) <= 255 or abs(round(white) - white) > _SLACK * white:
        return (
            f"the data's values were scaled by {preprocessing['scale']:g}, so they are no 8-bit pixels: prepare an "
            "image as the data set does and give it to model.onnx"
        )
    return None


def describe_pixels(
    preprocessing: Mapping[str, Any], input_shape: Sequence[int], form: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what the manifest says of the input that takes pixels, and of how pictures are brought to its size.

    ``white`` is the pixel value that the data set counts as 1: 255 for most; its images go from 0 to it.

    Args:
        preprocessing: As :func:`aebnas.export.package.export_network` takes it.
        input_shape: One sample's.
        form: As :func:`aebnas.export.package.export_network` takes it.
    """
    reason = why_no_pixels(preprocessing, input_shape)
    if reason is not None:
        return {"left_out": reason}
    channels, height, width = input_shape
    return {
        "file": PIXEL_FILE,
        "input": IMAGE,
        "shape": [1, height, width, channels],
        "white": round(1 / preprocessing["scale"]),
        **{key: (form or {}).get(key, usual) for key, usual in _FORM.items()},
    }


def with_pixels(
    model: onnx.ModelProto, preprocessing: Mapping[str, Any], input_shape: Sequence[int]
) -> onnx.ModelProto:
    """Return a copy of ``model`` that takes ``image``, uint8 (1, H, W, C), instead of ``input``, float32 (1, C, H, W).

    It is prepared with the very operations of ``Manifest.preprocess``, in float32 and in their order, so that not a
    bit differs and every label and exit is the same. Inside, all stays where it is: weights behind an exit in its
    ``If``.

    Args:
        model: Assembled, with batch 1.
        preprocessing: ``scale``, ``mean``, ``std``, per channel or one for all.
        input_shape: (C, H, W).
    """
    channels, height, width = input_shape
    made = onnx.ModelProto()
    made.CopyFrom(model)
    constants = {
        "scale": np.array(preprocessing["scale"], np.float32),
        "mean": np.reshape(np.array(preprocessing["mean"], np.float32), (-1, 1, 1)),
        "std": np.reshape(np.array(preprocessing["std"], np.float32), (-1, 1, 1)),
    }
    names = {name: f"prepare/{name}" for name in constants}
    steps = [
        # Moved while pixels are still a byte each.
        helper.make_node("Transpose", [IMAGE], ["prepare/planes"], name="prepare/Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["prepare/planes"], ["prepare/raw"], name="prepare/Cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["prepare/raw", names["scale"]], ["prepare/scaled"], name="prepare/Mul"),
        helper.make_node("Sub", ["prepare/scaled", names["mean"]], ["prepare/centred"], name="prepare/Sub"),
        # Its output is called as the input was: all that read that, inside an If too, read this.
        helper.make_node("Div", ["prepare/centred", names["std"]], [INPUT], name="prepare/Div"),
    ]
    graph = made.graph
    nodes = [*steps, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(value, names[name]) for name, value in constants.items())
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [1, height, width, channels]))
    return made
