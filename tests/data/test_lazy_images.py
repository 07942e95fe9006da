"""Images on disk: in memory where they fit, decoded when they are read where they do not; the same either way."""

from __future__ import annotations

import logging
import os
import pickle

import numpy as np
import pytest
import torch

from aebnas.data import index
from aebnas.data.load import load_data
from aebnas.data.parts import LazyImages
from aebnas.data.pictures import FilePictures
from aebnas.data.settings import AugmentSettings, DataSettings
from aebnas.data.splits import DatasetSplit, TensorSplit
from aebnas.errors import DataError
from aebnas.inputs import ModelInput

CPU = torch.device("cpu")
WANTED = ModelInput((6, 8), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", 0.9)


def load(path, *, wanted=None, seed=0, **settings):
    return load_data(DataSettings(name="folder", path=path, **settings), seed=seed, wanted=wanted)


@pytest.fixture
def folder(tmp_path, save_images):
    return save_images(tmp_path / "images", {"a": 40, "b": 30, "c": 30})


@pytest.fixture
def looks(monkeypatch):
    """The files that were looked at, in order."""
    found = []
    real = FilePictures.look

    def look(self, position, *, whole):
        found.append(self.name(position))
        return real(self, position, whole=whole)

    monkeypatch.setattr(FilePictures, "look", look)
    return found


def epoch(split, **how):
    batches = list(split.read(7, **how))
    rows = torch.cat([batch.index for batch in batches]).argsort()
    return torch.cat([batch.images for batch in batches])[rows], torch.cat([batch.labels for batch in batches])[rows]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_does_not_fit_in_memory_is_read_from_disk_and_is_the_same(folder, workers):
    near, far = load(folder), load(folder, ram_gib=0, workers=workers)
    assert isinstance(near.train, TensorSplit)
    assert isinstance(far.train, DatasetSplit)
    assert far.train.footprint() is None
    assert far.train.on(CPU) is far.train
    assert (far.fingerprint, far.preprocessing) == (near.fingerprint, near.preprocessing)
    for name in ("train", "validation", "test"):
        ours, theirs = getattr(far, name), getattr(near, name)
        assert torch.equal(ours.raw(), theirs.raw())
        assert torch.equal(torch.cat(list(ours.raw_batches(9))), theirs.raw())
        assert torch.equal(torch.cat(list(theirs.raw_batches(9))), theirs.raw())
        assert torch.equal(ours.labels, theirs.labels)
        for one, other in zip(epoch(ours, order=3, look=None), epoch(theirs, order=3, look=None), strict=True):
            assert torch.equal(one, other)
    assert torch.equal(far.train.raw(5), near.train.raw(5))
    part = torch.tensor([50, 3, 4])
    assert torch.equal(far.train.subset(part).raw(), near.train.raw()[part])


def test_a_pass_reads_each_image_once(folder, monkeypatch):
    bundle = load(folder, ram_gib=0, workers=0)
    read = []
    real = FilePictures.read
    monkeypatch.setattr(FilePictures, "read", lambda self, at, form: read.append(at) or real(self, at, form))
    list(bundle.train.batches(8, seed=1))
    assert len(read) == len(set(read)) == len(bundle.train)


@pytest.mark.parametrize("workers", [0, 2])
def test_altered_images_are_the_same_wherever_they_are_read(folder, workers):
    augment = AugmentSettings(flip=True, shift=2)
    near, far = (load(folder, augment=augment, ram_gib=gib, workers=workers) for gib in (2, 0))
    ours, theirs = (epoch(one.train, order=5, look=5)[0] for one in (near, far))
    torch.testing.assert_close(ours, theirs)
    assert not torch.equal(theirs, epoch(far.train, order=5, look=6)[0])


def test_a_copy_of_the_files_is_the_same_data(folder, tmp_path):
    fingerprint = load(folder, ram_gib=0).fingerprint
    copy = tmp_path / "elsewhere"
    for path in sorted(folder.rglob("*.png")):
        (copy / path.parent.name).mkdir(parents=True, exist_ok=True)
        (copy / path.parent.name / path.name).write_bytes(path.read_bytes())
    assert load(copy, ram_gib=0).fingerprint == fingerprint
    first, second = sorted((copy / "a").iterdir())[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert load(copy, ram_gib=0).fingerprint != fingerprint
    assert load(folder, ram_gib=0, image_size=3).fingerprint != fingerprint
    assert load(folder, ram_gib=0, seed=1).fingerprint != fingerprint


def test_files_that_are_known_are_not_looked_at_again(folder, looks):
    for path in folder.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    load(folder, ram_gib=0, workers=0)
    assert len(looks) == 100
    again = load(folder, ram_gib=0, workers=0)
    assert len(looks) == 100
    changed = folder / "b" / "007.png"
    changed.write_bytes((folder / "b" / "008.png").read_bytes())
    os.utime(changed, (1e9 + 1, 1e9 + 1))
    (folder / "c" / "000.png").rename(folder / "c" / "new.png")
    other = load(folder, ram_gib=0, workers=0)
    assert looks[100:] == [str(changed), str(folder / "c" / "new.png")]
    assert other.fingerprint != again.fingerprint


def test_a_file_that_was_just_written_is_not_trusted(folder, looks):
    load(folder, workers=0)
    load(folder, workers=0)
    assert len(looks) == 200


def test_a_damaged_or_unwritable_memory_is_done_without(folder, monkeypatch, tmp_path, caplog):
    cache = tmp_path / "cache"
    monkeypatch.setenv("AEBNAS_CACHE_DIR", str(cache))
    expected = load(folder, ram_gib=0).fingerprint
    files = list((cache / "images").iterdir())
    assert files
    for path in files:
        path.write_bytes(b"hello")
    assert load(folder, ram_gib=0).fingerprint == expected
    assert "is damaged" in caplog.text
    (tmp_path / "file").touch()
    monkeypatch.setenv("AEBNAS_CACHE_DIR", str(tmp_path / "file"))
    assert load(folder, ram_gib=0).fingerprint == expected
    assert "cannot write" in caplog.text


def test_moments_of_many_images_are_those_of_a_sample(folder, monkeypatch):
    whole = load(folder)
    monkeypatch.setattr("aebnas.data.parts.MOMENT_IMAGES", 20)
    near, far, again = load(folder), load(folder, ram_gib=0), load(folder, ram_gib=0)
    assert near.preprocessing == far.preprocessing == again.preprocessing
    assert near.fingerprint == far.fingerprint != whole.fingerprint
    assert near.preprocessing.mean != whole.preprocessing.mean
    assert near.preprocessing.mean == pytest.approx(whole.preprocessing.mean, abs=0.05)


def test_what_earlier_versions_held_in_memory_is_told_by_its_pixels(folder, monkeypatch):
    """Their moments were those of all images; what was read from disk is as it was."""
    whole = load(folder).preprocessing
    monkeypatch.setattr("aebnas.data.parts.MOMENT_IMAGES", 20)
    bundle, far = load(folder), load(folder, ram_gib=0)
    now, before = bundle.versions()
    assert now is bundle
    assert before.preprocessing == whole != bundle.preprocessing
    assert len({before.fingerprint, bundle.fingerprint}) == 2
    assert torch.equal(before.train.raw(), bundle.train.raw())
    assert list(before.versions()) == [before]
    assert list(far.versions()) == [far]
    assert bundle.before().fingerprint == before.fingerprint
    first, second = (sorted((folder / "a").iterdir())[place] for place in (0, 1))
    first.write_bytes(second.read_bytes())
    assert load(folder).before().fingerprint != before.fingerprint


def test_sizes_that_differ_are_brought_to_what_the_backbone_wants(folder, save_images):
    assert load(folder, wanted=WANTED).input_shape == (3, 4, 5)
    save_images(folder, {"b": 2}, size=(9, 3))
    assert load(folder, wanted=WANTED).input_shape == (3, 6, 8)
    assert load(folder, wanted=WANTED, image_size=(2, 3)).input_shape == (3, 2, 3)
    with pytest.raises(DataError, match=r"set data\.image_size"):
        load(folder)


def test_normalised_as_the_backbone_was(folder):
    bundle = load(folder, wanted=WANTED, normalise="backbone")
    assert (bundle.preprocessing.mean, bundle.preprocessing.std) == (WANTED.mean, WANTED.std)
    assert bundle.preprocessing.scale == 1 / 255
    assert bundle.wanted == WANTED
    with pytest.raises(DataError, match=r"data\.normalise: backbone needs a pretrained backbone"):
        load(folder, normalise="backbone")
    with pytest.raises(DataError, match=r"3 channels, the images have 1: change data\.grey"):
        load(folder, wanted=WANTED, normalise="backbone", grey=True)


def cut_off(path):
    """Damage the pixels and leave the header."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return str(path)


def test_damaged_headers_are_found_at_once(folder):
    names = [folder / "a" / "003.png", folder / "c" / "001.png"]
    for path in names:
        path.write_bytes(b"hello")
    with pytest.raises(
        DataError,
        match=r"a/003\.png cannot be read as an image .* data\.corrupt to skip \(2 of 100 images are damaged\)",
    ):
        load(folder, ram_gib=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_pixels_are_named_when_they_are_read(folder, workers):
    name = cut_off(folder / "b" / "011.png")
    with pytest.raises(DataError, match="cannot be read as an image") as error:
        # As all train images say what is normalised with, it is here that they are read.
        bundle = load(folder, ram_gib=0, workers=workers)
        for split in (bundle.train, bundle.validation, bundle.test):
            list(split.batches(8))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_images_are_skipped_counted_and_named(folder, caplog):
    names = [cut_off(folder / "b" / f"0{number}.png") for number in (11, 12)]
    (folder / "c" / "005.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        near = load(folder, corrupt="skip")
        far = load(folder, corrupt="skip", ram_gib=0)
    assert sum(map(len, (near.train, near.validation, near.test))) == 97
    assert torch.equal(near.train.raw(), far.train.raw())
    assert f"3 of 100 images cannot be read and are left out; the first: {names[0]}" in caplog.text
    assert "data.corrupt" not in caplog.text


def test_a_part_without_any_image_that_can_be_read_is_named(tmp_path, save_images):
    for name, count in (("train", 20), ("val", 1), ("test", 4)):
        save_images(tmp_path / name, {"a": count, "b": count})
    for path in (tmp_path / "val").rglob("*.png"):
        path.write_bytes(b"hello")
    with pytest.raises(DataError, match="val holds no images that can be read: add some"):
        load(tmp_path, corrupt="skip")


def test_what_stood_in_the_way_is_forgotten(folder, monkeypatch):
    for path in folder.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    real = FilePictures.content

    def refused(self, position):
        if self.name(position).endswith("a/003.png"):
            raise DataError("a/003.png cannot be read (Permission denied)")
        return real(self, position)

    with monkeypatch.context() as patch:
        patch.setattr(FilePictures, "content", refused)
        with pytest.raises(DataError, match="Permission denied"):
            load(folder, workers=0)
    bundle = load(folder, workers=0)
    assert sum(map(len, (bundle.train, bundle.validation, bundle.test))) == 100


def test_more_than_a_tenth_of_damage_is_fatal(folder):
    for number in range(11):
        cut_off(folder / "a" / f"0{number + 10}.png")
    with pytest.raises(DataError, match=r"11 of 100 images cannot be read, more than the tenth .*a/010\.png"):
        load(folder, corrupt="skip")


def test_looking_at_many_images_shows_progress(folder, monkeypatch):
    from aebnas.progress import Progress, Stage

    told = []

    class Watched(Progress):
        def stage(self, label, total, done=0):
            told.append((label, total))
            return super().stage(label, total, done)

    monkeypatch.setattr(index, "_SHOWN", 50)
    settings = DataSettings(name="folder", path=folder, ram_gib=0)
    load_data(settings, seed=0, progress=Watched())
    assert told == [(f"looking at the images of {folder}", 100)]
    assert Stage().advance() is None


def test_a_thousand_classes(tmp_path, save_images):
    root = save_images(tmp_path / "many", {f"class {number:04}": 3 for number in range(1000)}, size=(2, 2))
    bundle = load(root)
    assert bundle.num_classes == 1000
    assert bundle.classes[999] == "class 0999"
    for split in (bundle.train, bundle.validation, bundle.test):
        assert torch.equal(split.labels, torch.arange(1000))


def test_moments_and_fingerprints_are_of_the_rows_that_are_asked_for(folder):
    settings = DataSettings(name="folder", path=folder, ram_gib=0, workers=0)
    from aebnas.data.datasets import DATASETS
    from aebnas.data.resolve import resolve
    from aebnas.progress import Progress

    data = DATASETS["folder"](settings)
    part = resolve(data, settings, wanted=None, progress=Progress()).train
    assert isinstance(part, LazyImages)
    assert part.fingerprint(np.array([0, 1])) != part.fingerprint(np.array([1, 0]))
    assert part.moments(np.array([4])).shape == (1, 3, 2)


def test_a_split_can_be_sent_to_another_process(folder):
    split = load(folder, ram_gib=0, workers=2, augment=AugmentSettings(flip=True)).train
    other = pickle.loads(pickle.dumps(split))
    assert torch.equal(epoch(other, order=1, look=2)[0], epoch(split, order=1, look=2)[0])
