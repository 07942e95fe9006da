"""The benchmark's own part: what it runs, and the flat object that it writes."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import pytest
from made_up_results import comparison, point, result
from rich.console import Console

from aebnas.comparing.claims import judge
from aebnas.comparing.jobs import check_epochs
from aebnas.comparing.summary import summarise
from aebnas.comparing.variants import parse_variants
from aebnas.report.comparison import print_comparison

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
    assert regimes.claims_table(claims, 3).row_count == len(claims)


def test_how_many_seeds_reach_an_accuracy_is_told(regimes, tmp_path):
    # The static backbone has 0.9 on validation: two of three seeds reach it.
    best = {0: 0.91, 1: 0.92, 2: 0.8}
    results = {
        name: {seed: result(name, seed, [point(0.7, 40), point(value, 80)]) for seed, value in best.items()}
        for name in ("disjoint", "joint")
    }
    compared = comparison(results, tmp_path)
    summary = summarise(compared)
    found = regimes.figures_of(compared, summary, [])
    assert (found["macs_mean_same_joint"], found["seeds_macs_mean_same_joint"]) == (80.0, 2)
    console = Console(width=240, record=True, file=io.StringIO())
    print_comparison(summary, console)
    text = console.export_text()
    assert "80.0 ±0.0 (2/3)" in text
    assert "+0.0 ±0.0 (2/3)" in text
    assert "(n/3): a mean over the n seeds" in text


def test_a_mistake_is_one_sentence_and_what_was_trained_stays(regimes, tmp_path, monkeypatch, capsys):
    compared = comparison(
        {name: {0: result(name, 0, [point(0.7, 40)])} for name in ("joint", "mixed", "disjoint")}, tmp_path / "run"
    )
    monkeypatch.setattr(regimes, "compare", lambda *_, **__: compared)
    (tmp_path / "file").write_text("")
    assert regimes.main(["--json", str(tmp_path / "new" / "figures.json")]) == 0
    assert "claim_mixed" in (tmp_path / "new" / "figures.json").read_text()
    assert regimes.main(["--json", str(tmp_path / "file" / "figures.json")]) == 2
    told = capsys.readouterr()
    assert "cannot write" in told.err
    assert "Traceback" not in told.err
    assert (tmp_path / "run" / "comparison.json").exists()

    def interrupt(*_, **options):
        assert options["run_dir"] == regimes.QUICK_FOLDER
        raise KeyboardInterrupt

    monkeypatch.setattr(regimes, "compare", interrupt)
    assert regimes.main(["--quick"]) == 130
