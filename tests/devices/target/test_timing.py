from __future__ import annotations

import gc

import numpy as np
import pytest

from aebnas.devices.target.timing import BlockFailed, Timing, groups, time_blocks


class Bench:
    """Blocks that take what a function of their own run's number says, on a clock that only they move."""

    def __init__(self) -> None:
        self.now, self.ran = 0.0, []

    def clock(self) -> float:
        return self.now

    def block(self, name, seconds):
        def run():
            count = self.ran.count(name)
            self.ran.append(name)
            self.now += seconds(count) if callable(seconds) else seconds

        return run

    def time(self, blocks, *, yardstick=0.0001, precision_pct=1.5, time_limit_s=1e9):
        calls = {name: self.block(name, seconds) for name, seconds in blocks.items()}
        return time_blocks(
            calls,
            yardstick=self.block("yard", yardstick),
            precision_pct=precision_pct,
            time_limit_s=time_limit_s,
            clock=self.clock,
        )


def noisy(base: float, noise: float, seed: int = 0):
    factors = 1 + noise * np.random.default_rng(seed).exponential(size=100_000)
    return lambda count: base * factors[count]


def visits_of(ran: list[str]) -> list[str]:
    """The rounds' visits, of four runs each: what follows the warm-up of one-take blocks, five runs each."""
    warm_up = 5 * len(set(ran))
    rounds = ran[warm_up:]
    assert all(len(set(rounds[start : start + 4])) == 1 for start in range(0, len(rounds), 4))
    return rounds[::4]


def test_blocks_and_yardstick_are_visited_in_shuffled_rounds():
    bench = Bench()
    result = bench.time({"a": 0.001, "b": 0.002, "c": 0.003})
    visits = visits_of(bench.ran)
    rounds = [visits[start : start + 4] for start in range(0, len(visits), 4)]
    assert all(sorted(one) == ["a", "b", "c", "yard"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 3
    assert {name: timing.latency_ms for name, timing in result.items()} == pytest.approx({"a": 1, "b": 2, "c": 3})


def test_the_first_run_of_a_visit_is_not_recorded():
    bench = Bench()

    def cold(_):
        """Ten times as slow after another block."""
        return 0.01 if bench.ran[-2] != "a" else 0.001

    result = bench.time({"a": cold, "b": 0.002})
    assert result["a"].latency_ms == pytest.approx(1) and result["a"].p95_ms == pytest.approx(1)


def test_a_steady_block_leaves_after_fifteen_visits():
    bench = Bench()
    timing = bench.time({"a": 0.001})["a"]
    assert timing.runs == 3 * 15 and timing.steady
    assert timing == Timing(*[pytest.approx(1)] * 5, runs=45, steady=True, yardstick_ms=pytest.approx(0.1),
                            yardstick_spread_pct=pytest.approx(0, abs=1e-6))  # fmt: skip


def test_a_noisy_block_stays_when_the_steady_ones_have_left():
    bench = Bench()
    result = bench.time({"calm": 0.001, "wild": noisy(0.001, 0.3)}, precision_pct=2)
    assert result["calm"].runs == 45 < result["wild"].runs
    assert result["wild"].steady
    half = (result["wild"].high_ms - result["wild"].low_ms) / 2
    assert half <= 0.02 * result["wild"].latency_ms
    assert set(bench.ran[-8:]) == {"wild", "yard"}


def test_the_time_limit_ends_the_rounds_and_says_so():
    bench = Bench()
    result = bench.time({"calm": 0.001, "wild": noisy(0.001, 5)}, precision_pct=0.01, time_limit_s=2)
    assert 2 <= bench.now < 2.1
    assert result["calm"].steady and not result["wild"].steady


def test_no_time_at_all_still_gives_one_visit_of_each():
    bench = Bench()
    result = bench.time({"a": 1.0, "b": 2.0}, time_limit_s=0)
    assert [timing.runs for timing in result.values()] == [3, 3]
    assert [timing.steady for timing in result.values()] == [False, False]
    assert (result["b"].low_ms, result["b"].latency_ms, result["b"].high_ms) == pytest.approx((2000, 2000, 2000))


def test_the_latency_is_the_low_quantile_of_the_visits_medians():
    bench = Bench()
    takes = noisy(0.001, 1.0)
    timing = bench.time({"a": takes}, precision_pct=3)["a"]
    visits = timing.runs // 3
    count = bench.ran.count("a")
    taken = np.array([takes(number) for number in range(count)])[count - 4 * visits :].reshape(visits, 4)[:, 1:]
    assert timing.latency_ms == pytest.approx(np.quantile(np.median(taken, axis=1), 0.2) * 1e3)
    assert timing.median_ms == pytest.approx(np.median(taken) * 1e3)
    assert timing.p95_ms == pytest.approx(np.quantile(taken, 0.95) * 1e3)
    assert timing.low_ms < timing.latency_ms < timing.high_ms < timing.p95_ms


def test_a_block_is_warm_when_its_runs_take_the_same():
    bench = Bench()
    bench.time({"slow start": lambda count: 0.001 * (1 + 9 * 0.8**count)}, time_limit_s=1e9)
    warm_up = bench.ran.count("slow start") - 4 * bench.ran[bench.ran.index("slow start") :].count("yard") // 4
    assert 10 < warm_up <= 50


def test_a_block_that_never_gets_stable_is_warmed_up_fifty_times_at_most():
    bench = Bench()
    bench.time({"a": lambda count: 0.001 * 2 ** (count // 3 % 2)}, time_limit_s=0.0)
    assert bench.ran.count("a") == 1 + 4
    bench = Bench()
    bench.time({"a": lambda count: 1e-6 * 2 ** (count // 3 % 2)}, precision_pct=200)
    assert bench.ran.count("a") == 50 + 15 * 4


def test_warming_up_takes_a_second_at_most():
    bench = Bench()
    bench.time({"a": lambda count: 0.3 * 2 ** (count // 3 % 2)}, time_limit_s=1e9, precision_pct=200)
    runs_before_the_rounds = bench.ran[bench.ran.index("a") :].index("yard")
    assert 3 <= runs_before_the_rounds <= 8


def test_the_yardstick_of_a_block_is_that_of_its_own_rounds():
    """The machine slows down by half after the calm block has left."""
    bench = Bench()
    slower = lambda count: 0.0001 if count < 5 + 4 * 15 else 0.00015  # noqa: E731
    result = bench.time({"calm": 0.001, "wild": noisy(0.001, 0.5)}, yardstick=slower, precision_pct=1)
    assert result["calm"].yardstick_ms == pytest.approx(0.1)
    assert result["calm"].yardstick_spread_pct == pytest.approx(0, abs=1e-6)
    assert result["wild"].yardstick_ms == pytest.approx(0.15)


def test_a_failing_block_is_named():
    bench = Bench()

    def trap(count):
        if count == 20:
            raise RuntimeError("out of memory")
        return 0.001

    with pytest.raises(BlockFailed) as failed:
        bench.time({"good": 0.001, "bad": trap})
    assert failed.value.name == "bad"
    assert str(failed.value.__cause__) == "out of memory"
    assert gc.isenabled()


def test_nothing_is_collected_while_blocks_run():
    seen = []
    time_blocks({"a": lambda: seen.append(gc.isenabled())}, yardstick=int, precision_pct=100, time_limit_s=0.0)
    assert seen and not any(seen)
    assert gc.isenabled()


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (24, [24]), (25, [12, 13]), (60, [20, 20, 20])])
def test_groups_are_even_and_in_order(count, sizes):
    names = [str(number) for number in range(count)]
    split = groups(names)
    assert [len(group) for group in split] == sizes
    assert [name for group in split for name in group] == names
