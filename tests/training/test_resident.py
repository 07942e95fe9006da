"""Splits in the memory of an accelerator: the same batches in the same order."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import TensorDataset

from aebnas.data.augment import Augment
from aebnas.data.preprocessing import Preprocessing
from aebnas.data.settings import AugmentSettings
from aebnas.data.splits import DatasetSplit, TensorSplit
from aebnas.training.passes import CachedSplit
from aebnas.training.resident import resident, room

CPU, META = torch.device("cpu"), torch.device("meta")
COUNT = 3000  # more than is moved at once
LABELS = torch.arange(COUNT) % 3
PREPROCESSING = Preprocessing(scale=0.5, mean=(1.0,), std=(2.0,))
ROWS = torch.tensor([2999, 4, 1500])


def images():
    augment = Augment(AugmentSettings(flip=True, shift=1), COUNT)
    stored = torch.arange(COUNT * 6, dtype=torch.int64).reshape(COUNT, 1, 2, 3).to(torch.uint8)
    return TensorSplit(stored, LABELS, PREPROCESSING, augment)


def features():
    return CachedSplit(torch.arange(2 * COUNT * 3).reshape(2 * COUNT, 3).half(), LABELS)


KINDS = {
    "images": (images, 6 + 8),
    "features": (features, 2 * 2 * 3 + 8),
    "some images": (lambda: images().subset(ROWS), 6 + 8),
}


def same(one, other):
    for seed in (None, 1, 2):
        for ours, theirs in zip(one.batches(700, seed=seed), other.batches(700, seed=seed), strict=True):
            assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_that_fits_is_moved_and_gives_the_same_batches(kind):
    make, sample = KINDS[kind]
    split = make()
    assert split.footprint() == sample * len(split)
    near = resident(split, CPU, limit=sample * len(split))
    assert near is not split
    same(near, split)
    assert torch.equal(near.labels, split.labels)
    same(near.subset(torch.tensor([2, 0])), split.subset(torch.tensor([2, 0])))
    assert resident(split, CPU, limit=sample * len(split) - 1) is split


def test_a_subset_of_features_is_moved_with_the_whole():
    part = features().subset(ROWS)
    same(resident(part, CPU, limit=1 << 30), part)


@pytest.mark.parametrize("make", [images, features])
def test_tensors_lie_on_the_device_and_index_and_labels_of_the_split_do_not(make):
    """The device without memory shows where tensors are."""
    near = resident(make(), META, limit=1 << 30)
    assert near.labels.device == CPU
    batch = next(near.batches(5, seed=1))
    assert (batch.index.device, batch.images.device, batch.labels.device) == (CPU, META, META)


def test_only_cuda_takes_splits_by_itself():
    assert room(CPU) == 0
    split = images()
    assert resident(split, CPU) is split


def test_what_is_read_item_by_item_stays_where_it_is():
    split = DatasetSplit(TensorDataset(images().raw(), LABELS), LABELS, PREPROCESSING)
    assert resident(split, CPU, limit=1 << 30) is split


def test_nothing_is_moved_twice():
    near = resident(images(), CPU, limit=1 << 30)
    assert near.on(CPU).images.data_ptr() == near.images.data_ptr()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("make", [images, features])
def test_batches_on_cuda_are_those_on_the_cpu(make):
    device = torch.device("cuda")
    near = resident(make(), device)
    for seed in (None, 1):
        for ours, theirs in zip(near.batches(700, seed=seed), make().batches(700, seed=seed), strict=True):
            assert ours.images.device.type == "cuda"
            assert torch.equal(ours.index, theirs.index)
            torch.testing.assert_close(ours.images.cpu(), theirs.images)
            assert torch.equal(ours.labels.cpu(), theirs.labels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("make", [images, features])
def test_reading_from_cuda_waits_for_nothing(make):
    near = resident(make(), torch.device("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        list(near.batches(700, seed=1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
