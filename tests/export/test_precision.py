"""Blocks in fp16 and int8: close to fp32, gates and logits left alone, nothing left behind."""

from __future__ import annotations

import logging
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from aebnas.branches.build import build_branch
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.errors import BackboneError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import Decider
from aebnas.export import int8
from aebnas.export import precision as module
from aebnas.export.blocks import block_bytes, export_block
from aebnas.export.gate import Decision, export_exit
from aebnas.export.graphs import LOGITS, output_grid
from aebnas.export.precision import PRECISIONS, convert, convert_for_timing

SHAPE = (4, 8, 8)
DECISION = Decision(Decider(build_confidence("entropy")))


def run(model, images):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})


def operators(model):
    return [node.op_type for node in model.graph.node]


def net(*layers):
    torch.manual_seed(0)
    made = nn.Sequential(*layers)
    for layer in made.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.weight, std=0.2)
    return made.eval()


def classifier():
    return net(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).standard_normal((40, *SHAPE)).astype(np.float32)


BODIES = {
    "classifier": classifier,
    "pooling first": lambda: net(nn.MaxPool2d(2), nn.Conv2d(4, 6, 3)),
    "activation first": lambda: net(nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU6()),
    "batch-norm first": lambda: net(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3)),
    "hard-swish": lambda: net(nn.Conv2d(4, 6, 3), nn.Hardswish(), nn.Conv2d(6, 6, 3)),
    "resize": lambda: net(nn.Upsample((6, 6), mode="bicubic"), nn.Conv2d(4, 6, 3)),
    "mixing": lambda: net(nn.Flatten(), nn.Linear(256, 20), nn.GELU(), nn.LayerNorm(20), nn.Linear(20, 5)),
    "without weights": lambda: net(nn.AvgPool2d(2)),
    "nothing": lambda: net(nn.Identity()),
}


@pytest.mark.parametrize(("precision", "off"), [("fp16", 0.004), ("int8", 0.06)])
@pytest.mark.parametrize("name", BODIES)
def test_a_converted_block_stays_close_to_fp32(name, precision, off, samples):
    block = export_block(BODIES[name](), SHAPE)
    made = convert(block, precision, samples)
    onnx.checker.check_model(made, full_check=True)
    (expected,), (got,) = run(block, samples), run(made, samples)
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() <= off * np.abs(expected).max()
    assert made.graph.input[0] == block.graph.input[0]
    assert made.graph.output[0].name == block.graph.output[0].name


def test_fp32_is_the_block_itself(samples):
    block = export_block(classifier(), SHAPE)
    assert convert(block, "fp32", samples) is block
    assert PRECISIONS == ("fp32", "fp16", "int8")


@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.55), ("int8", 0.33)])
def test_weights_get_smaller(precision, share, samples):
    block = export_block(net(nn.Conv2d(4, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)), SHAPE)
    assert len(block_bytes(convert(block, precision, samples))) < share * len(block_bytes(block))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_gate_decides_in_float_on_the_logits_that_come_out(precision, samples):
    block = export_exit(classifier(), DECISION, SHAPE, 5)
    made = convert(block, precision, samples)
    logits, label, confidence = run(made, samples)
    np.testing.assert_array_equal(label, logits.argmax(1))
    expected = DECISION.decider.measure(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(confidence, expected, atol=1e-6)
    behind = {LOGITS}
    for node in made.graph.node:
        if behind & set(node.input):
            assert node.op_type not in ("QuantizeLinear", "DequantizeLinear", "Cast")
            behind |= set(node.output)
    assert {"label", "confidence"} <= behind


@pytest.mark.parametrize("head", ["linear", "convolution"])
def test_logits_are_on_no_grid(head, samples):
    """On 256 values many would be equal, and so would confidences."""
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    if head == "convolution":
        last = [nn.Conv2d(8, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    block = export_block(net(nn.Conv2d(4, 8, 3), nn.ReLU(), *last), SHAPE, output_names=[LOGITS])
    made = convert(block, "int8", samples)
    assert output_grid(made) is None
    logits = run(made, np.random.default_rng(1).standard_normal((600, *SHAPE)).astype(np.float32))[0]
    assert len(np.unique(logits)) > 512
    assert (logits < 0).any() == (head == "linear")


def test_grids_are_the_ranges_of_the_calibration_samples(samples):
    block = export_block(nn.Conv2d(4, 6, 3), SHAPE)
    (outputs,) = run(block, samples)
    grid = output_grid(convert(block, "int8", samples))
    assert grid.scale == pytest.approx((outputs.max() - outputs.min()) / 255, rel=1e-5)
    assert grid.zero_point == round(-outputs.min() / grid.scale)
    wide = output_grid(convert(block, "int8", 3 * samples))
    assert wide.scale > 2 * grid.scale


def test_all_samples_count_whether_the_batch_is_free_or_one(samples):
    module = nn.Conv2d(4, 6, 3)
    grids = [
        output_grid(convert(export_block(module, SHAPE, dynamic_batch=free), "int8", samples)) for free in (True, False)
    ]
    assert grids[0].zero_point == grids[1].zero_point
    assert grids[0].scale == pytest.approx(grids[1].scale, rel=1e-5)


def test_layers_with_equal_biases_are_quantised_all(samples):
    """torch writes equal tensors once; the quantiser leaves alone what two layers share."""
    twins = net(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    for layer in (twins[0], twins[2]):
        nn.init.zeros_(layer.bias)
    block = export_block(twins, SHAPE)
    made = convert(block, "int8", samples)
    constants = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    sources = {node.output[0]: node for node in made.graph.node}
    for node in made.graph.node:
        if node.op_type == "Conv":
            types = [constants[sources[name].input[0]] for name in node.input[1:]]
            assert types == [onnx.TensorProto.INT8, onnx.TensorProto.INT32]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("layers", [(), ("max-pool", "conv")])
def test_what_is_timed_is_what_is_deployed_but_for_weights(precision, layers, samples):
    spec = BranchSpec("a", tuple(map(PartSpec, layers)))
    trained, fresh = (build_branch(spec, SHAPE, 5).eval() for _ in range(2))
    deployed = convert(export_exit(trained, DECISION, SHAPE, 5), precision, samples)
    timed = convert_for_timing(export_exit(fresh, DECISION, SHAPE, 5, dynamic_batch=False), precision)
    assert operators(timed) == operators(deployed)
    assert run(timed, samples[:1])[0].shape == (1, 5)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_nothing_is_said_and_nothing_is_left_behind(scratch, samples, capfd, caplog):
    before = logging.getLogger().level, list(logging.getLogger().handlers)
    with caplog.at_level(logging.WARNING):
        convert(export_block(BODIES["resize"](), SHAPE), "int8", samples)
        convert(export_block(BODIES["classifier"](), SHAPE), "fp16", samples)
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == before
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
    assert list(scratch.iterdir()) == []


def test_a_block_that_cannot_be_converted_is_a_sentence(scratch, samples, monkeypatch):
    def fail(*_, **__):
        raise KeyError("cannot quantise Foo\nat node 7")

    monkeypatch.setattr(int8.quantization, "quantize_static", fail)
    with pytest.raises(BackboneError, match=r"cannot be converted to int8 \('cannot quantise Foo.*leave int8 out of"):
        convert(export_block(classifier(), SHAPE), "int8", samples)
    assert list(scratch.iterdir()) == []


def test_int8_without_samples_is_refused():
    with pytest.raises(BackboneError, match="needs samples"):
        convert(export_block(classifier(), SHAPE), "int8")


def test_fp16_says_nothing_of_weights_out_of_its_range(samples, recwarn):
    huge = nn.Conv2d(4, 2, 1)
    nn.init.constant_(huge.weight, 1e6)
    made = module.convert(export_block(huge, SHAPE), "fp16")
    assert np.isfinite(run(made, np.zeros((1, *SHAPE), np.float32))[0]).all()
    assert [str(warning.message) for warning in recwarn if "truncated" in str(warning.message)] == []
