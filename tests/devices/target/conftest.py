from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from aebnas.devices.boot import agent_archive


def convolution(name: str, channels: int, source: str, target: str):
    """A 3 x 3 convolution to 8 channels, its weights, deterministic."""
    values = np.random.default_rng(len(name)).standard_normal((8, channels, 3, 3)).astype(np.float32)
    weights = numpy_helper.from_array(values, f"{name}.weight")
    return helper.make_node("Conv", [source, weights.name], [target], name=name, pads=[1] * 4), weights


def branch(name: str, result: str):
    node, weights = convolution(name, 8, "features", f"{result}/before")
    relu = helper.make_node("Relu", [f"{result}/before"], [result], name=f"{name}/relu")
    described = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
    return helper.make_graph([node, relu], name, [], [described], initializer=[weights])


@pytest.fixture(scope="session")
def exiting() -> bytes:
    """A model with an If: it takes its ``easy`` side for features with a mean below 0, else its ``hard`` side."""
    stem, weights = convolution("stem", 3, "input", "features")
    zero = numpy_helper.from_array(np.zeros((), np.float32), "zero")
    nodes = [
        stem,
        helper.make_node("ReduceMean", ["features"], ["mean"], name="mean", keepdims=0),
        helper.make_node("Less", ["mean", "zero"], ["is_easy"], name="less"),
        helper.make_node("If", ["is_easy"], ["output"], name="exit", then_branch=branch("easy", "left"),
                         else_branch=branch("hard", "right")),
        helper.make_node("Cast", ["is_easy"], ["left_early"], name="cast", to=TensorProto.INT64),
    ]  # fmt: skip
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])]
    outputs = [
        helper.make_tensor_value_info("output", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("left_early", TensorProto.INT64, []),
    ]
    graph = helper.make_graph(nodes, "exiting", inputs, outputs, initializer=[weights, zero])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """The agent as it is copied to a target, alone in a folder."""
    path = tmp_path_factory.mktemp("target") / "agent.pyz"
    path.write_bytes(agent_archive())
    return path


def frame(command: str, files: dict[str, bytes] | None = None, **header) -> bytes:
    listed = [{"name": name, "size": len(content)} for name, content in (files or {}).items()]
    line = json.dumps({"command": command, "files": listed, **header}).encode() + b"\n"
    return line + b"".join((files or {}).values())


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


class Target:
    """Starts agents with nothing but the archive on their path, as on a bare machine."""

    frame, npy = staticmethod(frame), staticmethod(npy)

    def __init__(self, archive, folder) -> None:
        self.archive, self.folder = archive, folder

    def start(self, *, python=sys.executable, code=None, folder=None, **options) -> subprocess.Popen:
        """An agent; ``code`` runs before it in the same process."""
        start = f"import runpy, sys; {code}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
        command = ["-c", start, str(self.archive)] if code else [str(self.archive)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [python, "-I", *command, str(folder or self.folder)],
            **{"stdin": pipe, "stdout": pipe, "stderr": pipe, "cwd": self.archive.parent, **options},
            env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        )

    def ask(self, *frames: bytes, **options) -> list[dict]:
        """The events that an agent answers to ``frames``, after the one that says it is ready."""
        agent = self.start(**options)
        answers, complaints = agent.communicate(b"".join(frames), timeout=120)
        assert agent.returncode == 0, complaints.decode()
        assert b"Traceback" not in complaints, complaints.decode()
        events = [json.loads(line) for line in answers.splitlines()]
        assert events[0] == {"event": "ready", "protocol": 1}
        assert list(self.folder.iterdir()) == []
        return events[1:]


@pytest.fixture
def target(archive, tmp_path) -> Target:
    (tmp_path / "files").mkdir()
    return Target(archive, tmp_path / "files")
