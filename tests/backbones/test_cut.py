from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from aebnas.backbones.cut import AttachPoint, cut_backbone
from aebnas.errors import BackboneError, TraceError

SHAPE = (2, 8, 8)


class Swap(TorchFunctionMode):
    """While the untouched model runs, puts ``new`` wherever an operation gives ``old``."""

    def __init__(self, old, new):
        super().__init__()
        self.old, self.new, self.hits = old, new, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.shape == self.old.shape and torch.equal(out, self.old):
            self.hits += 1
            out.copy_(self.new)
        return out


def assert_same_training_step(model, reference, images):
    losses = []
    for network in (model, reference):
        network.train()
        torch.manual_seed(3)
        loss = (network(images.clone()) ** 2).sum()
        loss.backward()
        losses.append(loss.detach())
    assert torch.equal(*losses)


def test_eval_mode_gives_the_backbones_own_output_for_any_batch_size(net, images):
    reference = copy.deepcopy(net).eval()
    cut = cut_backbone(net, SHAPE).eval()
    assert cut.attach_points
    for batch in (1, 2, 5):
        x = images[:batch]
        assert torch.equal(cut(x.clone()), reference(x.clone()))


def test_train_mode_gives_the_same_output_gradients_and_statistics(net, images):
    reference = copy.deepcopy(net)
    before = copy.deepcopy(net.state_dict())
    cut = cut_backbone(net, SHAPE)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items()), "cutting ran the model"
    for _ in range(2):
        assert_same_training_step(cut, reference, images)
    gradients = [(p.grad, q.grad) for p, q in zip(net.parameters(), reference.parameters(), strict=True)]
    assert all(torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6) for ours, theirs in gradients)
    for ours, theirs in zip(net.buffers(), reference.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    cut.eval(), reference.eval()
    assert torch.equal(cut(images.clone()), reference(images.clone()))


def test_segments_hold_the_backbones_own_parameters(net):
    parameters = {id(p) for p in net.parameters()}
    keys = list(net.state_dict())
    cut = cut_backbone(net, SHAPE)
    assert {id(p) for segment in cut.segments for p in segment.parameters()} == parameters
    assert [id(p) for p in cut.parameters()] == [id(p) for p in net.parameters()]
    assert list(cut.state_dict()) == [f"model.{key}" for key in keys]
    assert list(net.state_dict()) == keys


def test_logits_depend_on_nothing_but_the_tensor_at_an_attach_point(net, images):
    net.eval()
    cut = cut_backbone(net, SHAPE, max_points=9)
    one, other = images[:2], images[2:4]
    with torch.no_grad():
        of_one, of_other = cut.features(one.clone()), cut.features(other.clone())
        for point, old, new in zip(cut.attach_points, of_other, of_one, strict=False):
            assert tuple(old.shape[1:]) == point.shape
            with Swap(old, new) as swap:
                logits = net(other.clone())
            assert swap.hits, f"{point.name} is not a value of the model itself"
            torch.testing.assert_close(logits, of_one[-1], msg=f"{point.name} is no cut")


def test_the_check_above_can_fail(make, images):
    net = make("residual").eval()
    inside = []
    handle = net.blocks[1].conv1.register_forward_hook(lambda module, args, out: inside.append(out.clone()))
    with torch.no_grad():
        logits = net(images[:2])
        net(images[2:4])
        handle.remove()
        with Swap(inside[1], inside[0]) as swap:
            swapped = net(images[2:4])
    assert swap.hits == 1
    assert not torch.allclose(swapped, logits)


def test_later_segments_do_not_change_features(net, images):
    cut = cut_backbone(net, SHAPE, max_points=9).eval()
    x, alone = images, []
    with torch.no_grad():
        for segment in cut.segments:
            x = segment(x.clone())
            alone.append(x.clone())
        for ours, theirs in zip(cut.features(images.clone()), alone, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("mode", [True, False])
def test_a_point_before_an_in_place_activation_keeps_its_values(make, images, mode):
    net = make("plain").train(mode)
    cut = cut_backbone(net, SHAPE, modules=["features.0", "features.3"])
    first = net.features[0](images)
    assert (first < 0).any()
    assert torch.equal(cut.features(images)[0], first)


def test_spans_compose(make, images):
    cut = cut_backbone(make("depthwise"), SHAPE).eval()
    features = cut.features(images)
    count = len(cut.segments)
    assert count == len(cut.attach_points) + 1
    assert torch.equal(cut.span(0, count)(images), features[-1])
    assert torch.equal(cut.span(1, 3)(features[0]), features[2])
    for bad in ((0, 0), (2, 1), (0, count + 1), (-1, 1)):
        with pytest.raises(BackboneError, match="no span"):
            cut.span(*bad)


def test_named_places(make):
    cut = cut_backbone(make("residual"), SHAPE, max_points=1, modules=["blocks.1", "stem.1"])
    assert [point.name for point in cut.attach_points] == ["stem.1", "blocks.1"]
    assert cut.attach_points[0] == AttachPoint("stem.1", (4, 8, 8), 2 * 4 * 9 * 64)
    assert cut.attach_points[1].macs == 2 * 4 * 9 * 64 + 2 * 2 * 4 * 4 * 9 * 64


@pytest.mark.parametrize(
    ("net_name", "modules", "message"),
    [
        ("residual", ["blocks.0.conv1"], "'blocks.0.conv1' is no place.*stem.*blocks.0"),
        ("residual", ["fc"], "'fc' is no place"),
        ("residual", ["block.1"], "did you mean 'blocks.1'"),
        ("residual", ["blocks.1", "blocks.1.relu"], "the same place"),
        ("shared", ["act"], "'act' is passed 3 times: name one of act@1, act@2, act@3"),
    ],
)
def test_names_that_are_no_place(make, net_name, modules, message):
    with pytest.raises(TraceError, match=message):
        cut_backbone(make(net_name), SHAPE, modules=modules)


def test_calls_of_one_module_are_told_apart(make, images):
    net = make("shared").eval()
    cut = cut_backbone(net, SHAPE, modules=["act@2"])
    x = net.act(net.stem(images))
    assert torch.equal(cut.features(images)[0], net.act(x + net.block(x)))


def test_tokens_of_a_transformer_can_be_named(make, images):
    net = make("tokens").eval()
    cut = cut_backbone(net, SHAPE, modules=["add_2"])
    assert cut.attach_points[0].shape == (17, 6)
    for batch in (1, 5):
        assert torch.equal(cut(images[:batch]), net(images[:batch]))


def test_no_points_is_an_error():
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    with pytest.raises(TraceError, match=r"no place inside it.*attach\.modules"):
        cut_backbone(model, SHAPE)
    with pytest.raises(BackboneError, match="max_points must be at least 1"):
        cut_backbone(model, SHAPE, max_points=0)


def test_vectors_can_be_cut_too():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    cut = cut_backbone(model, (6,))
    assert [(point.name, point.shape, point.macs) for point in cut.attach_points] == [("1", (8,), 48), ("3", (8,), 112)]


def test_a_copy_is_independent_and_shares_within_itself(net, images):
    cut = cut_backbone(net, SHAPE)
    twin = copy.deepcopy(cut)
    assert {id(p) for s in twin.segments for p in s.parameters()} == {id(p) for p in twin.model.parameters()}
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not torch.equal(cut.eval()(images.clone()), twin.eval()(images.clone()))


def test_weights_saved_from_the_backbone_reach_the_segments(make, images):
    source = make("modes")
    cut = cut_backbone(make("modes"), SHAPE).eval()
    with torch.no_grad():
        for tensor in [*source.parameters(), *source.buffers()]:
            tensor.add_(0.1)
    cut.model.load_state_dict(source.state_dict())
    assert torch.equal(cut(images), source.eval()(images))


@pytest.mark.parametrize("name", ["modes", "tokens", "residual"])
def test_segments_follow_the_backbone_to_another_dtype(make, images, name):
    reference = make(name)
    cut = cut_backbone(make(name), SHAPE, modules=["add_2"] if name == "tokens" else None).double()
    reference.double()
    assert_same_training_step(cut, reference, images.double())
    for ours, theirs in zip(cut.model.buffers(), reference.buffers(), strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


def test_modes_reach_segments_but_a_frozen_layer_stays_frozen(images):
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
            return self

    net = Frozen(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 6), nn.Flatten()).train()
    cut = cut_backbone(net, SHAPE).train()
    assert not net[1].training
    assert net[3].training
    statistics = net[1].running_mean.clone()
    cut(images)
    assert torch.equal(net[1].running_mean, statistics)
    assert cut.span(0, 1).training
    assert not cut.eval().span(0, 1).training


def test_functional_dropout_follows_the_mode(make, images):
    cut = cut_backbone(make("plain").eval(), SHAPE)
    assert torch.equal(cut(images), cut(images))
    cut.train()
    assert not torch.equal(cut(images), cut(images))


def test_cutting_leaves_modes_weights_and_random_state_alone(make):
    net = make("modes").train()
    net.blocks[0].eval()
    modes, state = [m.training for m in net.modules()], torch.get_rng_state()
    cut_backbone(net, SHAPE)
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


class Counting(nn.Module):
    """Keeps its own statistics in both modes, in buffers that are changed in place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        self.mean.mul_(0.5).add_(x.detach().mean((0, 2, 3)))
        return x + self.mean[:, None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_buffers_that_a_traced_module_changes_stay_the_backbones_own(images, dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), Counting(), nn.ReLU(), nn.Conv2d(4, 3, 6), nn.Flatten())
    reference = copy.deepcopy(net).to(dtype)
    cut = cut_backbone(net, SHAPE).to(dtype)
    for _ in range(3):
        assert torch.equal(cut(images.to(dtype)), reference(images.to(dtype)))
    assert net[1].mean.dtype == dtype
    assert torch.equal(net[1].mean, reference[1].mean)


def test_a_module_that_hands_back_its_input_is_no_place():
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Sequential(), nn.ReLU(), nn.Conv2d(4, 3, 6), nn.Flatten())
    with pytest.raises(TraceError, match="no single-tensor cut '1'"):
        cut_backbone(net, SHAPE, modules=["1"])
