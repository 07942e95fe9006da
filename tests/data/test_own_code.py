from __future__ import annotations

import sys

import pytest
import torch

from aebnas.data.load import bundle_from_datasets, load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError
from aebnas.inputs import ModelInput

SOURCE = """
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

class Pictures(Dataset):
    classes = ["x", "y"]
    def __init__(self, count):
        random = np.random.default_rng(count)
        self.pixels = random.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
    def __len__(self):
        return len(self.pixels)
    def __getitem__(self, place):
        return Image.fromarray(self.pixels[place]), place % 2

def pictures():
    return Pictures(20), Pictures(8)

def three():
    return Pictures(20), Pictures(6), Pictures(8)

def named():
    return {"train": Pictures(20), "test": Pictures(8), "classes": ["a", "b"]}

def tensors():
    images = torch.rand(20, 1, 4, 4)
    data = TensorDataset(images, torch.arange(20) % 2)
    return data, data

def wrong():
    return 3

def failing():
    raise FileNotFoundError("no file birds.bin")
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load what a function of a module in ``tmp_path`` returns."""
    (tmp_path / "my_data.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_data", raising=False)

    def load(name, *, wanted=None, **settings):
        return load_data(DataSettings(name=f"my_data:{name}", path=tmp_path, **settings), seed=0, wanted=wanted)

    yield load
    sys.modules.pop("my_data", None)


def test_images_of_pillow_become_tensors(load):
    bundle = load("pictures")
    assert (bundle.classes, bundle.input_shape) == (("x", "y"), (3, 6, 5))
    made = sys.modules["my_data"].Pictures(8).pixels
    assert torch.equal(bundle.test.raw(), torch.from_numpy(made).permute(0, 3, 1, 2))
    assert bundle.preprocessing.scale == 1 / 255
    again = load("pictures", workers=2)
    assert again.fingerprint == bundle.fingerprint
    for one, other in zip(again.train.batches(2, seed=1), bundle.train.batches(2, seed=1), strict=True):
        assert torch.equal(one.images, other.images)


def test_they_are_resized_and_normalised_as_asked(load):
    wanted = ModelInput((9, 9), (0.5,), (0.25,))
    bundle = load("pictures", wanted=wanted, image_size=4, grey=True, normalise="backbone")
    assert bundle.input_shape == (1, 4, 4)
    assert bundle.preprocessing.mean == (0.5,)


def test_three_parts_and_names(load):
    assert [len(part) for part in (load("three").train, load("three").validation)] == [20, 6]
    assert load("named").classes == ("a", "b")


def test_tensors_are_used_as_they_are(load):
    assert load("tensors").preprocessing.std == (1.0,)
    with pytest.raises(DataError, match=r"is a tensor, which is used as it is: remove data\.image_size"):
        load("tensors", image_size=8)
    with pytest.raises(DataError, match="float tensors are used as they are"):
        load("tensors", normalise="backbone", wanted=ModelInput((4, 4), (0.5,), (1.0,)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_data:gone", "my_data has no function 'gone'"),
        ("my_dat:pictures", r"names a module that cannot be imported .*set data\.path"),
        ("my_data:wrong", r"returned a int: it must return \(train, test\)"),
    ],
)
def test_wrong_functions_are_named(load, tmp_path, name, words):
    with pytest.raises(DataError, match=words):
        load_data(DataSettings(name=name, path=tmp_path), seed=0)


def test_pillow_images_of_own_datasets_in_python(load):
    load("pictures")
    made = sys.modules["my_data"].Pictures(20)
    bundle = bundle_from_datasets(made, made, workers=2)
    assert bundle.input_shape == (3, 6, 5)
    assert torch.equal(bundle.test.raw(), torch.from_numpy(made.pixels).permute(0, 3, 1, 2))


def test_code_that_fails_says_where(load, tmp_path):
    with pytest.raises(
        DataError, match=r"my_data:failing' fails \(FileNotFoundError: no file birds.bin, at .*my_data.py"
    ):
        load("failing")
    sys.modules.pop("my_data")
    (tmp_path / "my_data.py").write_text("import torch\n1 / 0\n")
    with pytest.raises(DataError, match=r"importing my_data fails \(ZeroDivisionError: .*my_data.py:2\)"):
        load("failing")
