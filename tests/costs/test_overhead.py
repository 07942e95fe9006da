"""The overhead's fit, on latencies that are made of a known one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.costs.overhead import MeasuredPath, Overhead, fit_overhead

TRUE = Overhead(base_ms=0.004, scale=1.03, gate_ms=0.005, final_ms=0.002)


def paths(noise=0.0, count=18, seed=0, true=TRUE):
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        blocks, gates, final = float(generator.uniform(0.05, 0.5)), number % 4, number % 3 == 0
        latency = true.latency_ms(blocks, gates, final) * float(1 + noise * generator.standard_normal())
        made.append(MeasuredPath(blocks, gates, final, latency))
    return made


def test_without_paths_it_is_the_empty_graph_and_plain_sums():
    overhead = fit_overhead(0.01, [])
    assert overhead == Overhead(base_ms=0.01)
    assert overhead.latency_ms(0.5, 3, True) == pytest.approx(0.51)
    assert overhead.interval(0.5) == (0.5, 0.5)


@given(st.floats(0, 0.02), st.floats(0.95, 1.2), st.floats(0, 0.02), st.floats(0, 0.02))
@settings(max_examples=40, deadline=None)
def test_a_known_overhead_predicts_new_paths(base, scale, gate, final):
    true = Overhead(base, scale, gate, final)
    fitted = fit_overhead(base, paths(true=true))
    for path in paths(seed=1, true=true):
        assert fitted.latency_ms(path.blocks_ms, path.gates, path.final) == pytest.approx(path.measured_ms, rel=0.02)


def test_its_interval_holds_nine_of_ten_new_paths():
    inside, wide = [], []
    for seed in range(12):
        fitted = fit_overhead(0.004, paths(noise=0.02, count=24, seed=seed))
        for path in paths(noise=0.02, count=100, seed=100 + seed):
            predicted = fitted.latency_ms(path.blocks_ms, path.gates, path.final)
            low, high = fitted.interval(predicted)
            inside.append(low <= path.measured_ms <= high)
            wide.append((high - low) / predicted)
    assert 0.84 < np.mean(inside) < 0.96
    assert np.mean(wide) < 0.1


def test_what_switching_takes_is_told_apart():
    still = paths(noise=0.002)
    mixed = [
        MeasuredPath(path.blocks_ms, path.gates, path.final, path.measured_ms + 0.01 * switches, switches)
        for path, switches in zip(paths(noise=0.002, seed=5), np.linspace(0.1, 0.6, 18), strict=True)
    ]
    assert fit_overhead(0.004, [*still, *mixed]).switch_ms == pytest.approx(0.01, rel=0.3)
    assert fit_overhead(0.004, still).switch_ms == pytest.approx(0.0, abs=1e-6)


def test_a_path_that_was_disturbed_does_not_spoil_it():
    clean = paths(noise=0.003)
    disturbed = [*clean[:-1], MeasuredPath(0.1, 1, False, 0.9)]
    fitted = fit_overhead(0.004, disturbed)
    assert fitted.paths == len(clean) - 1
    for path in clean:
        assert fitted.latency_ms(path.blocks_ms, path.gates, path.final) == pytest.approx(path.measured_ms, rel=0.03)


def test_one_path_moves_it_and_leaves_the_rest_to_the_prior():
    fitted = fit_overhead(0.004, [MeasuredPath(0.2, 1, False, 0.206)])
    assert fitted.latency_ms(0.2, 1, False) == pytest.approx(0.206, rel=0.01)
    assert fitted.scale == pytest.approx(1.0, abs=0.05)
    assert fitted.paths == 1
