from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from aebnas.errors import DataError
from aebnas.export import source
from aebnas.export.manifest import read_manifest


@pytest.fixture
def manifest(exported, tmp_path):
    """Of a network that knows the classes zebra, ant and cat, in this order, searched on image folders."""
    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    values |= {"classes": ["zebra", "ant", "cat"], "input_shape": [3, 4, 4]}
    values["preprocessing"] = {"scale": 1.0, "mean": [0.0], "std": [1.0]}
    values["extra"] = {"data": {"name": "folder", "path": "gone"}, "seed": 0}
    path.write_text(json.dumps(values))
    return read_manifest(folder)


@pytest.fixture
def save_folder(tmp_path):
    """Write images of 4x4 pixels; ``classes`` says the grey value that marks each class."""
    image = pytest.importorskip("PIL.Image")

    def save(classes, parts=("train", "test"), count=5):
        root = tmp_path / "images"
        for part in parts:
            for name, grey in classes.items():
                (root / part / name).mkdir(parents=True)
                for number in range(count):
                    pixels = np.full((4, 4, 3), grey + (part == "test"), np.uint8)
                    image.fromarray(pixels).save(root / part / name / f"{number}.png")
        return root

    return save


def test_classes_of_a_folder_are_matched_by_name(manifest, save_folder):
    root = save_folder({"ant": 10, "cat": 20, "zebra": 30})
    images, labels = source.test_images(manifest, data=str(root), say=pytest.fail)
    assert {(int(image[0, 0, 0]), int(label)) for image, label in zip(images, labels, strict=True)} == {
        (11, 1),
        (21, 2),
        (31, 0),
    }
    assert (len(images), labels.dtype) == (15, np.int64)


def test_a_folder_with_some_of_the_classes_is_enough(manifest, save_folder):
    images, labels = source.test_images(manifest, data=str(save_folder({"cat": 20, "zebra": 30})))
    assert [int(image[0, 0, 0]) for image in images] == [21] * 5 + [31] * 5
    assert labels.tolist() == [2] * 5 + [0] * 5


def test_a_class_that_the_network_does_not_know_is_named(manifest, save_folder):
    root = save_folder({"ant": 10, "dog": 20})
    with pytest.raises(DataError, match="class 'dog' that the network does not know: rename or remove it"):
        source.test_images(manifest, data=str(root))


def test_of_a_folder_for_which_no_split_is_given_all_are_scored(manifest, save_folder):
    root, said = save_folder({"ant": 10, "zebra": 30}, parts=["."], count=10), []
    images, labels = source.test_images(manifest, data=str(root), say=said.append)
    found = [(int(image[0, 0, 0]), int(label)) for image, label in zip(images, labels, strict=True)]
    assert sorted(found) == [(10, 1)] * 10 + [(30, 0)] * 10
    assert len(said) == 1 and "all its 20 images are scored" in said[0]
    np.testing.assert_array_equal(source.test_images(manifest, data=str(root))[1], labels)


def test_of_the_networks_own_folder_only_what_was_held_out_is_scored(manifest, save_folder):
    root, said = save_folder({"ant": 10, "zebra": 30}, parts=["."], count=10), []
    manifest.values["extra"]["data"]["path"] = str(root)
    for data in (None, str(root), f"{root.parent}/./{root.name}/"):
        assert len(source.test_images(manifest, data=data, say=said.append)[0]) == 4
    # As it was split then: not by the fractions that other data are split by.
    manifest.values["extra"]["data"]["test"] = 0.4
    assert len(source.test_images(manifest, data=str(root), say=said.append)[0]) == 8
    assert said == []


def test_of_a_folder_with_a_validation_part_alone_a_fifth_of_the_rest_is_scored_and_said(manifest, save_folder):
    root, said = save_folder({"ant": 10, "zebra": 30}, parts=["train", "val"], count=10), []
    assert len(source.test_images(manifest, data=str(root), say=said.append)[0]) == 4
    assert said == ["--data gives no test part: 4 of its 40 images are scored, drawn from the train part"]


@pytest.fixture
def save_npz(tmp_path):
    def save(classes):
        images, labels = np.zeros((4 * classes, 3, 4, 4), np.uint8), np.arange(4 * classes) % classes
        path = tmp_path / "data.npz"
        np.savez(path, x_train=images, y_train=labels, x_test=images[:classes], y_test=labels[:classes])
        return path

    return save


def test_labels_of_an_npz_file_are_the_networks_numbers(manifest, save_npz):
    _, labels = source.test_images(manifest, data=str(save_npz(3)))
    assert labels.tolist() == [0, 1, 2]


def test_an_npz_file_with_more_classes_is_refused(manifest, save_npz):
    with pytest.raises(DataError, match="has 4 classes, the network knows 3"):
        source.test_images(manifest, data=str(save_npz(4)))


@pytest.fixture
def save_table(tmp_path, save_folder):
    """Write tables that name the same images in another order, so that ant and cat are swapped, and images there."""

    def save(folder, ant, cat):
        (tmp_path / folder).mkdir()
        table = tmp_path / folder / "labels.csv"
        rows = [f"{part}/{ant}/{at}.png,ant,{part}" for part in ("train", "test") for at in range(5)]
        rows += [f"{part}/{cat}/{at}.png,cat,{part}" for part in ("train", "test") for at in range(5)]
        table.write_text("\n".join(["path,label,split", *rows]))
        return table

    return save


def test_a_table_that_is_named_is_taken_and_its_images_are_in_the_folder(manifest, save_folder, save_table):
    images = save_folder({"ant": 10, "cat": 20})
    named = save_table("new", "cat", "ant")
    save_table("old", "ant", "cat").rename(images / "labels.csv")
    found, labels = source.test_images(manifest, data=str(named), data_dir=images)
    assert {(int(one[0, 0, 0]), int(label)) for one, label in zip(found, labels, strict=True)} == {(21, 1), (11, 2)}
    named.unlink()
    with pytest.raises(DataError, match=r"new.labels\.csv does not exist"):
        source.test_images(manifest, data=str(named), data_dir=images)


def test_the_networks_own_data_are_looked_for_where_they_were_moved(manifest, save_folder, tmp_path):
    moved = save_folder({"ant": 10, "cat": 20, "zebra": 30}).rename(tmp_path / "gone")
    for data in (None, "folder"):  # the second is what they are called
        images, _ = source.test_images(manifest, data=data, data_dir=tmp_path)
        assert len(images) == 15
    with pytest.raises(DataError, match="says where its files are: leave out --data-dir"):
        source.test_images(manifest, data=str(moved), data_dir=tmp_path)


def test_images_of_another_shape_are_refused(manifest):
    with pytest.raises(DataError, match=r"shape \(1, 8, 8\), the network takes \(3, 4, 4\)"):
        source.test_images(manifest, data="digits")


def test_data_that_are_neither_a_name_nor_a_file_are_told(manifest):
    with pytest.raises(
        DataError, match=r"--data 'digit' is no data set and no file: give one of csv, digits, .*npz or CSV file"
    ):
        source.test_images(manifest, data="digit")
