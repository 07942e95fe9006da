from __future__ import annotations

import zipfile

import numpy as np
import pytest

from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError


def load(path, **settings):
    return load_data(DataSettings(name="npz", path=path, **settings), seed=0)


def test_arrays_become_splits(save_npz, arrays):
    bundle = load(save_npz())
    assert bundle.classes == ("0", "1", "2")
    assert bundle.input_shape == (1, 6, 7)
    assert bundle.preprocessing.scale == 1 / 255
    assert (len(bundle.train), len(bundle.validation)) == (24, 6)
    np.testing.assert_array_equal(bundle.test.raw()[:, 0].numpy(), arrays["x_test"])


def test_layouts_give_the_same_data(save_npz, arrays):
    fingerprints = set()
    for axis in (1, 3):
        images = {name: np.stack([arrays[name]] * 3, axis=axis) for name in ("x_train", "x_test")}
        fingerprints.add(load(save_npz(**images)).fingerprint)
    assert len(fingerprints) == 1


def test_float_images_are_not_scaled(save_npz, arrays):
    bundle = load(save_npz(x_train=arrays["x_train"] / 255, x_test=arrays["x_test"] / 255))
    whole = load(save_npz())
    assert bundle.preprocessing.scale == 1.0
    assert bundle.preprocessing.mean == pytest.approx(whole.preprocessing.mean, rel=1e-6)
    assert bundle.preprocessing.std == pytest.approx(whole.preprocessing.std, rel=1e-6)


def with_nan(x):
    x = x.astype(np.float32)
    x[3, 0, 0] = np.nan
    return x


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {"x_test": None}, ["lacks x_test", "x_train", "numpy.savez"]),
        (lambda a: {"y_train": None, "y_test": None}, ["lacks y_train, y_test"]),
        (lambda a: {"x_train": a["x_train"].astype(object)}, ["x_train", "pickled", "refused"]),
        (lambda a: {"y_test": a["y_test"].astype(object)}, ["y_test", "pickled"]),
        (lambda a: {"x_train": a["x_train"][0]}, ["x_train", "(6, 7)"]),
        (lambda a: {"x_test": a["x_test"][:, :5]}, ["x_test", "(1, 5, 7)", "(1, 6, 7)"]),
        (lambda a: {"x_test": a["x_test"] / 255}, ["uint8", "float32", "same dtype"]),
        (lambda a: {"y_train": a["y_train"][:-1]}, ["y_train", "29 labels for 30 images"]),
        (lambda a: {"y_train": a["y_train"] - 1}, ["y_train", "label -1"]),
        (lambda a: {"y_test": a["y_test"] + 1}, ["y_test", "label 3", "0 to 2"]),
        (lambda a: {"y_train": a["y_train"] / 1}, ["y_train", "float64"]),
        (lambda a: {"y_train": a["y_train"] + 1, "y_test": a["y_test"] + 1}, ["class 0", "0 samples", "without gaps"]),
        (lambda a: {"y_train": np.array([3, *a["y_train"][1:]])}, ["class 3", "1 sample ", "train and validation"]),
        (lambda a: {"y_train": a["y_train"] * 0, "y_test": a["y_test"] * 0}, ["only one class"]),
        (lambda a: {"x_train": with_nan(a["x_train"]), "x_test": a["x_test"] / 255}, ["image 3", "x_train", "NaN"]),
    ],
)
def test_wrong_arrays_are_named(save_npz, arrays, change, words):
    path = save_npz(**change(arrays))
    with pytest.raises(DataError) as error:
        load(path)
    assert all(word in str(error.value) for word in [str(path), *words])
    assert "\n" not in str(error.value)


def test_missing_path_and_file_are_named(tmp_path):
    with pytest.raises(DataError, match=r"needs data\.path: .*x_train, y_train, x_test, y_test"):
        load(None)
    with pytest.raises(DataError, match=r"absent\.npz does not exist"):
        load(tmp_path / "absent.npz")
    with pytest.raises(DataError, match=r"data\.grey has no meaning"):
        load(tmp_path, grey=True)


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: b"hello", lambda c: c[: len(c) // 2]])
def test_files_that_are_no_archive_are_named(save_npz, damage):
    path = save_npz()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"no \.npz file or is cut off") as error:
        load(path)
    assert str(path) in str(error.value)


def test_single_array_file_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(DataError, match=r"no \.npz file"):
        load(path)


def test_member_that_is_no_array_is_named(save_npz):
    path = save_npz(x_test=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_test.npy", b"not an array")
    with pytest.raises(DataError, match=r"x_test in .* is damaged"):
        load(path)


def test_flipped_bytes_are_found_and_never_raise_anything_else(save_npz):
    path = save_npz()
    content = path.read_bytes()
    refused = 0
    for position in range(0, len(content), 97):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            load(path)
        except DataError:
            refused += 1
    assert refused > len(content) // 97 // 2


def test_own_validation_part_is_used(save_npz, arrays):
    path = save_npz(x_validation=arrays["x_test"], y_validation=arrays["y_test"])
    bundle = load(path)
    assert [len(part) for part in (bundle.train, bundle.validation, bundle.test)] == [30, 12, 12]
    with pytest.raises(DataError, match="lacks y_validation"):
        load(save_npz(x_validation=arrays["x_test"]))
