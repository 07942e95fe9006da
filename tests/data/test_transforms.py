"""What torchvision alters: the same for the same seed, image and place, wherever it is done."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.utils.data import TensorDataset

from aebnas.data import transforms
from aebnas.data.augment import Augment, altered
from aebnas.data.load import bundle_from_datasets, load_data
from aebnas.data.preprocessing import identity
from aebnas.data.settings import AugmentSettings, DataSettings
from aebnas.data.splits import DatasetSplit, TensorSplit
from aebnas.errors import DataError, MissingExtraError

pytest.importorskip("torchvision.transforms.v2")
COUNT = 24
IMAGES = torch.randint(1, 256, (COUNT, 3, 16, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(COUNT) % 2
ALL = AugmentSettings(flip=True, shift=2, crop=0.5, rotate=20, colour=0.4, rand_augment=9, erase=0.5)
EACH = [{"crop": 0.3}, {"rotate": 30}, {"colour": 0.5}, {"rand_augment": 12}, {"erase": 1.0}]


def split(workers=0, settings=ALL, kind=DatasetSplit):
    augment = Augment(settings, COUNT)
    if kind is TensorSplit:
        return TensorSplit(IMAGES, LABELS, identity(3), augment)
    return DatasetSplit(TensorDataset(IMAGES, LABELS), LABELS, identity(3), augment=augment, workers=workers)


def in_place(batches):
    batches = list(batches)
    return torch.cat([batch.images for batch in batches])[torch.cat([batch.index for batch in batches]).argsort()]


def test_images_look_the_same_in_memory_read_anew_and_in_processes():
    expected = in_place(split(kind=TensorSplit).read(COUNT, order=None, look=3))
    assert torch.equal(in_place(split().read(5, order=8, look=3)), expected)
    assert torch.equal(in_place(split(2).read(4, order=1, look=3)), expected)
    rows = torch.tensor([20, 3])
    assert torch.equal(in_place(split().subset(rows).read(1, order=2, look=3)), expected[rows])
    assert not torch.equal(in_place(split().read(5, order=8, look=4)), expected)
    assert torch.equal(in_place(split().read(5, order=8, look=None)), IMAGES.float())


@pytest.mark.parametrize("values", EACH)
def test_each_alters_images_and_keeps_their_kind(values):
    settings = AugmentSettings(**values)
    assert settings.on
    assert settings.uses_library
    augment = Augment(settings, COUNT)
    found = augment.alter(IMAGES, augment.looks(0))
    assert (found.dtype, found.shape) == (IMAGES.dtype, IMAGES.shape)
    assert sum(not torch.equal(one, other) for one, other in zip(found, IMAGES, strict=True)) > COUNT // 2


def test_flips_and_shifts_are_those_of_before():
    plain = Augment(AugmentSettings(flip=True, shift=2), COUNT).looks(5)
    assert torch.equal(Augment(ALL, COUNT).looks(5)[:, :3], plain)
    erased = Augment(AugmentSettings(flip=True, shift=2, erase=1e-9), COUNT)
    assert torch.equal(erased.alter(IMAGES, erased.looks(5)), altered(IMAGES, plain))


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(split().batches(8, seed=1))
    assert torch.equal(torch.rand(1), expected)


def test_what_is_altered_one_by_one_stays_off_accelerators():
    assert split(kind=TensorSplit).footprint() is None
    assert split(kind=TensorSplit, settings=AugmentSettings(flip=True)).footprint() is not None


def test_settings_are_told_to_the_fingerprint_only_where_they_alter():
    assert AugmentSettings(flip=True).to_json() == {"flip": True, "shift": 0}
    assert AugmentSettings(crop=0.5).to_json() == {"flip": False, "shift": 0, "crop": 0.5}
    values = [load_data(DataSettings(augment=one), seed=0).fingerprint for one in ({}, {"crop": 0.5}, {"crop": 0.6})]
    assert len(set(values)) == 3


def test_images_in_memory_are_altered_by_processes_where_that_is_asked_for(save_npz):
    path = save_npz()
    one, two = (
        load_data(DataSettings(name="npz", path=path, augment={"crop": 0.5}, workers=workers), seed=0)
        for workers in (0, 2)
    )
    assert isinstance(one.train, TensorSplit)
    assert isinstance(two.train, DatasetSplit)
    assert isinstance(two.validation, TensorSplit)
    assert torch.equal(in_place(one.train.batches(3, seed=2)), in_place(two.train.batches(3, seed=2)))
    assert one.fingerprint == two.fingerprint


def test_colours_of_floats_are_refused_by_their_key():
    floats = TensorDataset(IMAGES.float(), LABELS)
    with pytest.raises(DataError, match=r"data\.augment\.colour alters 8-bit images, grey or RGB, not float"):
        bundle_from_datasets(floats, floats, augment=AugmentSettings(colour=0.1))
    two = TensorDataset(IMAGES[:, :2], LABELS)
    with pytest.raises(DataError, match=r"data\.augment\.rand_augment .* not 8-bit images with 2 channels"):
        bundle_from_datasets(two, two, augment=AugmentSettings(rand_augment=5))
    assert bundle_from_datasets(floats, floats, augment=AugmentSettings(crop=0.5)).train.augment is not None


def test_missing_torchvision_names_the_extra(monkeypatch):
    transforms._transform.cache_clear()
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    with pytest.raises(MissingExtraError, match=r"torchvision .*aebnas\[torchvision\]"):
        load_data(DataSettings(augment=AugmentSettings(erase=0.5)), seed=0)
