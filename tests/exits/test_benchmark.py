from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "thresholds.py"


@pytest.fixture(scope="module")
def thresholds():
    spec = importlib.util.spec_from_file_location("benchmark_thresholds", FILE)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "benchmark_thresholds", module)
        spec.loader.exec_module(module)
        yield module


def test_simulated_exits_get_better(thresholds):
    accuracy = thresholds.simulate(2000, 4).correct.mean(axis=1)
    assert (accuracy[1:] > accuracy[:-1]).all()


def test_the_plain_loop_and_the_tuner_agree_on_the_winner(thresholds, monkeypatch):
    monkeypatch.setattr(thresholds, "TEN_VALUES", thresholds.TEN_VALUES[2::3])
    figures, rows = thresholds.benchmark(thresholds.simulate(200, 4), quick=False)
    promised = {"speedup_per_combination", "same_winner", "score_reference", "score_ours", "curve_ms"}
    assert promised <= set(figures)
    assert figures["same_winner"] is True
    assert figures["score_ours"] >= figures["score_reference"] >= figures["score_reference_public_grid"]
    assert len(rows) > len(figures)


def test_timing_only_some_combinations_finds_the_same_winner(thresholds):
    outputs = thresholds.simulate(200, 4)
    whole, some = (thresholds.compare(outputs, (0.3, 0.7), quick=quick, repeats=1) for quick in (False, True))
    assert whole.same_winner
    assert some.same_winner
    assert some.score == pytest.approx(whole.score, abs=1e-9)
    assert some.combinations == 3**4
