from __future__ import annotations

import pytest
import torch

from aebnas.backbones.build import build_backbone
from aebnas.backbones.settings import BackboneSettings
from aebnas.errors import TrainingError
from aebnas.progress import Progress
from aebnas.training.backbone import _statistics_that_follow, train_backbone
from aebnas.training.fit import accuracy_of
from aebnas.training.settings import BackboneFitSettings

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["convnet", "resnet", "inverted-residual"])
def test_every_packaged_backbone_learns(toy_data, name):
    torch.manual_seed(0)
    options = {"convnet": {"depth": 3, "width": 4}, "resnet": {"depth": 8, "width": 4}}.get(name, {})
    model = build_backbone(BackboneSettings(name=name, options=options), num_classes=4, input_shape=(1, 8, 8))
    settings = BackboneFitSettings(epochs=5, batch_size=32, lr=0.1)
    result = train_backbone(model, toy_data, settings, seed=0, device=CPU, progress=Progress())
    assert result.best[0] > 0.5  # of four classes
    assert accuracy_of(lambda x: [model(x)], toy_data.validation, CPU) == pytest.approx(result.best)


def test_statistics_follow_the_weights_in_short_epochs(toy_data):
    """MobileNetV3 and MnasNet of torchvision come with a momentum for epochs of thousands of steps."""
    torch.manual_seed(0)
    settings = BackboneSettings(name="convnet", options={"depth": 3, "width": 4})
    model = build_backbone(settings, num_classes=4, input_shape=(1, 8, 8))
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in layers:
        layer.momentum = 3e-4
        layer.running_mean.fill_(5.0)  # as far off as those of a deep network
    settings = BackboneFitSettings(epochs=5, batch_size=32, lr=0.1)
    result = train_backbone(model, toy_data, settings, seed=0, device=CPU, progress=Progress())
    assert result.best[0] > 0.5
    assert layers and all(layer.momentum == 3e-4 for layer in layers)


def test_statistics_are_left_as_they_are_in_long_epochs():
    layer = torch.nn.BatchNorm2d(2, momentum=0.01)
    with _statistics_that_follow(layer, 8):
        assert layer.momentum == 0.1
    with _statistics_that_follow(layer, 1000):
        assert layer.momentum == 0.01


def test_a_backbone_that_diverges_is_refused(toy_data):
    model = build_backbone(
        BackboneSettings(name="convnet", options={"depth": 3, "width": 4}), num_classes=4, input_shape=(1, 8, 8)
    )
    settings = BackboneFitSettings(epochs=1, lr=1e38, schedule="constant")
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train_backbone(model, toy_data, settings, seed=0, device=CPU, progress=Progress())
