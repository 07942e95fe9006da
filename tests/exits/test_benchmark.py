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
    monkeypatch.setattr(thresholds, "REFERENCE_VALUES", thresholds.REFERENCE_VALUES[2::3])
    figures, rows = thresholds.benchmark(thresholds.simulate(200, 4), quick=False)
    assert set(figures) == {"speedup_per_combination", "same_winner", "score_reference", "score_ours", "curve_ms"}
    assert figures["same_winner"] is True
    assert len(rows) > len(figures)
