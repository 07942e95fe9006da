from __future__ import annotations

import pytest
import torch

from aebnas.backbones.build import build_backbone
from aebnas.backbones.settings import BackboneSettings
from aebnas.errors import TrainingError
from aebnas.progress import Progress
from aebnas.training.backbone import train_backbone
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


def test_a_backbone_that_diverges_is_refused(toy_data):
    model = build_backbone(
        BackboneSettings(name="convnet", options={"depth": 3, "width": 4}), num_classes=4, input_shape=(1, 8, 8)
    )
    settings = BackboneFitSettings(epochs=1, lr=1e38, schedule="constant")
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train_backbone(model, toy_data, settings, seed=0, device=CPU, progress=Progress())
