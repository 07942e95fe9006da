"""Settings of training: wrong values are refused with the key."""

from __future__ import annotations

import pytest

from aebnas.errors import ExperimentError
from aebnas.settings import parse_settings
from aebnas.training.settings import RegimeSettings


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"target": "teacher"}, "target: "),
        ({"distillation": 1.5}, "distillation: "),
        ({"training": {"batch_size": 1}}, "training.batch_size: "),
        ({"loss": "hinge"}, "loss: "),
        ({"label_smoothing": 1.0}, "label_smoothing: "),
        ({"gradients": "product"}, "gradients: "),
        ({"start": "warm"}, "start: "),
        ({"cgt": {"tau": 1.2}}, "cgt.tau: "),
        ({"cgt": {"sharpness": 0}}, "cgt.sharpness: "),
        ({"cgt": {"residual": "tanh"}}, "cgt.residual: "),
        ({"cgt": {"floor": -0.1}}, "cgt.floor: "),
        ({"calex": {"margin": 1.0}}, "calex.margin: "),
        ({"calex": {"softness": 0}}, "calex.softness: "),
        ({"calex": {"floor": 0}}, "calex.floor: "),
        ({"calex": {"alligned": True}}, "did you mean 'calex.aligned'"),
        ({"sequential": {"protection": "ewk"}}, "sequential.protection: "),
        ({"sequential": {"strength": -1}}, "sequential.strength: "),
        ({"sequential": {"radius": 0}}, "sequential.radius: "),
        ({"sequential": {"fisher_samples": 0}}, "sequential.fisher_samples: "),
        ({"sequential": {"batch_norm": "snapshot"}}, "sequential.batch_norm: "),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(values, sentence):
    with pytest.raises(ExperimentError) as caught:
        parse_settings(RegimeSettings, values, source="file", error=ExperimentError)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_of_a_regime_is_described():
    def undescribed(kind, prefix=""):
        for name, field in kind.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                yield from undescribed(field.annotation, f"{prefix}{name}.")
            elif not field.description:
                yield f"{prefix}{name}"

    plain = {"training.batch_size", "training.optimizer", "training.weight_decay", "training.schedule"}
    assert set(undescribed(RegimeSettings)) <= plain
