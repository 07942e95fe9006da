"""Data sets of torchvision, from files made by hand, and one downloaded from this machine."""

from __future__ import annotations

import functools
import hashlib
import pickle
import tarfile

import numpy as np
import pytest
import torch

from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError

datasets = pytest.importorskip("torchvision.datasets")
NAMES = ["plane", "car", "bird"]


def load(name, folder=None, **settings):
    settings = {"workers": 0, **settings}
    return load_data(DataSettings(name=f"torchvision:{name}", data_dir=folder, **settings), seed=0)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """The files of a CIFAR-10 of 3 classes: 50 training and 9 test images; returns the folder and its arrays."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)
    arrays, sums = {}, {}

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()

    for name, count in [*((f"data_batch_{number}", 10) for number in range(1, 6)), ("test_batch", 9)]:
        arrays[name] = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        write(name, {"data": arrays[name].reshape(count, -1), "labels": [place % 3 for place in range(count)]})
    write("batches.meta", {"label_names": NAMES})
    kind = datasets.CIFAR10
    for key in ("train_list", "test_list"):
        monkeypatch.setattr(kind, key, [[name, sums[name]] for name, _ in getattr(kind, key)])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums["batches.meta"]})
    return tmp_path, arrays


def test_cifar_10_by_train_and_test(cifar):
    folder, arrays = cifar
    bundle = load("CIFAR10", folder)
    assert bundle.classes == tuple(NAMES)
    assert (len(bundle.train) + len(bundle.validation), len(bundle.test)) == (50, 9)
    np.testing.assert_array_equal(bundle.test.raw().numpy(), arrays["test_batch"])
    assert bundle.test.labels.tolist() == [0, 1, 2] * 3
    far = load("CIFAR10", folder, ram_gib=0)
    assert torch.equal(far.train.raw(), bundle.train.raw())
    assert far.fingerprint == bundle.fingerprint


def test_grey_and_size(cifar):
    assert load("CIFAR10", cifar[0], grey=True, image_size=(8, 6)).input_shape == (1, 8, 6)


def test_a_download_is_made_only_if_it_is_asked_for(cifar, tmp_path, monkeypatch, serve):
    folder, arrays = cifar
    served = tmp_path / "served"
    served.mkdir()
    archive = served / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"torchvision:CIFAR10 cannot be read from .*empty .*data\.download") as error:
        load("CIFAR10", empty)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{serve(served)}/{archive.name}")
    monkeypatch.setattr(datasets.CIFAR10, "filename", archive.name)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    bundle = load("CIFAR10", empty, download=True)
    np.testing.assert_array_equal(bundle.test.raw().numpy(), arrays["test_batch"])
    assert load("CIFAR10", empty).fingerprint == bundle.fingerprint


def test_svhn_by_split(tmp_path, monkeypatch):
    savemat = pytest.importorskip("scipy.io").savemat
    random = np.random.default_rng(0)
    lists = {}
    for part, count in (("train", 40), ("test", 20)):
        images = random.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        # The files call the digit 0 a 10.
        savemat(tmp_path / f"{part}_32x32.mat", {"X": images, "y": (np.arange(count) % 10 + 1)[:, None]})
        sum_ = hashlib.md5((tmp_path / f"{part}_32x32.mat").read_bytes()).hexdigest()
        lists[part] = ["nowhere", f"{part}_32x32.mat", sum_]
    monkeypatch.setattr(datasets.SVHN, "split_list", {**datasets.SVHN.split_list, **lists})
    bundle = load("SVHN", tmp_path)
    assert bundle.classes == tuple("0123456789")
    assert (len(bundle.train) + len(bundle.validation), len(bundle.test)) == (40, 20)


def test_imagenette_has_a_validation_part_and_names(tmp_path, save_images, monkeypatch):
    root = tmp_path / "imagenette2"
    kind = datasets.Imagenette
    for part in ("train", "val"):
        for number in kind._WNID_TO_CLASS:
            save_images(root / part, {number: 3 if part == "train" else 1})
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(".JPEG"))
    bundle = load("Imagenette", tmp_path)
    assert bundle.classes[0] == "tench"
    assert [len(one) for one in (bundle.train, bundle.validation, bundle.test)] == [20, 10, 10]


def test_a_set_without_parts_or_files(monkeypatch):
    options = {"size": 40, "num_classes": 4}
    with pytest.raises(DataError, match=r"torchvision cannot download torchvision:FakeData"):
        load("FakeData", options=options, download=True)
    monkeypatch.setattr(
        datasets.FakeData, "__init__", functools.partialmethod(datasets.FakeData.__init__, image_size=(3, 6, 5))
    )
    bundle = load("FakeData", options=options)
    assert bundle.input_shape == (3, 6, 5)
    assert sum(map(len, (bundle.train, bundle.validation, bundle.test))) == 40


def test_arguments_that_are_handed_on_are_known(tmp_path, write_idx):
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 40), ("test", 20)):
        write_idx(raw / f"emnist-mnist-{part}-images-idx3-ubyte", np.full((count, 4, 5), 7))
        write_idx(raw / f"emnist-mnist-{part}-labels-idx1-ubyte", np.arange(count) % 10)
    bundle = load("EMNIST", tmp_path, options={"split": "mnist"}, grey=True)
    assert (len(bundle.train) + len(bundle.validation), len(bundle.test)) == (40, 20)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("CIFAR11", {}, "no data set of torchvision 'CIFAR11': did you mean 'CIFAR10'"),
        ("utils", {}, "no data set of torchvision 'utils'"),
        ("CIFAR10", {"data_dir": None}, r"torchvision:CIFAR10 needs data\.data_dir"),
        ("CIFAR10", {"options": {"trian": True}}, "no key of data.options for torchvision:CIFAR10, 'trian'"),
        ("CIFAR10", {"path": "x"}, r"data\.path has no meaning for the data set torchvision:CIFAR10"),
        ("EMNIST", {}, r"torchvision:EMNIST cannot be made \(.*split.*: set data\.options"),
        (
            "EMNIST",
            {"options": {"split": "everything"}},
            r"EMNIST cannot be made \(Unknown value .*check data\.options",
        ),
    ],
)
def test_wrong_names_and_options_are_one_sentence(tmp_path, name, settings, words):
    settings = {"data_dir": tmp_path, **settings}
    with pytest.raises(DataError, match=words) as error:
        load_data(DataSettings(name=f"torchvision:{name}", **settings), seed=0)
    assert "\n" not in str(error.value)


def test_what_is_no_classifiers_data_is_refused(tmp_path, save_images, monkeypatch):
    class Boxes(torch.utils.data.Dataset):
        def __init__(self, train=True):
            self.train = train

        def __len__(self):
            return 4

        def __getitem__(self, place):
            from PIL import Image

            return Image.new("RGB", (4, 4)), {"boxes": []}

    monkeypatch.setattr(datasets, "Boxes", Boxes, raising=False)
    with pytest.raises(DataError, match=r"it is no data set of a classifier"):
        load("Boxes")


def test_images_that_lie_on_their_side_have_the_size_that_they_are_read_with(tmp_path, save_images):
    folder = save_images(tmp_path / "images", {"a": 6, "b": 6})
    from PIL import Image

    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (5, 4)).save(folder / "a" / "000.png", exif=turned)
    with pytest.raises(DataError, match=r"5x4 pixels but .* is 4x5: set data\.image_size"):
        load("ImageFolder", folder)


def test_a_link_to_nowhere_beside_the_files_is_no_matter(tmp_path, save_images):
    folder = save_images(tmp_path / "images", {"a": 6, "b": 6})
    (folder / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert load("ImageFolder", folder).input_shape == (3, 4, 5)
