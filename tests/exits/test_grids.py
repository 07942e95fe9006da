from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.exits.grids import quantile_grid, rank

FLOATS = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.5, 1.0])


@given(st.lists(FLOATS, min_size=1, max_size=30), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_a_grid_is_as_fine_as_it_may_be(values, size):
    confidence = np.array(values, dtype=np.float32)
    grid = quantile_grid(confidence, size)
    splits = {int((confidence >= threshold).sum()) for threshold in grid}
    # Rising, and every threshold makes another split.
    assert len(splits) == len(grid) == min(size, len(np.unique(confidence)))
    assert (np.diff(grid) > 0).all()
    assert len(confidence) in splits


@given(st.lists(FLOATS | st.just(float("nan")), min_size=1, max_size=20), st.lists(FLOATS, max_size=6))
def test_rank_counts_the_thresholds_that_are_reached(values, thresholds):
    confidence, grid = np.array(values, dtype=np.float32), np.unique(np.array(thresholds, dtype=np.float32))
    assert rank(confidence, grid).tolist() == [sum(bool(c >= t) for t in grid) for c in confidence]


def test_quantiles_split_evenly():
    confidence = np.random.default_rng(0).permutation(np.linspace(0, 1, 1001, dtype=np.float32))
    shares = [(confidence >= threshold).mean() for threshold in quantile_grid(confidence, 11)]
    assert np.allclose(shares, np.linspace(1, 0, 11), atol=0.002)


def test_saturated_confidences_do_not_use_up_the_grid():
    confidence = np.concatenate([np.ones(900), np.linspace(0, 0.9, 100)]).astype(np.float32)
    assert len(quantile_grid(confidence, 20)) == 20


def test_thresholds_keep_clear_of_confidences():
    assert quantile_grid(np.array([0.2, 0.4, 0.8]), 3) == pytest.approx([0.0, 0.3, 0.6])


def test_neighbouring_floats_are_still_told_apart():
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    assert quantile_grid(np.array([low, high]), 2).tolist() == [0.0, float(high)]


def test_confidences_that_are_not_finite_give_no_thresholds():
    assert len(quantile_grid(np.array([np.nan, np.inf]), 4)) == 0
