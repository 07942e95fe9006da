from __future__ import annotations

import pytest
import torch
from torch.utils.data import TensorDataset

from aebnas.data.preprocessing import Preprocessing
from aebnas.data.splits import DatasetSplit, TensorSplit

COUNT = 11
IMAGES = torch.arange(COUNT * 4, dtype=torch.uint8).reshape(COUNT, 1, 2, 2)
LABELS = torch.arange(COUNT) % 3
PREPROCESSING = Preprocessing(scale=0.5, mean=(1.0,), std=(2.0,))


def tensor_split():
    return TensorSplit(IMAGES, LABELS, PREPROCESSING)


def dataset_split():
    return DatasetSplit(TensorDataset(IMAGES, LABELS), LABELS, PREPROCESSING)


@pytest.fixture(params=[tensor_split, dataset_split])
def split(request):
    return request.param()


def assert_is_split(split, images, labels):
    """What holds for every Split over ``images`` and ``labels``."""
    assert len(split) == len(labels)
    assert torch.equal(split.labels, labels)
    assert torch.equal(split.raw(), images)
    for seed in (None, 5):
        batches = list(split.batches(4, seed=seed))
        index = torch.cat([batch.index for batch in batches])
        assert index.sort().values.tolist() == list(range(len(labels)))
        for batch in batches:
            assert batch.index.dtype == batch.labels.dtype == torch.int64
            assert batch.images.dtype == torch.float32
            assert torch.equal(batch.labels, labels[batch.index])
            torch.testing.assert_close(batch.images, (images[batch.index] * 0.5 - 1) / 2)


def test_batches_hold_every_sample_once(split):
    assert_is_split(split, IMAGES, LABELS)


def test_subset_is_a_split_of_the_chosen_samples(split):
    chosen = torch.tensor([7, 2, 9, 4, 0])
    subset = split.subset(chosen)
    assert_is_split(subset, IMAGES[chosen], LABELS[chosen])
    assert_is_split(subset.subset(torch.tensor([3, 1])), IMAGES[chosen[[3, 1]]], LABELS[chosen[[3, 1]]])


def test_order_without_seed_and_sizes(split):
    assert [batch.index.tolist() for batch in split.batches(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert [len(batch.labels) for batch in split.batches(100)] == [COUNT]


def test_seed_decides_the_order(split):
    first, again, other = (torch.cat([b.index for b in split.batches(4, seed=seed)]).tolist() for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert first != list(range(COUNT))


def test_both_kinds_agree_on_the_order():
    orders = [torch.cat([b.index for b in s.batches(4, seed=3)]) for s in (tensor_split(), dataset_split())]
    assert torch.equal(*orders)


def test_raw_stops_at_the_limit(split):
    assert torch.equal(split.raw(3), IMAGES[:3])
    assert torch.equal(split.raw(100), IMAGES)


def test_reading_does_not_move_the_global_generator(split):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(split.batches(4, seed=9))
    assert torch.equal(torch.rand(1), expected)


def test_a_subset_of_tensors_copies_no_image():
    split = tensor_split()
    part = split.subset(torch.tensor([7, 2]))
    part.subset(torch.tensor([1]))
    split.images[2] = 0  # which all of them see
    try:
        assert torch.equal(part.raw()[1], torch.zeros(1, 2, 2, dtype=torch.uint8))
    finally:
        split.images[2] = torch.arange(8, 12, dtype=torch.uint8).reshape(1, 2, 2)
