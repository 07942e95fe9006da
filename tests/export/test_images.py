from __future__ import annotations

import numpy as np
import pytest

from aebnas.errors import InputError
from aebnas.export.images import as_batch

RANDOM = np.random.default_rng(0)


def pixels(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def test_channels_first_stays_as_it_is():
    for images in (pixels(4, 3, 5, 6), pixels(4, 3, 5, 6).astype(np.float32)):
        assert as_batch(images, (3, 5, 6)) is images
        np.testing.assert_array_equal(as_batch(images[1], (3, 5, 6)), images[1:2])


def test_channels_may_come_last_in_pixels():
    images = pixels(4, 5, 6, 3)
    expected = images.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(as_batch(images, (3, 5, 6)), expected)
    np.testing.assert_array_equal(as_batch(images[1], (3, 5, 6)), expected[1:2])


def test_a_grey_image_needs_no_channel():
    image = pixels(5, 6)
    np.testing.assert_array_equal(as_batch(image, (1, 5, 6)), image[None, None])
    np.testing.assert_array_equal(as_batch(image[..., None], (1, 5, 6)), image[None, None])


def test_where_both_orders_fit_channels_come_first():
    images = pixels(2, 3, 3, 3)
    assert as_batch(images, (3, 3, 3)) is images
    np.testing.assert_array_equal(as_batch(images[0], (3, 3, 3)), images[:1])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pixels(5, 6, 3).astype(np.float32), r"\(5, 6, 3\): give \(N, 3, 5, 6\) or one image \(3, 5, 6\)$"),
        (pixels(6, 5, 3), r"or one image \(3, 5, 6\), or with channels last \(N, 5, 6, 3\) or \(5, 6, 3\)$"),
        (pixels(5, 6), r"images have shape \(5, 6\)"),
        (pixels(2, 2, 3, 5, 6), r"images have shape \(2, 2, 3, 5, 6\)"),
        (pixels(3, 5, 6).astype(np.int32), r"images are int32: give uint8 \(raw\) or float32"),
    ],
)
def test_other_forms_are_refused(images, message):
    with pytest.raises(InputError, match=message):
        as_batch(images, (3, 5, 6))
