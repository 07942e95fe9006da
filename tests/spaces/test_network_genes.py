from __future__ import annotations

import itertools

from aebnas.branches.spec import BranchSpec
from aebnas.spaces.network_genes import NetworkGenes

TWO = (BranchSpec("a"), BranchSpec("b"))
CHOICES = {
    "regime.name": ("disjoint", "gated"),
    "regime.gate.tau": (0.5, 1),
    "confidence": ("margin", "patience"),
    "cascade": ("none", "both"),
    "thresholds": ("per-exit", "per-class"),
    "regime.gate.on": (True, False),
}


def only_gated_gates(regime, options):
    return {key: value for key, value in options.items() if not key.startswith("regime.gate") or regime == "gated"}


def genes(**changes) -> NetworkGenes:
    values = {"regime": "disjoint", "confidence": "margin", "choices": CHOICES, "effective": only_gated_gates} | changes
    return NetworkGenes(**values)


def test_every_combination_decodes_to_what_it_says():
    every = genes()
    for texts in itertools.product(*every.genes.values()):
        values = dict(zip(every.genes, texts, strict=True))
        spec = every.network(TWO, values)
        assert (spec.regime, spec.confidence, spec.cascade) == (
            values["regime.name"],
            values["confidence"],
            values["cascade"],
        )
        options = dict(spec.options)
        assert options.pop("thresholds") == values["thresholds"]
        if spec.regime == "gated":
            assert options == {
                "regime.gate.tau": {"0.5": 0.5, "1": 1}[values["regime.gate.tau"]],
                "regime.gate.on": {"true": True, "false": False}[values["regime.gate.on"]],
            }
        else:
            assert options == {}


def test_networks_that_differ_in_genes_without_effect_are_one_network():
    every = genes()
    first, *others = every.variations()
    keys = {tuple(sorted(values.items())): every.network(TWO, values).key for values in (first, *others)}
    tau = {**first, "regime.gate.tau": "1"}
    assert every.network(TWO, tau).key == every.network(TWO, first).key
    gated = {**first, "regime.name": "gated"}
    assert every.network(TWO, {**gated, "regime.gate.tau": "1"}).key != every.network(TWO, gated).key
    # confidence, cascade and thresholds always have one, so does the regime.
    assert len(set(keys.values())) == 5


def test_a_cascade_needs_two_branches():
    every, values = genes(), {**genes().variations()[0], "cascade": "both"}
    assert every.network(TWO, values).cascade == "both"
    assert every.network(TWO[:1], values).cascade == "none"


def test_a_cascade_runs_in_fp32_where_the_device_has_it():
    both = genes(precisions=("int8", "fp32"))
    values = {**both.variations()[0], "precision": "int8"}
    assert both.network(TWO, values).precision == "int8"
    assert both.network(TWO, {**values, "cascade": "both"}).precision == "fp32"


def test_variations_change_one_gene_at_a_time_and_hold_every_value():
    every = genes(precisions=("fp32", "int8"))
    first, *others = every.variations()
    assert all(sum(values[key] != first[key] for key in first) == 1 for values in others)
    for key, values in every.genes.items():
        assert {variation[key] for variation in (first, *others)} == set(values)


def test_without_choices_there_is_nothing_to_choose():
    alone = NetworkGenes("joint", "entropy")
    assert alone.genes == {}
    assert alone.variations() == [{}]
    spec = alone.network(TWO, {})
    assert (spec.regime, spec.confidence, spec.options) == ("joint", "entropy", ())


def test_all_that_may_be_chosen_is_named_with_the_default_first():
    every = genes(regime="joint", confidence="patience")
    assert every.regimes == ("joint", "disjoint", "gated")
    assert every.confidences == ("patience", "margin")
