from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits

from aebnas.data.load import DATASETS, load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError


def rows(split):
    return [image.numpy().tobytes() for image in split.raw()]


def test_built_in_names():
    assert set(DATASETS) == {
        "digits",
        "fashion-mnist",
        "npz",
        "folder",
        "csv",
        "torchvision:NAME",
        "huggingface",
        "huggingface:NAME",
        "MODULE:CALLABLE",
    }
    for name in ("torchvision:CIFAR10", "huggingface:someone/something", "package.module:make"):
        assert name in DATASETS
    for name in ("torchvision:", "torchvision", "a path:make", "digit", "custom"):
        assert name not in DATASETS


def test_digits_are_split_completely_and_disjointly():
    bundle = load_data(DataSettings(), seed=0)
    stored, labels = load_digits(return_X_y=True)
    splits = (bundle.train, bundle.validation, bundle.test)
    found = sorted((row, int(label)) for split in splits for row, label in zip(rows(split), split.labels, strict=True))
    expected = sorted((row.astype(np.uint8).tobytes(), int(label)) for row, label in zip(stored, labels, strict=True))
    assert found == expected
    assert bundle.input_shape == (1, 8, 8)
    assert bundle.classes == tuple("0123456789")
    assert bundle.num_classes == 10
    assert len(bundle.test) == pytest.approx(0.2 * 1797, abs=5)
    assert len(bundle.validation) == pytest.approx(0.2 * 0.8 * 1797, abs=5)


def test_fractions_are_followed_class_by_class():
    bundle = load_data(DataSettings(validation=0.5, test=0.1), seed=0)
    counts = np.bincount(load_digits(return_X_y=True)[1])
    test = bundle.test.labels.bincount().numpy()
    np.testing.assert_allclose(test, 0.1 * counts, atol=0.5)
    np.testing.assert_allclose(bundle.validation.labels.bincount().numpy(), 0.5 * (counts - test), atol=0.5)


def test_preprocessing_is_fitted_on_train_only():
    bundle = load_data(DataSettings(), seed=0)
    images = torch.cat([batch.images for batch in bundle.train.batches(500)])
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    scaled = bundle.train.raw().double() / 16
    assert bundle.preprocessing.mean[0] == pytest.approx(scaled.mean().item(), rel=1e-9)


def test_fingerprint_follows_seed_fractions_and_pixels(save_npz, arrays):
    def fingerprint(seed=0, **settings):
        return load_data(DataSettings(**settings), seed=seed).fingerprint

    def npz_fingerprint(**changes):
        return fingerprint(name="npz", path=save_npz(**changes))

    test_pixel, test_label = arrays["x_test"].copy(), arrays["y_test"].copy()
    test_pixel[5, 2, 2] ^= 1
    test_label[0] = 2
    values = [
        fingerprint(),
        fingerprint(seed=1),
        fingerprint(validation=0.3),
        fingerprint(test=0.3),
        npz_fingerprint(),
        npz_fingerprint(x_test=test_pixel),
        npz_fingerprint(y_test=test_label),
    ]
    assert len(set(values)) == len(values)
    assert fingerprint() == values[0]
    assert all(len(value) == 16 for value in values)


def test_unknown_name_and_senseless_option_are_named(tmp_path):
    with pytest.raises(DataError, match="no data set 'digit': did you mean 'digits'"):
        load_data(DataSettings(name="digit"), seed=0)
    with pytest.raises(DataError, match=r"data\.image_size has no meaning for the data set digits"):
        load_data(DataSettings(image_size=8), seed=0)
    with pytest.raises(DataError, match="seed must be 0"):
        load_data(DataSettings(), seed=-1)


@pytest.mark.parametrize(
    "values", [{"validation": 0}, {"validation": 0.6}, {"test": 0}, {"test": float("nan")}, {"image_size": 0}, {"x": 1}]
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ValidationError):
        DataSettings(**values)


def test_fingerprints_of_earlier_versions_stay(tmp_path):
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, (count, 6, 7), dtype=np.uint8) for count in (30, 12)]
    path = tmp_path / "data.npz"
    np.savez(path, x_train=images[0], y_train=np.arange(30) % 3, x_test=images[1], y_test=np.arange(12) % 3)
    assert load_data(DataSettings(), seed=0).fingerprint == "f30c8c33b1389490"
    augment = {"flip": True, "shift": 1}
    assert load_data(DataSettings(augment=augment), seed=3).fingerprint == "c82eda0f1527f6ed"
    assert load_data(DataSettings(name="npz", path=path), seed=0).fingerprint == "25f431a5f0540be3"


def test_an_image_size_is_a_side_or_two(tmp_path):
    assert DataSettings(image_size=8).image_size == DataSettings(image_size=[8, 8]).image_size == (8, 8)
    for wrong in ("8", 8.0, True, [8], [8, 0], [8, True]):
        with pytest.raises(ValidationError, match="must be a side in pixels, or"):
            DataSettings(image_size=wrong)
