from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aebnas.data import fashion_mnist
from aebnas.data.fashion_mnist import CLASSES, FILES, SYSTEM_FOLDER
from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError

REAL = all((SYSTEM_FOLDER / f"{name}.gz").is_file() for name in FILES)


@pytest.fixture(autouse=True)
def no_system_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("AEBNAS_DATA", raising=False)
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "system")


def load(folder=None, **settings):
    return load_data(DataSettings(name="fashion-mnist", data_dir=folder, **settings), seed=0)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_become_splits(tmp_path, write_fashion, suffix):
    _, _, test_images, test_labels = write_fashion(tmp_path, suffix=suffix)
    bundle = load(tmp_path)
    assert bundle.classes == CLASSES
    assert bundle.input_shape == (1, 4, 5)
    assert (len(bundle.train), len(bundle.validation), len(bundle.test)) == (30, 10, 20)
    np.testing.assert_array_equal(bundle.test.raw()[:, 0].numpy(), test_images)
    np.testing.assert_array_equal(bundle.test.labels.numpy(), test_labels)


def test_places_are_tried_in_order(tmp_path, write_fashion, monkeypatch):
    monkeypatch.setenv("AEBNAS_DATA", str(tmp_path / "variable"))
    folders = ["settings", "variable/fashion-mnist", "system"]
    seen = []
    for position, folder in reversed(list(enumerate(folders))):
        write_fashion(tmp_path / folder, seed=position)
        seen.append(load(tmp_path / "settings").fingerprint)
    expected = [load(tmp_path / folder).fingerprint for folder in reversed(folders)]
    assert seen == expected
    assert len(set(seen)) == len(folders)


def test_missing_files_list_places_in_order_and_the_fix(tmp_path, monkeypatch):
    monkeypatch.setenv("AEBNAS_DATA", str(tmp_path / "variable"))
    with pytest.raises(DataError) as error:
        load(tmp_path / "given")
    message = str(error.value)
    places = [str(tmp_path / name) for name in ("given", "given/fashion-mnist", "variable", "system")]
    positions = [message.index(place) for place in places]
    assert positions == sorted(positions)
    assert all(name in message for name in FILES)
    assert "apt-get install dataset-fashion-mnist" in message
    assert "--data-dir" in message


def test_files_of_two_places_are_not_mixed(tmp_path, write_fashion):
    write_fashion(tmp_path / "system")
    write_fashion(tmp_path / "given")
    (tmp_path / "given" / f"{FILES[3]}.gz").unlink()
    with pytest.raises(DataError) as error:
        load(tmp_path / "given")
    message = str(error.value)
    assert f"{FILES[3]} (plain or .gz) not found" in message
    assert FILES[0] not in message
    assert "system" not in message


def test_labels_must_fit_images_and_classes(tmp_path, write_fashion, write_idx):
    write_fashion(tmp_path)
    labels = tmp_path / f"{FILES[1]}.gz"
    write_idx(labels, np.arange(39) % 10)
    with pytest.raises(DataError, match="39 labels for 40 images"):
        load(tmp_path)
    write_idx(labels, np.full(40, 10))
    with pytest.raises(DataError, match=r"label 10 .* 0 to 9"):
        load(tmp_path)


def test_damaged_file_is_named(tmp_path, write_fashion):
    write_fashion(tmp_path)
    path = tmp_path / f"{FILES[2]}.gz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="cut off") as error:
        load(tmp_path)
    assert str(path) in str(error.value)


def test_path_has_no_meaning():
    with pytest.raises(DataError, match=r"data\.path has no meaning"):
        load(path=Path("x"))


@pytest.mark.skipif(not REAL, reason="the package dataset-fashion-mnist is not installed")
def test_real_files(monkeypatch):
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", SYSTEM_FOLDER)
    bundle = load(validation=0.1)
    assert (len(bundle.train), len(bundle.validation), len(bundle.test)) == (54_000, 6_000, 10_000)
    assert bundle.input_shape == (1, 28, 28)
    assert bundle.validation.labels.bincount().tolist() == [600] * 10
    # The widely used figures for the whole training part.
    assert bundle.preprocessing.mean[0] == pytest.approx(0.2860, abs=1e-3)
    assert bundle.preprocessing.std[0] == pytest.approx(0.3530, abs=1e-3)
