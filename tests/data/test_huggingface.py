"""Data sets of the library datasets, from disk."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest
import torch

from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError

library = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")


def table(count=18, *, names=("cat", "dog", "eel"), column="image", label="label", seed=0, feature=None, labels=None):
    random = np.random.default_rng(seed)
    pictures = [Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8)) for _ in range(count)]
    values = labels or [place % len(names) for place in range(count)]
    features = library.Features(
        {column: library.Image(), label: feature or library.ClassLabel(names=list(names)), "id": library.Value("int64")}
    )
    return library.Dataset.from_dict({column: pictures, label: values, "id": [*range(count)]}, features=features)


def load(path, **settings):
    return load_data(DataSettings(name="huggingface", path=path, workers=0, **settings), seed=0)


def pixels(dataset):
    return np.stack([np.asarray(row["image"]).transpose(2, 0, 1) for row in dataset])


def test_saved_with_splits(tmp_path):
    parts = {"train": table(), "validation": table(6, seed=1), "test": table(9, seed=2)}
    library.DatasetDict(parts).save_to_disk(tmp_path)
    bundle = load(tmp_path)
    assert bundle.classes == ("cat", "dog", "eel")
    assert [len(one) for one in (bundle.train, bundle.validation, bundle.test)] == [18, 6, 9]
    for name, part in parts.items():
        np.testing.assert_array_equal(getattr(bundle, name).raw().numpy(), pixels(part))
    far = load(tmp_path, ram_gib=0)
    assert torch.equal(far.test.raw(), bundle.test.raw())
    assert load(tmp_path, ram_gib=0).fingerprint == far.fingerprint == bundle.fingerprint


def test_a_format_that_was_saved_with_it_is_no_matter(tmp_path):
    table(30).with_format("pandas").save_to_disk(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).test.labels.bincount(), [2, 2, 2])


def test_a_hub_that_is_not_there_is_not_asked_again_and_again(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"http://127.0.0.1:{server.getsockname()[1]}"
    naps = []
    monkeypatch.setattr(constants, "ENDPOINT", there)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(library.config, "HF_ENDPOINT", there)
    monkeypatch.setattr(time, "sleep", naps.append)
    settings = DataSettings(name="huggingface:nobody/nothing", data_dir=tmp_path, download=True)
    with pytest.raises(DataError, match=rf"{there} cannot be reached: .*check its name, data\.options and the network"):
        load_data(settings, seed=0)
    assert not naps and not constants.HF_HUB_OFFLINE


def test_several_labels_for_an_image_are_refused(tmp_path):
    feature = library.Sequence(library.Value("int64"))
    parts = {name: table(6, feature=feature, labels=[[0, 1]] * 6) for name in ("train", "test")}
    library.DatasetDict(parts).save_to_disk(tmp_path)
    with pytest.raises(DataError, match="has no class"):
        load(tmp_path)


def test_a_stream_is_refused(tmp_path, save_images):
    save_images(tmp_path / "data", {"a": 6, "b": 6})
    with pytest.raises(DataError, match="remove streaming"):
        load(tmp_path / "data", options={"streaming": True})


def test_one_table_is_split(tmp_path):
    table(30).save_to_disk(tmp_path)
    bundle = load(tmp_path, test=0.2, validation=0.25)
    assert [len(one) for one in (bundle.train, bundle.validation, bundle.test)] == [18, 6, 6]


def test_a_folder_of_images_is_loaded_as_the_library_does(tmp_path, save_images, monkeypatch):
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    save_images(tmp_path / "data" / "train", {"a": 6, "b": 6})
    save_images(tmp_path / "data" / "test", {"a": 2, "b": 2}, seed=1)
    bundle = load(tmp_path / "data")
    assert bundle.classes == ("a", "b")
    assert len(bundle.test) == 4
    assert bundle.input_shape == (3, 4, 5)


def test_columns_are_found_or_named(tmp_path):
    table(column="img", label="fine").save_to_disk(tmp_path / "found")
    assert load(tmp_path / "found").classes == ("cat", "dog", "eel")
    both = table().add_column("coarse", [0, 1] * 9).cast_column("coarse", library.ClassLabel(names=["x", "y"]))
    both.rename_column("label", "fine").save_to_disk(tmp_path / "both")
    with pytest.raises(DataError, match=r"several columns .* label: set data\.columns\.label to one of fine, coarse"):
        load(tmp_path / "both")
    assert load(tmp_path / "both", columns={"label": "coarse"}).classes == ("x", "y")
    with pytest.raises(DataError, match=r"no column 'x': set data\.columns\.image"):
        load(tmp_path / "both", columns={"image": "x"})
    with pytest.raises(DataError, match=r"'id' of .* holds no images"):
        load(tmp_path / "both", columns={"image": "id", "label": "coarse"})


def test_labels_may_be_names(tmp_path):
    table(feature=library.Value("string"), labels=["dog", "ant", "cat"] * 6).save_to_disk(tmp_path)
    bundle = load(tmp_path)
    assert bundle.classes == ("ant", "cat", "dog")
    assert bundle.train.labels.bincount().tolist() == [4, 4, 4]


def test_a_test_split_without_labels_is_left_out(tmp_path, caplog):
    parts = {"train": table(30), "test": table(9, feature=library.Value("int64"), labels=[-1] * 9)}
    parts["train"] = parts["train"].cast_column("label", library.Value("int64"))
    library.DatasetDict(parts).save_to_disk(tmp_path)
    bundle = load(tmp_path)
    assert len(bundle.test) == 6
    assert "the test split of" in caplog.text


def test_rows_without_an_image_are_skipped_or_named(tmp_path):
    whole = table(30)
    features = whole.features
    rows = whole.to_dict()
    rows["image"][4] = None
    library.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path)
    with pytest.raises(DataError, match=r"row 4 of the train split of .* has no image"):
        load(tmp_path)
    bundle = load(tmp_path, corrupt="skip")
    assert sum(map(len, (bundle.train, bundle.validation, bundle.test))) == 29


def test_what_is_not_there_is_not_downloaded(tmp_path):
    settings = DataSettings(name="huggingface:nobody/nothing", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"nobody/nothing cannot be loaded .*data\.download to true") as error:
        load_data(settings, seed=0)
    assert "\n" not in str(error.value)
    assert not library.config.HF_HUB_OFFLINE


def test_wrong_settings_are_named(tmp_path):
    with pytest.raises(DataError, match=r"huggingface needs data\.path"):
        load(None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty cannot be loaded with datasets .*check data\.path"):
        load(tmp_path / "empty")
    table().save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"data\.columns\.split has no meaning"):
        load(tmp_path / "saved", columns={"split": "x"})


def test_a_name_that_needs_no_network_is_loaded_without_a_download(tmp_path, save_images):
    save_images(tmp_path / "data", {"a": 6, "b": 6})
    settings = DataSettings(
        name="huggingface:imagefolder", data_dir=tmp_path / "cache", options={"data_dir": str(tmp_path / "data")}
    )
    bundle = load_data(settings, seed=0)
    assert bundle.classes == ("a", "b")
    assert any((tmp_path / "cache").iterdir())
