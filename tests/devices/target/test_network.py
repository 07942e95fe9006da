from __future__ import annotations

import numpy as np
import pytest

from aebnas.devices.target.network import time_networks


class Bench:
    def __init__(self) -> None:
        self.now, self.ran = 0.0, []

    def network(self, name, seconds):
        def run(sample):
            assert sample.shape == (1, 2)
            number = int(sample[0, 0])
            self.ran.append((name, number))
            self.now += seconds(number, len(self.ran))
            return (name, number)

        return run


@pytest.fixture
def inputs():
    return np.stack([np.arange(10), np.zeros(10)], axis=1).astype(np.float32)


def test_every_input_has_its_own_time_and_outputs(inputs):
    bench = Bench()
    runs = {name: bench.network(name, lambda number, _, k=k: k * (1 + number)) for k, name in ((1, "a"), (2, "b"))}
    result = time_networks(runs, inputs, repeats=2, burst=4, clock=lambda: bench.now)
    assert result["a"].times_s == pytest.approx(np.tile(1 + np.arange(10.0), (2, 1)))
    assert result["b"].latency_ms == pytest.approx(2e3 * (1 + np.arange(10)))
    assert result["b"].outputs == [("b", number) for number in range(10)]


def test_bursts_are_interleaved_and_begin_with_a_run_that_does_not_count(inputs):
    bench = Bench()
    runs = {name: bench.network(name, lambda *_: 1.0) for name in "abc"}
    time_networks(runs, inputs, repeats=2, burst=4, clock=lambda: bench.now)
    turns, at = [], 0
    for _ in range(2):
        for first, size in ((0, 4), (4, 4), (8, 2)):
            names = []
            for _ in range(3):
                turn = bench.ran[at : at + size + 1]
                names.append(turn[0][0])
                assert {name for name, _ in turn} == {names[-1]}
                assert [number for _, number in turn] == [first, *range(first, first + size)]
                at += size + 1
            assert sorted(names) == ["a", "b", "c"]
            turns.append(tuple(names))
    assert at == len(bench.ran)
    assert len(set(turns)) > 1


def test_a_disturbed_repeat_does_not_move_the_median(inputs):
    bench = Bench()
    runs = {"a": bench.network("a", lambda number, runs: 100.0 if 12 <= runs <= 22 else 1.0)}
    result = time_networks(runs, inputs, repeats=3, burst=16, clock=lambda: bench.now)
    assert result["a"].times_s.max() == 100
    assert result["a"].latency_ms == pytest.approx(np.full(10, 1e3))


def test_no_inputs_take_no_time():
    result = time_networks({"a": len}, np.zeros((0, 2), np.float32))
    assert result["a"].latency_ms.shape == (0,)
    assert result["a"].outputs == []
