from __future__ import annotations

import pytest

from aebnas.data.csv_table import class_names
from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError


@pytest.fixture
def table(tmp_path, save_images):
    """Write a table of the images a/000.png ... of which each has a class; returns its path."""
    save_images(tmp_path / "data" / "images", {"a": 12, "b": 12})

    def write(label=lambda name, _: name, split=None, *, header=None, sep=",", prefix="images/"):
        lines = [header or sep.join(["path", "label", *(["split"] if split else [])])]
        for name in "ab":
            for number in range(12):
                cells = [f"{prefix}{name}/{number:03}.png", label(name, number), *([split(number)] if split else [])]
                lines.append(sep.join(cells))
        path = tmp_path / "data" / "table.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
        return path

    return write


def load(path, **settings):
    return load_data(DataSettings(name="csv", path=path, **settings), seed=0)


def test_paths_are_relative_to_the_table(table):
    bundle = load(table())
    assert bundle.classes == ("a", "b")
    assert sum(map(len, (bundle.train, bundle.validation, bundle.test))) == 24
    assert bundle.input_shape == (3, 4, 5)


def test_paths_are_relative_to_data_dir_if_it_is_given(table, tmp_path):
    bundle = load(table(prefix=""), data_dir=tmp_path / "data" / "images")
    assert bundle.train.labels.bincount().tolist() == [8, 8]


def test_own_parts_are_used(table):
    parts = {0: "test", 1: "val", 2: "dev", 3: "Validation"}
    bundle = load(table(split=lambda number: parts.get(number, "train")))
    assert [len(one) for one in (bundle.train, bundle.validation, bundle.test)] == [16, 6, 2]


def test_whole_numbers_are_ordered_as_such(table):
    bundle = load(table(label=lambda name, _: {"a": "10", "b": "9"}[name]))
    assert bundle.classes == ("9", "10")
    assert class_names(["2", "10", "x"]) == ("10", "2", "x")


def test_other_columns_and_delimiters(table):
    path = table(header="file;kind;part", split=lambda number: "test" if number < 3 else "train", sep=";")
    bundle = load(path, columns={"image": "file", "label": "kind", "split": "part"})
    assert len(bundle.test) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"header": "file,label"}, r"no column 'path' .*names file, label.*data\.columns\.image"),
        ({"split": lambda number: "tset" if number == 2 else "train"}, r"line 4 of .* has the split 'tset'"),
        ({"label": lambda name, number: "" if number == 3 else name}, "line 5 of .* lacks a path or a label"),
        ({"split": lambda _: "test"}, "lists no images to train on"),
        ({"prefix": "gone/"}, r"gone/a/000\.png cannot be read \(No such file"),
    ],
)
def test_wrong_tables_are_named(table, change, words):
    with pytest.raises(DataError, match=words):
        load(table(**change))


def test_a_class_without_training_images_is_named(table):
    path = table(
        label=lambda name, number: "new" if number == 0 else name, split=lambda n: "test" if n == 0 else "train"
    )
    with pytest.raises(DataError, match="the class 'new' in test only"):
        load(path)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"x\.csv cannot be read as a CSV file"):
        load(tmp_path / "x.csv")


def test_a_file_that_is_not_there_may_be_skipped(table):
    path = table()
    path.write_text(path.read_text(encoding="utf-8") + "images/gone.png,a\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"gone\.png cannot be read \(No such file"):
        load(path)
    bundle = load(path, corrupt="skip")
    assert sum(map(len, (bundle.train, bundle.validation, bundle.test))) == 24


@pytest.mark.parametrize(
    ("split", "extra", "allowed"),
    [
        (None, "images/a/000.png,a", False),
        (None, "./images//a/000.png,a", False),
        (lambda _: "train", "images/a/000.png,a,test", False),
        (lambda n: "train" if n > 3 else "test", "images/a/004.png,a,train", False),
        (lambda n: {0: "val", 1: "test"}.get(n, "train"), "images/a/004.png,a,train", True),
    ],
)
def test_an_image_is_not_trained_on_and_tested_with(table, split, extra, allowed):
    path = table(split=split)
    path.write_text(f"{path.read_text(encoding='utf-8')}{extra}\n", encoding="utf-8")
    if allowed:
        assert len(load(path).train) == 21
        return
    with pytest.raises(DataError, match=r"lists .*a/00[04]\.png twice"):
        load(path)
