"""What --data-dir and data.data_dir mean for every kind of data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from aebnas.data.placing import check_data_dir, options_of, placed
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError


@pytest.fixture
def moved(tmp_path):
    """A folder that a folder of images, an npz and a csv file were moved to."""
    folder = tmp_path / "moved"
    (folder / "photos").mkdir(parents=True)
    for name in ("arrays.npz", "table.csv"):
        (folder / name).touch()
    return folder


def settings(name: str, path: str | None = None, **keys) -> DataSettings:
    return DataSettings(name=name, path=None if path is None else Path(path), **keys)


def test_without_a_folder_all_stays_as_it_is():
    known = settings("folder", "/gone/photos")
    assert placed(known, None) is known


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("folder", "/gone/photos"),
        ("folder", "/gone/photos/"),
        ("npz", "/gone/arrays.npz"),
        ("csv", "/gone/table.csv"),
        ("huggingface", "/gone/photos"),
        ("my_data:make", "/gone/photos"),
    ],
)
def test_what_has_a_path_is_looked_for_under_its_name(name, path, moved):
    found = placed(settings(name, path), moved)
    assert (found.path, found.data_dir) == (moved / Path(path).name, None)
    assert options_of(settings(name, path), moved) == {"data.path": moved / Path(path).name, "data.data_dir": None}


def test_a_table_that_is_where_it_was_has_its_images_there(moved, tmp_path):
    for name in ("other.csv", "table.csv"):  # of the second there is one in the folder, too
        (tmp_path / name).touch()
        found = placed(settings("csv", str(tmp_path / name), data_dir="/gone/images"), moved)
        assert (found.path, found.data_dir) == (tmp_path / name, moved)


def test_the_images_of_a_table_are_moved_with_it(moved):
    known = settings("csv", "/gone/table.csv", data_dir="/gone/images")
    assert options_of(known, moved) == {"data.path": moved / "table.csv", "data.data_dir": moved}
    (moved / "images").mkdir()
    assert options_of(known, moved) == {"data.path": moved / "table.csv", "data.data_dir": moved / "images"}


@pytest.mark.parametrize("name", ["fashion-mnist", "torchvision:CIFAR10", "huggingface:beans"])
def test_what_has_a_name_is_looked_for_there(name, moved, monkeypatch):
    assert placed(settings(name), moved).data_dir == moved
    check_data_dir(placed(settings(name), moved))
    monkeypatch.chdir(moved.parent)
    assert placed(settings(name), Path("moved")).data_dir == moved


@pytest.mark.parametrize("name", ["folder", "npz", "csv", "huggingface", "my_data:make"])
def test_what_is_not_there_is_an_error(name, moved):
    with pytest.raises(DataError, match=r"^--data-dir .*moved holds no gone, which is what data\.path names"):
        placed(settings(name, "/somewhere/gone"), moved)


@pytest.mark.parametrize("name", ["digits", "my_data:make"])
def test_what_has_no_files_has_none_anywhere(name, moved):
    with pytest.raises(DataError, match=f"--data-dir has no meaning for the data set {name}: leave it out"):
        placed(settings(name), moved)


@pytest.mark.parametrize(
    ("name", "path"),
    [("digits", None), ("folder", "/p"), ("npz", "/p"), ("huggingface", "/p"), ("my_data:make", "/p")],
)
def test_the_key_is_refused_where_nobody_looks_at_it(name, path, moved):
    with pytest.raises(DataError, match=f"data.data_dir has no meaning for the data set {name}: remove it"):
        check_data_dir(settings(name, path, data_dir=moved))
    check_data_dir(settings(name, path))


def test_the_key_is_taken_where_it_means_something(moved):
    for name, path in (("csv", "/p.csv"), ("fashion-mnist", None), ("torchvision:CIFAR10", None)):
        check_data_dir(settings(name, path, data_dir=moved))
