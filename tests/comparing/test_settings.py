"""The ``compare`` block of an experiment."""

from __future__ import annotations

import pytest

from aebnas.errors import ExperimentError
from aebnas.experiment import Experiment
from aebnas.experiment_compare import CompareSettings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compare.cost": "watts"}, "no cost 'watts'"),
        ({"compare.epochs": 1}, r"compare\.epochs"),
        ({"compare.backbone_share": 1}, r"compare\.backbone_share"),
        ({"compare.variants": []}, r"compare\.variants"),
        ({"compare.branches": [{"head": "pooled-linear"}]}, r"branches\.0: a branch must be a mapping with 'attach'"),
        ({"compare.repeats": 3}, "no key 'compare.repeats'"),
    ],
)
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(ExperimentError, match=message):
        Experiment().override(options)


@pytest.mark.parametrize(("epochs", "share", "expected"), [(12, 0.5, 6), (2, 0.9, 1), (10, 0.01, 1), (5, 0.99, 4)])
def test_backbone_and_what_starts_from_it_have_an_epoch_at_least(epochs, share, expected):
    assert CompareSettings(epochs=epochs, backbone_share=share).backbone_epochs == expected
