from __future__ import annotations

import numpy as np
import pytest

from aebnas.data.arrays import as_images, as_labels, require_same_shape
from aebnas.errors import DataError


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((5, 6, 7), "NHW"),
        ((5, 3, 6, 7), "NCHW"),
        ((5, 1, 6, 7), "NCHW"),
        ((5, 6, 7, 3), "NHWC"),
        ((5, 6, 7, 4), "NHWC"),
        ((5, 3, 6, 2), "NCHW"),
    ],
)
def test_images_of_every_layout_become_channels_first(shape, layout):
    values = np.arange(np.prod(shape)).reshape(shape) % 251
    images = as_images(values.astype(np.uint8), "x")
    axis = {name: position for position, name in enumerate(layout)}
    assert images.shape[1] == (shape[axis["C"]] if "C" in axis else 1)
    for place in np.ndindex(images.shape):
        where = dict(zip("NCHW", place, strict=True))
        assert images[place] == values[tuple(where[name] for name in layout)]
    assert images.flags.c_contiguous


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("uint8", "uint8"), ("int64", "uint8"), (">u2", "uint8"), ("float16", "float32"), (">f8", "float32")],
)
def test_pixels_become_uint8_or_float32(dtype, expected):
    values = np.array([0, 1, 128, 255]).reshape(1, 2, 2)
    images = as_images(values.astype(dtype), "x")
    assert images.dtype == np.dtype(expected)
    assert images.ravel().tolist() == [0, 1, 128, 255]


def nan_in_image_two():
    values = np.zeros((4, 5, 5))
    values[2, 1, 1] = np.nan
    return values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((4, 5), np.uint8), ["(4, 5)", "(N, H, W)"]),
        (np.zeros((4, 5, 5, 5, 3), np.uint8), ["(4, 5, 5, 5, 3)"]),
        (np.zeros((0, 5, 5), np.uint8), ["empty"]),
        (np.zeros((2, 5, 6, 7), np.uint8), ["(2, 5, 6, 7)", "channels"]),
        (np.full((2, 5, 5), 256), ["0 to 255"]),
        (np.full((2, 5, 5), -1), ["0 to 255"]),
        (np.zeros((2, 5, 5), bool), ["bool"]),
        (np.zeros((2, 5, 5), complex), ["complex128"]),
        (np.full((2, 5, 5), "a"), ["uint8 or float32"]),
        (nan_in_image_two(), ["image 2", "NaN"]),
        (np.full((2, 5, 5), np.inf), ["image 0", "infinite"]),
        (np.full((2, 5, 5), 1e300), ["image 0", "infinite"]),
    ],
)
def test_wrong_images_are_named(values, words):
    with pytest.raises(DataError) as error:
        as_images(values, "x_train in a.npz")
    assert all(word in str(error.value) for word in ["x_train in a.npz", *words])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "uint64", ">i4"])
def test_labels_become_int64(dtype):
    labels = as_labels(np.array([2, 0, 1], dtype), "y", images=3)
    assert labels.dtype == np.int64
    assert labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("values", "num_classes", "words"),
    [
        (np.zeros((3, 1), int), None, ["(3, 1)", "one class number per image"]),
        (np.zeros(4, int), None, ["4 labels for 3 images"]),
        (np.zeros(3), None, ["float64", "whole numbers"]),
        (np.zeros(3, bool), None, ["bool", "whole numbers"]),
        (np.array([0, -1, 1]), None, ["label -1 at position 1"]),
        (np.array([0, 1, 3]), None, ["label 3 at position 2", "without gaps"]),
        (np.array([0, 2, 1]), 2, ["label 2 at position 1", "0 to 1"]),
        (np.array([0, 2**64 - 1, 1], np.uint64), None, ["label 18446744073709551615"]),
    ],
)
def test_wrong_labels_are_named(values, num_classes, words):
    with pytest.raises(DataError) as error:
        as_labels(values, "y_train", images=3, num_classes=num_classes)
    assert all(word in str(error.value) for word in ["y_train", *words])


def test_shapes_of_train_and_test_must_agree():
    require_same_shape((3, 4, 4), (3, 4, 4), "x_test")
    with pytest.raises(DataError, match=r"x_test have shape \(3, 4, 5\)"):
        require_same_shape((3, 4, 4), (3, 4, 5), "x_test")
