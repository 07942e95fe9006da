from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aebnas.data.partition import hold_out, require_samples, split_generator
from aebnas.errors import DataError


@given(
    counts=st.lists(st.integers(3, 40), min_size=1, max_size=5),
    fraction=st.floats(0.01, 0.5),
    leave=st.integers(1, 2),
    seed=st.integers(0, 10**6),
)
def test_hold_out_is_a_stratified_partition(counts, fraction, leave, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    rest, held = hold_out(labels, fraction, split_generator(seed), leave=leave)
    assert sorted([*rest, *held]) == list(range(len(labels)))
    assert rest.tolist() == sorted(rest)
    assert held.tolist() == sorted(held)
    for label, count in enumerate(counts):
        number = int((labels[held] == label).sum())
        assert 1 <= number <= count - leave
        assert abs(number - fraction * count) <= 1 + leave


def test_fraction_is_exact_where_it_can_be():
    labels = np.repeat([0, 1, 2], 50)
    _, held = hold_out(labels, 0.2, split_generator(0))
    assert np.bincount(labels[held]).tolist() == [10, 10, 10]


def test_seed_decides():
    labels = np.repeat([0, 1], 50)
    first, again, other = (hold_out(labels, 0.3, split_generator(seed))[1].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_negative_seed_is_refused():
    with pytest.raises(DataError, match="seed must be 0 or greater"):
        split_generator(-1)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 0, 1, 1, 1], ["class 0 ('cat')", "2 samples", "at least 3"]),
        ([0, 0, 0, 1], ["class 1 ('dog')", "1 sample ", "train and validation and test"]),
        ([0, 0, 0], ["class 1 ('dog')", "0 samples"]),
    ],
)
def test_scarce_class_is_named(labels, words):
    with pytest.raises(DataError) as error:
        require_samples(np.array(labels), ["cat", "dog"], ["train", "validation", "test"], "x")
    assert all(word in str(error.value) for word in words)


def test_enough_samples_pass_and_a_single_class_does_not():
    require_samples(np.array([0, 1, 0, 1]), ["cat", "dog"], ["train", "validation"], "x")
    with pytest.raises(DataError, match="only one class, 'cat'"):
        require_samples(np.array([0, 0]), ["cat"], ["train"], "x")
