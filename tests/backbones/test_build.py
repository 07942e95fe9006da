from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from aebnas.backbones.build import BACKBONES, build_backbone, load_checkpoint, state_fingerprint
from aebnas.backbones.cut import cut_backbone
from aebnas.backbones.settings import BackboneSettings
from aebnas.errors import BackboneError

OPTIONS = {"resnet": {"depth": 8, "width": 4}, "inverted-residual": {"width": 4, "blocks": 1}, "convnet": {"width": 4}}

FACTORIES = """
from torch import nn

class Tiny(nn.Sequential):
    def __init__(self, num_classes=3, input_shape=(2, 8, 8), hidden=4):
        c, h, w = input_shape
        head = nn.Linear(hidden * (h - 2) * (w - 2), num_classes)
        super().__init__(nn.Conv2d(c, hidden, 3), nn.ReLU(), nn.Flatten(), head)

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
    def forward(self, x):
        return x.flatten(1), x.flatten(1)

class Squeezed(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(2, num_classes, 8)
    def forward(self, x):
        return self.conv(x).squeeze()

def keywords(**kwargs):
    return Tiny(**kwargs)

def fixed():
    return Tiny(num_classes=7)

def mapping(): return {"logits": 1}
def wrong_input(num_classes): return nn.Linear(5, num_classes)
def images(num_classes): return nn.Conv2d(2, num_classes, 3)
number = 3
"""


@pytest.fixture(autouse=True)
def factories(tmp_path, monkeypatch):
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(str(tmp_path))


def build(name="resnet", **settings):
    return build_backbone(BackboneSettings(name=name, **settings), num_classes=3, input_shape=(2, 8, 8))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 20), (2, 3, 3)])
@pytest.mark.parametrize("name", list(BACKBONES))
def test_built_in_backbones_take_any_image_and_can_be_cut_and_trained(name, shape):
    model = build_backbone(BackboneSettings(name=name, options=OPTIONS[name]), num_classes=5, input_shape=shape)
    cut = cut_backbone(model, shape, max_points=2)
    assert len(cut.attach_points) == 2
    logits = cut.train()(torch.randn(4, *shape))
    assert logits.shape == (4, 5)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_resnet_20_is_the_papers():
    model = build_backbone(BackboneSettings(), num_classes=10, input_shape=(3, 32, 32))
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m.weight.shape[2:] != (1, 1)]
    assert len(layers) == 20
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.27e6, rel=0.02)  # table 6 of arXiv 1512.03385


@pytest.mark.parametrize("name", ["Tiny", "keywords"])
def test_a_callable_gets_what_its_signature_has(name):
    model = build(f"my_factories:{name}", options={"hidden": 6})
    assert model[0].out_channels == 6
    assert model[3].out_features == 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet", {"depth": 21}, "depth of a resnet must be 6n"),
        ("resnet", {"width": 0}, "options.width must be at least 1"),
        ("resnet", {"dept": 20}, "did you mean 'depth'"),
        ("convnet", {"depth": 2}, "options.depth must be at least 3"),
        ("inverted-residual", {"blocks": 0}, "options.blocks must be at least 1"),
        ("resnett", {}, "did you mean 'resnet'"),
        ("no_such_package:f", {}, "cannot import 'no_such_package'"),
        ("my_factories:Tinny", {}, "did you mean 'Tiny'"),
        ("my_factories:number", {}, "name a callable"),
        ("my_factories:mapping", {}, "gives a dict: let it give an nn.Module"),
        ("my_factories:Pair", {}, "returns a tuple, not one tensor of logits"),
        ("my_factories:Squeezed", {}, r"returns shape \(3,\) for a batch of 1"),
        ("my_factories:fixed", {}, "gives 7 classes and the data set has 3"),
        ("my_factories:wrong_input", {}, r"fails on a batch of 2 with input of shape \(2, 8, 8\)"),
        ("my_factories:images", {}, "one row of logits per sample"),
        ("my_factories:keywords", {"hidden": "many"}, "cannot be built with options"),
    ],
)
def test_what_cannot_be_built_says_why(name, options, message):
    with pytest.raises(BackboneError, match=message):
        build(name, options=options)


@pytest.mark.parametrize("name", list(BACKBONES))
def test_built_in_backbones_take_images_only(name):
    with pytest.raises(BackboneError, match="take images"):
        build_backbone(BackboneSettings(name=name), num_classes=2, input_shape=(10,))


def test_settings_refuse_unknown_keys():
    with pytest.raises(ValidationError, match="checkpont"):
        BackboneSettings(checkpont="x.pt")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {"model_state": state},
    ],
)
def test_a_checkpoint_in_any_usual_wrapping(tmp_path, wrap):
    source = build(options=OPTIONS["resnet"])
    torch.save(wrap(source.state_dict()), tmp_path / "weights.pt")
    loaded = build(options=OPTIONS["resnet"], checkpoint=tmp_path / "weights.pt")
    assert state_fingerprint(loaded) == state_fingerprint(source)


def without_head(state):
    return {key: value for key, value in state.items() if key != "head.bias"}


class NotPlain:
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without_head, "lacks head.bias"),
        (lambda state: {**state, "extra": torch.zeros(1)}, "has unknown extra"),
        (lambda state: {**state, "head.bias": torch.zeros(5)}, r"wrong shape for head.bias \(\(5,\) instead of \(3,\)"),
        (lambda state: {**state, "head.bias": "text"}, r"wrong shape for head.bias \(str instead of \(3,\)"),
        (lambda state: {**state, "head.bias": state["head.bias"] * 1j}, r"head.bias \(complex \(3,\) instead of"),
        (lambda state: {**state, "head.bias": state["head.bias"] / 0}, "NaN or infinite in head.bias: give one of"),
        (lambda state: {}, "holds no state_dict"),
        (lambda state: [1, 2], "holds no state_dict"),
    ],
)
def test_a_checkpoint_of_another_model_is_named(tmp_path, content, message):
    path = tmp_path / "weights.pt"
    model = build(options=OPTIONS["resnet"])
    before = state_fingerprint(model)
    torch.save(content(model.state_dict()), path)
    with pytest.raises(BackboneError, match=message) as caught:
        load_checkpoint(model, path)
    assert str(path) in str(caught.value)
    assert state_fingerprint(model) == before


def test_files_that_are_no_weights(tmp_path):
    model = build(options=OPTIONS["resnet"])
    with pytest.raises(BackboneError, match="does not exist"):
        load_checkpoint(model, tmp_path / "nowhere.pt")
    torch.save(model, tmp_path / "pickled.pt")  # a whole module: code would have to run to read it
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "junk.pt").write_text("junk")
    torch.save(model.state_dict(), tmp_path / "half.pt")
    whole = (tmp_path / "half.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    for name in ("pickled.pt", "empty.pt", "text.pt", "junk.pt", "half.pt"):
        with pytest.raises(BackboneError, match=f"{name} cannot be read as weights") as caught:
            load_checkpoint(model, tmp_path / name)
        assert "weights_only" not in str(caught.value)  # torch's own advice would run the file's code


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(:", r"importing '{module}' fails \(.*syntax.*\): repair that module"),
        ("raise RuntimeError('no device')", r"importing '{module}' fails \(no device\)"),
        ("raise SystemExit(3)", r"importing '{module}' fails \(3\)"),
        ("def make():\n    open('/nowhere/x')", r"cannot be built with options {{}} \(.*No such file"),
        ("def make():\n    raise SystemExit", r"cannot be built with options {{}} \(SystemExit\)"),
        ("class Own(Exception): pass\ndef make():\n    raise Own('mine')", r"cannot be built .*\(mine\)"),
    ],
)
def test_whatever_a_users_module_raises_is_told(tmp_path, monkeypatch, code, message):
    module = f"user_code_{abs(hash(code))}"
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackboneError, match=message.format(module=module)):
        build(name=f"{module}:make")


def test_the_fingerprint_sees_every_tensor():
    model = build(options=OPTIONS["resnet"])
    seen = {state_fingerprint(model)}
    assert state_fingerprint(copy.deepcopy(model)) in seen
    for name, tensor in model.state_dict().items():
        changed = copy.deepcopy(model)
        changed.state_dict()[name].add_(1)
        seen.add(state_fingerprint(changed))
        assert tensor is not changed
    assert len(seen) == 1 + len(model.state_dict())
