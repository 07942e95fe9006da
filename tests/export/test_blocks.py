from __future__ import annotations

import io
import os

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from aebnas.errors import BackboneError
from aebnas.export.blocks import OPSET, block_bytes, export_block, output_shape


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.9), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)
    )


def run(model: onnx.ModelProto, *inputs: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString())
    return session.run(None, {node.name: value for node, value in zip(session.get_inputs(), inputs, strict=True)})[0]


@pytest.mark.parametrize("batch", [1, 5])
def test_a_block_gives_what_the_module_gives_in_eval_mode(batch):
    module = small()
    images = torch.randn(batch, 2, 6, 6)
    model = export_block(module, (2, 6, 6), output_names=["logits"])
    onnx.checker.check_model(model, full_check=True)
    with torch.no_grad():
        expected = module.eval()(images).numpy()
    np.testing.assert_allclose(run(model, images.numpy()), expected, rtol=1e-4, atol=1e-5)


def test_a_fixed_batch_is_one():
    model = export_block(small(), (2, 6, 6), dynamic_batch=False)
    shapes = [[size.dim_value for size in value.type.tensor_type.shape.dim] for value in model.graph.input]
    assert shapes == [[1, 2, 6, 6]]


def test_each_part_keeps_its_own_mode():
    module = small().train()
    module[1].eval()
    before = [part.training for part in module.modules()]
    export_block(module, (2, 6, 6))
    output_shape(module, (2, 6, 6))
    assert [part.training for part in module.modules()] == before
    assert True in before and False in before


def test_exporting_changes_no_statistics():
    module = small().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    export_block(module, (2, 6, 6))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_several_inputs():
    class Add(nn.Module):
        def forward(self, a, b):
            return a + b.sum(dim=(2, 3))

    model = export_block(Add(), [(3,), (3, 2, 2)], input_names=["a", "b"])
    result = run(model, np.ones((4, 3), np.float32), np.ones((4, 3, 2, 2), np.float32))
    np.testing.assert_array_equal(result, np.full((4, 3), 5, np.float32))


def test_equal_modules_give_equal_bytes():
    assert block_bytes(export_block(small(), (2, 6, 6))) == block_bytes(export_block(small(), (2, 6, 6)))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7), (4, 1), (3, 4)])
def test_maps_are_pooled_to_any_size(size):
    maps = torch.randn(2, 3, 4, 6)
    pooling = nn.AdaptiveAvgPool2d(size)
    model = export_block(pooling, (3, 4, 6))
    np.testing.assert_allclose(run(model, maps.numpy()), pooling(maps).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("size", [(1, 1), (2, 3)])
def test_pooling_that_pytorch_can_write_is_written_as_it_does(size):
    pooling, plain = nn.AdaptiveAvgPool2d(size), io.BytesIO()
    torch.onnx.export(pooling, (torch.zeros(2, 3, 4, 6),), plain, opset_version=OPSET, dynamo=False)
    node, expected = (
        model.graph.node[0] for model in (export_block(pooling, (3, 4, 6)), onnx.load_from_string(plain.getvalue()))
    )
    assert (node.op_type, list(node.attribute)) == (expected.op_type, list(expected.attribute))


def test_a_vgg_of_small_images_is_exported():
    """Its classifier wants maps of 7x7, whatever comes."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(), nn.Linear(196, 5)).eval()
    images = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        expected = module(images).numpy()
    np.testing.assert_allclose(run(export_block(module, (3, 9, 9)), images.numpy()), expected, rtol=1e-4, atol=1e-5)


class Odd(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


def test_what_onnx_cannot_say_is_one_sentence():
    with pytest.raises(BackboneError, match=r"Odd cannot be written as ONNX .*bessel_j0"):
        export_block(Odd(), (3,))


def test_a_failed_export_prints_no_graph_and_leaves_stderr_as_it_was(capfd):
    with pytest.raises(BackboneError):
        export_block(Odd(), (3,))
    os.write(2, b"still here")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "still here"


def test_output_shape_has_no_batch():
    assert output_shape(nn.Conv2d(2, 3, 3), (2, 6, 5)) == (3, 4, 3)
