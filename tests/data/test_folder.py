from __future__ import annotations

import builtins
import os

import numpy as np
import pytest

from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError, MissingExtraError


def load(path, **settings):
    return load_data(DataSettings(name="folder", path=path, **settings), seed=0)


def test_sub_folders_are_classes_sorted_by_name(tmp_path, save_images):
    bundle = load(save_images(tmp_path, {"dog": 10, "Ant": 5, "cat": 5}))
    assert bundle.classes == ("Ant", "cat", "dog")
    assert bundle.input_shape == (3, 4, 5)
    assert bundle.test.labels.bincount().tolist() == [1, 1, 2]
    assert (len(bundle.train) + len(bundle.validation), len(bundle.test)) == (16, 4)


def test_own_test_part_is_used_and_pixels_survive(tmp_path, save_images):
    image_module = pytest.importorskip("PIL.Image")
    save_images(tmp_path / "train", {"a": 4, "b": 4})
    save_images(tmp_path / "test", {"a": 1, "b": 2}, seed=1)
    bundle = load(tmp_path)
    assert bundle.test.labels.tolist() == [0, 1, 1]
    files = sorted((tmp_path / "test").rglob("*.png"))
    expected = np.stack([np.asarray(image_module.open(file)).transpose(2, 0, 1) for file in files])
    np.testing.assert_array_equal(bundle.test.raw().numpy(), expected)


def test_train_without_test_is_split(tmp_path, save_images):
    save_images(tmp_path / "train", {"a": 5, "b": 5})
    bundle = load(tmp_path)
    assert bundle.classes == ("a", "b")
    assert len(bundle.test) == 2


def test_class_called_train_is_a_class(tmp_path, save_images):
    assert load(save_images(tmp_path, {"train": 5, "plane": 5})).classes == ("plane", "train")


def test_grey_and_size(tmp_path, save_images):
    save_images(tmp_path, {"a": 5, "b": 5})
    save_images(tmp_path, {"b": 2}, size=(9, 3))
    assert load(tmp_path, image_size=6, grey=True).input_shape == (1, 6, 6)
    assert load(tmp_path, image_size=6).input_shape == (3, 6, 6)
    with pytest.raises(DataError, match=r"9x3 pixels .* 5x4|5x4 pixels .* 9x3") as error:
        load(tmp_path)
    assert "data.image_size" in str(error.value)


def test_other_files_are_left_out(tmp_path, save_images):
    save_images(tmp_path, {"a": 5, "b": 5, ".cache": 1})
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / "._000.png").write_text("x")
    bundle = load(tmp_path)
    assert bundle.classes == ("a", "b")
    assert sum(map(len, (bundle.train, bundle.validation, bundle.test))) == 10


def test_unreadable_image_is_named(tmp_path, save_images):
    save_images(tmp_path, {"a": 5, "b": 5})
    path = tmp_path / "b" / "003.png"
    content = path.read_bytes()
    for damaged in (b"", b"hello", content[:40], content[:45] + b"\0\0\0" + content[48:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read as an image") as error:
            load(tmp_path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root, save: None, "has no sub-folders"),
        (lambda root, save: save(root, {"a": 5, "b": 0}), "b holds no images"),
        (lambda root, save: save(root, {"a": 5}), "only one class, 'a'"),
        (lambda root, save: save(root, {"a": 5, "b": 2}), r"class 1 \('b'\) has 2 samples"),
        (lambda root, save: save(root, {"train/a": 5, "train/b": 5, "test/c": 1}), "class that train/ does not have"),
        (lambda root, save: save(root, {"train/a": 5, "train/b": 5, "extra/a": 1}), "has extra/ beside train/"),
        (lambda root, save: save(root, {"train/a": 5, "train/b": 5, "val/a": 1, "valid/a": 1}), "both val/ and valid/"),
        (lambda root, save: save(root, {"train/a": 5, "train/b": 5, "val/c": 1}), "class that train/ does not have"),
        (lambda root, save: save(root, {"a": 5, "test/a": 5}), "lies inside a class"),
        (lambda root, save: (save(root, {"train/a": 5, "train/b": 5}), (root / "test").mkdir()), "test has no sub"),
    ],
)
def test_wrong_folders_are_named(tmp_path, save_images, make, words):
    make(tmp_path, save_images)
    with pytest.raises(DataError, match=words) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_test_images_of_another_size_are_refused(tmp_path, save_images):
    save_images(tmp_path / "train", {"a": 5, "b": 5})
    save_images(tmp_path / "test", {"a": 5}, size=(6, 6))
    with pytest.raises(DataError, match=r"test/a/000.png is 6x6 pixels but .*train/a/000.png is 5x4"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_own_validation_part_is_used(tmp_path, save_images, name):
    save_images(tmp_path / "train", {"a": 5, "b": 5})
    save_images(tmp_path / name, {"b": 2}, seed=1)
    bundle = load(tmp_path)
    assert bundle.validation.labels.tolist() == [1, 1]
    assert (len(bundle.train), len(bundle.test)) == (8, 2)


def test_missing_path_is_named(tmp_path):
    with pytest.raises(DataError, match=r"needs data\.path"):
        load(None)
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        load(tmp_path / "file")


def test_missing_pillow_names_the_extra(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").touch()
    real = builtins.__import__

    def without_pillow(name, *args, **kwargs):
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(MissingExtraError, match=r"Pillow .*aebnas\[images\]"):
        load(tmp_path)


def test_a_class_whose_name_is_no_text_is_named(tmp_path, save_images):
    save_images(tmp_path, {"a": 4, "b": 4})
    try:
        (tmp_path / "b").rename(tmp_path / os.fsdecode(b"caf\xe9"))
    except OSError:
        pytest.skip("this file system has text only")
    with pytest.raises(DataError, match=r"the folder 'caf\\udce9' in .* rename it"):
        load(tmp_path)
