"""What every layer and every head must do: a new one is tested by being registered."""

from __future__ import annotations

import itertools

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from aebnas.branches.build import Branch, build_branch, fits, make_head, make_layer
from aebnas.branches.heads import HEADS
from aebnas.branches.layers import LAYERS, output_shape
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.costs.macs import count_macs
from aebnas.errors import BranchError
from aebnas.export.blocks import block_bytes, export_block

CLASSES = 5
SHAPES = [(3, 8, 8), (8, 7, 7), (16, 12, 8), (4, 28, 28)]
TOKENS = [(5, 8), (17, 12)]
OPTIONS = {
    "conv": [{}, {"kernel": 1}, {"kernel": 5, "stride": 4, "channels": 2}, {"stride": 2, "channels": 0.5}],
    "dsconv": [{}, {"kernel": 5, "stride": 3}, {"stride": 2, "channels": 1.5}],
    "max-pool": [{}, {"kernel": 2, "stride": 1}, {"kernel": 5, "stride": 3}],
    "average-pool": [{}, {"kernel": 2}, {"kernel": 5, "stride": 1}],
    "shrink": [{}, {"factor": 3}],
    "resize": [{}, {"size": 10}, {"size": 5}],
    "grid-linear": [{"size": 1}],
    "expand-mix": [{}, {"expand": 2, "mix": 12}],
    "token-mlp": [{}, {"ratio": 0.5}, {"ratio": 4}],
    "token-attention": [{}, {"width": 1, "heads": 2}],
    "token-linear": [{}, {"pool": "class"}],
    "prototype-pooling": [{}, {"width": 6, "prototypes": 3}],
}


def parts(kinds) -> list[PartSpec]:
    return [PartSpec.of(kind, **options) for kind in kinds for options in OPTIONS.get(kind, [{}])]


def cases(kinds) -> list[tuple[PartSpec, tuple[int, ...]]]:
    for_tokens = [kind for kind in kinds if kind.startswith("token-")]
    for_maps = [kind for kind in kinds if kind not in for_tokens]
    return [*itertools.product(parts(for_maps), SHAPES), *itertools.product(parts(for_tokens), TOKENS)]


LAYER_CASES = cases(LAYERS)
HEAD_CASES = [
    *cases(HEADS),
    *((PartSpec("grid-linear"), shape) for shape in SHAPES if shape[1] % 2 == 0),
    (PartSpec.of("grid-linear", size=4), (4, 28, 28)),
]
CASES = [*((make_layer, case) for case in LAYER_CASES), *((make_head, case) for case in HEAD_CASES)]


def named(cases) -> list:
    return [pytest.param(make, *case, id=f"{case[0]}-{'x'.join(map(str, case[1]))}") for make, case in cases]


every_part = pytest.mark.parametrize(("make", "part", "shape"), named(CASES))
# Exporting is slow: an odd and an even map say all that the others would.
every_exported = pytest.mark.parametrize(
    ("make", "part", "shape"), named([case for case in CASES if case[1][1] in (*SHAPES[1:3], *TOKENS)])
)


def build(make, part, shape) -> nn.Module:
    torch.manual_seed(0)
    module = make(part, shape) if make is make_layer else make(part, shape, CLASSES)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):  # the statistics of a fresh one are those of the identity
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return module


def samples(shape, count=4) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


@every_part
def test_the_output_has_the_shape_that_was_said(make, part, shape):
    module = build(make, part, shape)
    result = module(samples(shape))
    assert result.shape == (4, *output_shape(module, shape))
    assert result.dtype == torch.float32
    if make is make_head:
        assert result.shape == (4, CLASSES)
    with torch.device("meta"):
        assert output_shape(build(make, part, shape), shape) == result.shape[1:]


@every_part
def test_gradients_reach_the_input_and_every_weight(make, part, shape):
    module = build(make, part, shape).train()
    images = samples(shape).requires_grad_()
    # Squared, since the plain sum behind a batch-norm has no gradient.
    module(images).square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert torch.isfinite(images.grad).all()
    for weight in module.parameters():
        assert weight.grad.abs().sum() > 0


@every_part
def test_a_sample_does_not_depend_on_its_batch_mates(make, part, shape):
    module = build(make, part, shape).eval()
    images = samples(shape)
    with torch.no_grad():
        together, alone = module(images), torch.cat([module(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@every_part
def test_modes_and_input_are_left_alone(make, part, shape):
    module, images = build(make, part, shape).train(), samples(shape)
    kept, statistics = images.clone(), [buffer.clone() for buffer in module.buffers()]
    output_shape(module, shape)
    assert all(layer.training for layer in module.modules())
    assert all(map(torch.equal, module.buffers(), statistics))
    module(images)
    assert torch.equal(images, kept)


@every_exported
def test_onnx_gives_the_same_numbers_for_any_batch(make, part, shape):
    module = build(make, part, shape)
    session = onnxruntime.InferenceSession(block_bytes(export_block(module, shape)))
    module.eval()
    for count in (1, 3):
        images = samples(shape, count)
        (result,) = session.run(None, {"input": images.numpy()})
        np.testing.assert_allclose(result, module(images).detach().numpy(), atol=1e-4)


@every_exported
def test_its_macs_are_counted_completely(make, part, shape):
    module = build(make, part, shape)
    count = count_macs(module, shape)
    assert count.missed == 0
    has_products = any(isinstance(layer, nn.Conv2d | nn.Linear) for layer in module.modules())
    assert count.macs >= (sum(weight.numel() for weight in module.parameters() if weight.ndim > 1))
    assert count.macs > 0 or not has_products


def refused(kind: str) -> tuple[str, list[tuple[int, ...]]]:
    """What a layer or head needs, and what it refuses."""
    if kind.startswith("token-"):
        return "tokens", [(), (8,), (8, 4, 4), (8, 4, 4, 4)]
    return "a map", [(), (8,), (8, 4), (8, 4, 4, 4)]


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind not in ("relu", "hard-swish")])
def test_a_layer_for_maps_refuses_tokens_and_the_other_way_round(kind):
    needed, shapes = refused(kind)
    for shape in shapes:
        with pytest.raises(BranchError, match=f"layer '{kind}' needs {needed}"):
            make_layer(PartSpec(kind), shape)


@pytest.mark.parametrize("kind", list(HEADS))
def test_a_head_for_maps_refuses_tokens_and_the_other_way_round(kind):
    needed, shapes = refused(kind)
    for shape in shapes:
        with pytest.raises(BranchError, match=f"head '{kind}' needs {needed}"):
            make_head(PartSpec(kind), shape, CLASSES)


@pytest.mark.parametrize(
    ("part", "shape", "sentence"),
    [
        (PartSpec.of("conv", kernel=5), (4, 4, 4), "kernel 5 and stride 1 does not fit a 4-pixel map"),
        (PartSpec.of("conv", kernel=3), (4, 2, 9), "kernel 3 and stride 1 does not fit a 2-pixel map"),
        (PartSpec.of("conv", kernel=1, stride=4), (4, 3, 3), "kernel 1 and stride 4 does not fit a 3-pixel map"),
        (PartSpec.of("dsconv", kernel=5), (4, 4, 4), "does not fit a 4-pixel map"),
        (PartSpec.of("max-pool", kernel=3), (4, 2, 2), "does not fit a 2-pixel map"),
        (PartSpec.of("average-pool", kernel=5), (4, 9, 4), "does not fit a 4-pixel map"),
        (PartSpec.of("shrink", factor=3), (4, 2, 2), "'shrink' by 3 does not fit a 2-pixel map"),
    ],
)
def test_a_layer_that_does_not_fit_allocates_nothing(part, shape, sentence, monkeypatch):
    made = []
    monkeypatch.setattr(nn.Module, "__init__", lambda *_, **__: made.append(1))
    with pytest.raises(BranchError, match=sentence):
        make_layer(part, shape)
    assert made == []


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_grid_that_does_not_divide_the_map_allocates_nothing(size, monkeypatch):
    made = []
    monkeypatch.setattr(nn.Module, "__init__", lambda *_, **__: made.append(1))
    with pytest.raises(BranchError, match=f"'grid-linear' with size {size} does not divide a 7x12 map"):
        make_head(PartSpec.of("grid-linear", size=size), (4, 7, 12), CLASSES)
    assert made == []


def test_a_branch_passes_the_shapes_along():
    layers = (PartSpec.of("conv", stride=2, channels=2), PartSpec("batch-norm"), PartSpec("relu"), PartSpec("max-pool"))
    spec = BranchSpec("stem", layers, PartSpec.of("grid-linear", size=2))
    branch = build_branch(spec, (6, 16, 16), CLASSES)
    assert isinstance(branch, Branch)
    assert branch.spec == spec
    assert branch(samples((6, 16, 16))).shape == (4, CLASSES)
    # 6 x 16 x 16 -> 12 x 8 x 8 -> 12 x 4 x 4 -> four regions of 12 channels
    assert branch[-1][-1].weight.shape == (CLASSES, 12 * 4)


def test_fitting_allocates_no_weights():
    # 4 * 8 * 2**26 weights would be 8 GiB.
    spec = BranchSpec("stem", (PartSpec.of("conv", kernel=1, channels=8),) * 6)
    assert fits(spec, (256, 64, 64), 10**6)
    assert not fits(BranchSpec("stem", (PartSpec.of("shrink", factor=4),) * 2), (4, 15, 15), 10)
    assert not fits(BranchSpec("stem", (), PartSpec.of("grid-linear", size=4)), (4, 15, 15), 10)
