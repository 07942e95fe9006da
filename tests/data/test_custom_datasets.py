from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from aebnas.data.load import bundle_from_datasets
from aebnas.errors import DataError


def dataset(count=20, *, shape=(3, 4, 5), classes=2, seed=0, dtype=torch.float32):
    images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))
    images = (images * 255).to(torch.uint8) if dtype == torch.uint8 else images.to(dtype)
    return TensorDataset(images, torch.arange(count) % classes)


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, position):
        return self.items[position]


class Augmented(Dataset):
    """Adds noise from each of the global generators that transforms use."""

    def __len__(self):
        return 12

    def __getitem__(self, position):
        noise = torch.rand(1) + random.random() + np.random.rand()  # noqa: NPY002
        return torch.full((1, 2, 2), float(position)) + noise.float(), position % 2


def test_fraction_is_held_out_of_train():
    train, test = dataset(20), dataset(6, seed=1)
    bundle = bundle_from_datasets(train, test, validation=0.2, classes=["a", "b"], seed=3, name="mine")
    assert (bundle.name, bundle.classes, bundle.input_shape) == ("mine", ("a", "b"), (3, 4, 5))
    assert bundle.validation.labels.bincount().tolist() == [2, 2]
    assert torch.equal(bundle.test.raw(), test.tensors[0])
    rows = [*bundle.train.raw(), *bundle.validation.raw()]
    assert sorted(row.sum().item() for row in rows) == sorted(row.sum().item() for row in train.tensors[0])
    for split in (bundle.train, bundle.validation):
        for batch in split.batches(3, seed=0):
            for image, label in zip(batch.images, batch.labels, strict=True):
                original = (train.tensors[0] == image).flatten(1).all(dim=1).nonzero().item()
                assert train.tensors[1][original] == label


def test_own_validation_is_used():
    validation = dataset(4, seed=2)
    bundle = bundle_from_datasets(dataset(20), dataset(6, seed=1), validation=validation)
    assert len(bundle.train) == 20
    assert torch.equal(bundle.validation.raw(), validation.tensors[0])


def test_float_images_are_used_as_they_are():
    bundle = bundle_from_datasets(dataset(20, dtype=torch.float64), dataset(6, seed=1, dtype=torch.float64))
    assert bundle.preprocessing.mean == (0.0, 0.0, 0.0)
    batch = next(bundle.test.batches(6))
    assert batch.images.dtype == torch.float32
    assert torch.equal(batch.images, bundle.test.raw().float())


def test_uint8_images_are_standardised_with_the_train_split():
    bundle = bundle_from_datasets(dataset(20, dtype=torch.uint8), dataset(6, seed=1, dtype=torch.uint8))
    scaled = bundle.train.raw().double() / 255
    assert bundle.preprocessing.scale == 1 / 255
    assert bundle.preprocessing.mean == pytest.approx(scaled.mean(dim=(0, 2, 3)).tolist(), rel=1e-9)
    assert bundle.preprocessing.std == pytest.approx(scaled.std(dim=(0, 2, 3), correction=0).tolist(), rel=1e-9)


def test_labels_may_be_any_kind_of_whole_number():
    labels = [0, np.int32(1), torch.tensor(1), torch.tensor([0])] * 2
    items = Items([(torch.zeros(1, 2, 2), label) for label in labels])
    bundle = bundle_from_datasets(items, items, validation=items)
    assert bundle.train.labels.tolist() == [0, 1, 1, 0] * 2
    assert [batch.labels.tolist() for batch in bundle.train.batches(4)] == [[0, 1, 1, 0]] * 2


def test_fingerprint_follows_data_and_split():
    other = dataset(20)
    other.tensors[0][4, 0, 0, 0] += 1
    relabelled = dataset(20)
    relabelled.tensors[1][:2] = torch.tensor([1, 0])
    values = [
        bundle_from_datasets(train, dataset(6, seed=1), seed=seed).fingerprint
        for train, seed in [(dataset(20), 0), (dataset(20), 1), (other, 0), (relabelled, 0)]
    ]
    assert len(set(values)) == 4
    assert bundle_from_datasets(dataset(20), dataset(6, seed=1)).fingerprint == values[0]


def test_random_transforms_change_neither_fingerprint_nor_global_generators():
    torch.manual_seed(5)
    first = bundle_from_datasets(Augmented(), Augmented()).fingerprint
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)
    assert bundle_from_datasets(Augmented(), Augmented()).fingerprint == first


def test_random_transforms_stay_random_in_batches():
    train = bundle_from_datasets(Augmented(), Augmented()).train
    assert not torch.equal(next(train.batches(4)).images, next(train.batches(4)).images)


GOOD = (torch.zeros(1, 2, 2), 0)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "the train Dataset is empty"),
        ([torch.zeros(1, 2, 2)], "item 0 of the train Dataset is a Tensor"),
        ([(np.zeros((1, 2, 2)), 0)], "image 0 .* is a ndarray"),
        ([(torch.zeros(2, 2), 0)], r"image 0 .* has shape \(2, 2\)"),
        ([(torch.zeros(1, 2, 2, dtype=torch.int64), 0)], "torch.int64, but must be uint8 or float"),
        ([GOOD, (torch.zeros(1, 2, 3), 0)], r"image 1 .* float \(1, 2, 3\) but image 0 is float \(1, 2, 2\)"),
        ([GOOD, (torch.zeros(1, 2, 2, dtype=torch.uint8), 0)], "image 1 .* uint8"),
        ([GOOD, (torch.full((1, 2, 2), torch.nan), 0)], "image 1 .* NaN"),
        ([GOOD, (torch.zeros(1, 2, 2), 0.5)], "label 1 .* 0.5"),
        ([GOOD, (torch.zeros(1, 2, 2), "cat")], "label 1 .* 'cat'"),
        ([GOOD, (torch.zeros(1, 2, 2), -1)], "label -1 at position 1"),
        ([GOOD, (torch.zeros(1, 2, 2), 10**30)], "too large"),
        ([GOOD, (torch.zeros(1, 2, 2), 2)], "label 2 at position 1"),
        ([GOOD, GOOD], "only one class"),
        ([GOOD, GOOD, (torch.zeros(1, 2, 2), 1)], r"class 1 \('1'\) has 1 sample "),
    ],
)
def test_wrong_train_items_are_named(items, words):
    with pytest.raises(DataError, match=words):
        bundle_from_datasets(Items(items), Items([GOOD]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"test": dataset(6, shape=(3, 4, 4))}, r"the test Dataset are float \(3, 4, 4\) .* float \(3, 4, 5\)"),
        ({"test": dataset(6, dtype=torch.uint8)}, "the test Dataset are uint8"),
        ({"test": dataset(6, classes=3)}, "label 2 .* the test Dataset .* 0 to 1"),
        ({"validation": dataset(6, classes=3)}, "label 2 .* the validation Dataset"),
        ({"validation": dataset(6, shape=(1, 4, 5))}, "the validation Dataset are"),
        ({"validation": 0.0}, "above 0 and up to 0.5"),
        ({"validation": 0.7}, "got 0.7"),
        ({"classes": ["a"]}, "label 1 .* the train Dataset"),
        ({"classes": ["a", "b", "c"]}, r"class 2 \('c'\) has 0 samples"),
        ({"validation": dataset(4), "classes": ["a", "b", "c"]}, r"class 2 \('c'\) has 0 samples"),
        ({"seed": -1}, "seed must be 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(DataError, match=words):
        bundle_from_datasets(dataset(20), **{"test": dataset(6), **arguments})


def test_dataset_without_length_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([GOOD])

    with pytest.raises(DataError, match="map-style"):
        bundle_from_datasets(Stream(), dataset(6))
