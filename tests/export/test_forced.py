from __future__ import annotations

import numpy as np
import onnx
import pytest

from aebnas.devices.target.session import open_session
from aebnas.errors import RunError
from aebnas.export.forced import forced
from aebnas.export.manifest import SINGLE_FILE


@pytest.mark.parametrize("branches", [0, 1, 3])
def test_every_input_leaves_at_the_exit_that_was_asked_for(exported, toys, images, branches):
    model = (exported[branches] / SINGLE_FILE).read_bytes()
    for exit_ in range(branches + 1):
        session = open_session(forced(model, exit_, branches + 1), threads=1)
        left = [session.run(["exit"], {"input": image[None]})[0].item() for image in images[:10]]
        assert left == [exit_] * 10


def test_what_comes_out_is_what_that_exit_says(exported, toys, images):
    model = (exported[2] / SINGLE_FILE).read_bytes()
    _, exits, _ = toys[2].predict(images)
    own, made = (open_session(one, threads=1) for one in (model, forced(model, 1, 3)))
    for image in images[exits == 1][:5]:
        outputs = (session.run(None, {"input": image[None]}) for session in (own, made))
        for expected, found in zip(*outputs, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_only_thresholds_differ(exported):
    model = (exported[2] / SINGLE_FILE).read_bytes()
    before, after = (onnx.load_from_string(one) for one in (model, forced(model, 0, 3)))
    (old,) = [tensor for tensor in before.graph.initializer if tensor.name == "gate_0/threshold"]
    (new,) = [tensor for tensor in after.graph.initializer if tensor.name == "gate_0/threshold"]
    assert old.raw_data != new.raw_data and list(before.graph.node)[:-1] == list(after.graph.node)[:-1]


def test_a_file_without_that_exit_cannot_be_forced_there(exported):
    with pytest.raises(RunError, match="has no gate_1/threshold"):
        forced((exported[1] / SINGLE_FILE).read_bytes(), 0, 3)
