"""The single file, made to leave at one exit whatever its input."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from aebnas.devices.device import Job
from aebnas.errors import RunError
from aebnas.export.single_file import threshold_name

# Thresholds that let everything leave, and nothing.
_LEAVE, _GO_ON = -math.inf, math.inf


def forced(model: bytes, exit_: int, exits: int) -> bytes:
    """Return a copy of the assembled ``model``, which has ``exits`` exits, that always leaves at ``exit_``.

    Only the thresholds differ: what is executed up to that exit, decisions included, is what the model executes.

    Raises:
        RunError: the model does not have the threshold of every early exit.
    """
    proto = onnx.load_from_string(model)
    found = {tensor.name: tensor for tensor in _initialisers(proto.graph)}
    for number in range(exits - 1):
        name = threshold_name(number)
        if name not in found:
            raise RunError(f"the single file has no {name}, so it cannot be made to leave there: export it again")
        # One number, or one per predicted class.
        shape = tuple(found[name].dims)
        value = np.full(shape, _LEAVE if number == exit_ else _GO_ON, dtype=np.float32)
        found[name].CopyFrom(numpy_helper.from_array(value, name))
    return bytes(proto.SerializeToString(deterministic=True))


def forced_job(model: bytes, exit_: int, exits: int) -> Job:
    """Return the measuring of :func:`forced`; the same path is known again wherever it is asked for.

    Raises:
        RunError: the model does not have the threshold of every early exit.
    """
    return Job(forced(model, exit_, exits), variant=f"leaves at exit {exit_}")


def _initialisers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _initialisers(attribute.g)
