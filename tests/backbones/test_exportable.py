from __future__ import annotations

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import thop
import torch

from aebnas.backbones.cut import cut_backbone

SHAPE = (2, 8, 8)


@pytest.mark.parametrize("name", ["residual", "pre-activation", "depthwise", "plain", "tokens"])
def test_spans_export_to_onnx_with_a_free_batch(make, images, name):
    cut = cut_backbone(make(name), SHAPE, modules=["add_2"] if name == "tokens" else None).eval()
    x = images
    for index in range(len(cut.segments)):
        span, buffer = cut.span(index, index + 1), io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                span, (x[:1].detach(),), buffer, dynamo=False, opset_version=17, input_names=["x"], output_names=["y"],
                dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            )  # fmt: skip
        session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
        expected = span(x)
        for batch in (1, 5):
            (got,) = session.run(None, {"x": x[:batch].detach().numpy()})
            np.testing.assert_allclose(got, expected[:batch].detach().numpy(), rtol=1e-4, atol=1e-5)
        x = expected


@pytest.mark.parametrize("name", ["residual", "dense", "depthwise"])
def test_thop_counts_the_layers_of_a_span(make, name):
    cut = cut_backbone(make(name).eval(), SHAPE)
    points = cut.attach_points

    def convolutions(module, inputs, output):
        module.total_ops += output[0].numel() * module.weight[0].numel()

    def nothing(module, inputs, output):
        pass

    kinds = {torch.nn.BatchNorm2d: nothing, torch.nn.ReLU: nothing, torch.nn.Conv2d: convolutions}
    span = cut.span(1, len(points))
    macs, _ = thop.profile(span, (torch.zeros(1, *points[0].shape),), custom_ops=kinds, verbose=False)
    assert macs == points[-1].macs - points[0].macs
