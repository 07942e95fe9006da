"""One suite that every confidence measure has to pass, and each measure against its formula in float64."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from aebnas.errors import InputError
from aebnas.exits.confidence import CONFIDENCES, build_confidence


def formula(name, logits):
    z = logits.double().numpy()
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    top = np.sort(p, axis=1)
    match name:
        case "max-probability":
            return top[:, -1]
        case "margin":
            return top[:, -1] - top[:, -2]
        case "entropy":
            return 1 + (p * np.log(np.maximum(p, 1e-300))).sum(axis=1) / np.log(z.shape[1])
    raise AssertionError(f"no formula for {name}")


@pytest.fixture(params=list(CONFIDENCES))
def name(request):
    return request.param


def draw_logits(classes, seed=0):
    return torch.randn(64, classes, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_is_its_formula(name, classes):
    logits = draw_logits(classes)
    confidence = build_confidence(name)(logits)
    assert confidence.shape == (64,)
    assert confidence.dtype == torch.float32
    assert np.allclose(confidence.numpy(), formula(name, logits), atol=1e-5)


def test_stays_between_0_and_1_at_the_extremes(name):
    logits = torch.tensor([[0.0, 0.0, 0.0], [1e4, -1e4, 0.0], [88.0, 88.0, 88.0], [1e-8, 0.0, 0.0]])
    confidence = build_confidence(name)(logits)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert confidence.argmax() == 1


def test_a_larger_lead_is_surer(name):
    lead = torch.linspace(0, 8, 20)
    logits = torch.stack([lead, torch.zeros(20), torch.zeros(20)], dim=1)
    assert (build_confidence(name)(logits).diff() > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_gives_float32_for_other_precisions(name, dtype):
    assert build_confidence(name)(draw_logits(5).to(dtype)).dtype == torch.float32


def test_one_class_is_refused(name):
    with pytest.raises(InputError, match="2 classes"):
        build_confidence(name)(torch.zeros(4, 1))


@pytest.mark.parametrize("classes", [2, 10])
def test_exports_to_onnx_with_any_batch(name, classes):
    module, file = build_confidence(name), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (draw_logits(classes)[:1],),
            file,
            opset_version=17,
            dynamo=False,
            input_names=["logits"],
            output_names=["confidence"],
            dynamic_axes={"logits": {0: "n"}, "confidence": {0: "n"}},
        )
    onnx.checker.check_model(onnx.load_from_string(file.getvalue()))
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    logits = draw_logits(classes, seed=1)
    (confidence,) = session.run(None, {"logits": logits.numpy()})
    assert np.allclose(confidence, module(logits).numpy(), atol=1e-6)


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(InputError, match="did you mean 'margin'"):
        build_confidence("margins")
