"""Flips and shifts: against a loop over pixels, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from aebnas.data.augment import Augment, altered
from aebnas.data.load import bundle_from_datasets, load_data
from aebnas.data.preprocessing import identity
from aebnas.data.settings import AugmentSettings, DataSettings
from aebnas.data.splits import DatasetSplit, TensorSplit
from aebnas.errors import DataError

COUNT = 40
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (COUNT, 2, 5, 6), dtype=np.uint8))
LABELS = torch.arange(COUNT) % 3
BOTH = AugmentSettings(flip=True, shift=2)


def by_hand(image, mirrored, down, right):
    """One pixel after the other."""
    channels, height, width = image.shape
    found = np.zeros_like(image)
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                source = image[channel, :, ::-1] if mirrored else image[channel]
                if 0 <= row - down < height and 0 <= column - right < width:
                    found[channel, row, column] = source[row - down, column - right]
    return found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_images_are_mirrored_and_shifted_pixel_by_pixel(dtype):
    looks = Augment(AugmentSettings(flip=True, shift=4), COUNT).looks(3)
    found = altered(IMAGES.to(dtype), looks)
    assert found.dtype == dtype
    for image, look, ours in zip(IMAGES.numpy(), looks.tolist(), found.numpy(), strict=True):
        np.testing.assert_array_equal(ours, by_hand(image, *look))


def test_looks_stay_within_the_settings_and_use_all_of_it():
    looks = Augment(BOTH, 2000).looks(1)
    assert sorted(set(map(tuple, looks.tolist()))) == [
        (m, y, x) for m in (0, 1) for y in range(-2, 3) for x in range(-2, 3)
    ]
    assert float(looks[:, 0].float().mean()) == pytest.approx(0.5, abs=0.05)
    assert Augment(AugmentSettings(flip=True), COUNT).looks(1)[:, 1:].abs().max() == 0
    assert Augment(AugmentSettings(shift=1), COUNT).looks(1)[:, 0].max() == 0


@pytest.fixture(params=["tensors", "dataset"])
def split(request):
    augment = Augment(BOTH, COUNT)
    if request.param == "tensors":
        return TensorSplit(IMAGES, LABELS, identity(2), augment)
    return DatasetSplit(TensorDataset(IMAGES, LABELS), LABELS, identity(2), augment=augment)


def in_place(batches):
    """All images, each at its place in the split."""
    batches = list(batches)
    index = torch.cat([batch.index for batch in batches])
    return torch.cat([batch.images for batch in batches])[index.argsort()]


def test_images_are_altered_with_a_seed_only(split):
    plain = IMAGES.float()
    assert torch.equal(in_place(split.batches(7)), plain)
    assert torch.equal(split.raw(), IMAGES)
    epochs = [in_place(split.batches(7, seed=seed)) for seed in (0, 1, 0)]
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[1], altered(plain, Augment(BOTH, COUNT).looks(1)))


def test_a_look_depends_on_neither_batches_nor_order(split):
    expected = in_place(split.batches(COUNT, seed=4))
    assert torch.equal(in_place(split.batches(3, seed=4)), expected)
    assert torch.equal(in_place(split.read(7, order=None, look=4)), expected)
    assert torch.equal(in_place(split.read(7, order=9, look=4)), expected)
    assert torch.equal(in_place(split.read(7, order=9, look=None)), IMAGES.float())


def test_an_image_looks_in_a_subset_as_it_does_in_the_whole(split):
    whole = in_place(split.batches(7, seed=4))
    rows = torch.tensor([30, 2, 17, 5])
    part = split.subset(rows)
    assert torch.equal(in_place(part.batches(3, seed=4)), whole[rows])
    assert torch.equal(in_place(part.subset(torch.tensor([3, 0])).batches(3, seed=4)), whole[[5, 30]])


def test_the_global_generator_is_left_alone(split):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(split.batches(7, seed=1))
    assert torch.equal(torch.rand(1), expected)


def test_only_training_images_are_altered_and_the_data_is_known_by_it():
    plain = load_data(DataSettings(), seed=0)
    bundle = load_data(DataSettings(augment=BOTH), seed=0)
    assert bundle.train.augment is not None
    assert bundle.validation.augment is bundle.test.augment is plain.train.augment is None
    other = load_data(DataSettings(augment=AugmentSettings(flip=True)), seed=0)
    assert len({plain.fingerprint, bundle.fingerprint, other.fingerprint}) == 3


def test_own_datasets_are_altered_if_asked():
    data = TensorDataset(IMAGES, LABELS)
    plain, bundle = (bundle_from_datasets(data, data, augment=augment) for augment in (None, BOTH))
    assert plain.train.augment is None
    assert bundle.train.augment.count == len(bundle.train)
    assert bundle.fingerprint != plain.fingerprint


def test_a_shift_beyond_the_image_is_refused_by_its_key():
    with pytest.raises(DataError, match=r"data\.augment\.shift must be below 8, the side of an image \(got 8\)"):
        load_data(DataSettings(augment=AugmentSettings(shift=8)), seed=0)
