"""The benchmark's own part: what it runs, and the flat object that it writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from made_up_results import comparison, point, result

from aebnas.comparing.claims import judge
from aebnas.comparing.jobs import check_epochs
from aebnas.comparing.summary import summarise
from aebnas.comparing.variants import parse_variants

_PLAIN = "calex:aligned=false+target=labels"
FULL_CLAIMS = [
    ("calex:thresholds=per-class", f"{_PLAIN}+thresholds=per-class"),
    ("calex", _PLAIN),
    ("cgt-hard", "cgt-soft", "cgt-hard:tau=0.9", "cgt-soft:tau=0.9", "joint", "disjoint", "mixed"),
    tuple(f"sequential:protection={name}" for name in ("none", "ewc", "lwf")),
]
FILE = Path(__file__).parents[2] / "benchmarks" / "regimes.py"


@pytest.fixture(scope="module")
def regimes():
    spec = importlib.util.spec_from_file_location("benchmark_regimes", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_forms_compare_the_same_variants_and_all_have_epochs_enough(regimes):
    quick, full = regimes.experiment_of(quick=True), regimes.experiment_of(quick=False)
    assert quick.compare.variants == full.compare.variants
    assert (full.compare.seeds, quick.data.name) == (5, "digits")
    # Claims are put to variants by name: one that is called otherwise here would silently be judged no more.
    words = [word for claim in FULL_CLAIMS for word in claim]
    assert set(words) <= set(full.compare.variants)
    for experiment in (quick, full):
        for variant in parse_variants(experiment.compare.variants, experiment):
            check_epochs(variant, experiment.compare.exits)


def test_the_figures_are_one_flat_object_with_every_variant_and_claim(regimes, tmp_path):
    results = {
        name: {seed: result(name, seed, [point(0.7, 40), point(0.9 + seed / 1000, 80)]) for seed in (0, 1, 2)}
        for name in ("disjoint", "joint", "mixed", "calex:aligned=false")
    }
    compared = comparison(results, tmp_path)
    claims = judge(compared)
    found = regimes.figures_of(compared, summarise(compared), claims)
    assert found["accuracy_disjoint"] == found["accuracy_calex_aligned_false"]
    assert found["macs_mean_mixed"] == pytest.approx(80.0)
    assert found["macs_mean_static_backbone"] == 100.0
    assert found["claim_mixed"] == "within the spread"
    assert found["claim_difference_mixed_1"] == 0.0
    assert all(value is None or isinstance(value, (int, float, str)) for value in found.values())
    assert regimes.claims_table(claims).row_count == len(claims)
