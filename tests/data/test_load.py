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
    assert set(DATASETS) == {"digits", "fashion-mnist", "npz", "folder"}


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
