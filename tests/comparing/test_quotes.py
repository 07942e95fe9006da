"""Measured prices: one price of the static networks for all variants of a folder."""

from __future__ import annotations

import dataclasses

from made_up_results import PRICES

from aebnas.comparing import quotes
from aebnas.comparing.folder import ComparisonFolder
from aebnas.comparing.variants import parse_variants
from aebnas.progress import Progress


def test_the_backbone_has_the_price_of_the_first_measurement_whatever_comes_first(
    toy_experiment, tmp_path, monkeypatch
):
    measured = {"max-probability": 100.0, "margin": 120.0, "entropy": 90.0}

    def price(variant, *_):
        backbone = measured[variant.experiment.confidence]
        return dataclasses.replace(PRICES, backbone=backbone, truncated=(0.4 * backbone,))

    monkeypatch.setattr(quotes, "_of", price)
    monkeypatch.setattr(quotes, "_model", lambda *_: None)
    # A cost that takes no device: what it is does not matter, as nothing is measured here.
    base = toy_experiment().override({"compare.cost": "model_mib"})

    def backbones(*words):
        variants = parse_variants(words, base)
        found = quotes.price_variants(variants, (), None, None, ComparisonFolder(tmp_path), Progress())
        return {variant.name: (found[variant.key].backbone, found[variant.key].truncated) for variant in variants}

    first = backbones("joint:confidence=margin", "joint")
    assert set(first.values()) == {(120.0, (48.0,))}
    assert set(backbones("joint:confidence=entropy", "joint").values()) == {(120.0, (48.0,))}
