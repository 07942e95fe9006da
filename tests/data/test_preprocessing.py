from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aebnas.data.preprocessing import Preprocessing, identity, image_moments, standardise


@given(
    seed=st.integers(0, 10**6), count=st.integers(1, 9), channels=st.integers(1, 4), offset=st.sampled_from([0, 1e4])
)
def test_statistics_equal_those_over_all_pixels_at_once(seed, count, channels, offset):
    images = np.random.default_rng(seed).normal(offset, 3, (count, channels, 4, 5)).astype(np.float32)
    found = standardise(image_moments(images), scale=0.5)
    scaled = images.astype(np.float64) * 0.5
    np.testing.assert_allclose(found.mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.std, scaled.std(axis=(0, 2, 3)), rtol=1e-6)


def test_moments_do_not_depend_on_chunks(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (11, 2, 3, 3), dtype=np.uint8)
    whole = image_moments(images)
    monkeypatch.setattr("aebnas.data.preprocessing._CHUNK", 4)
    np.testing.assert_array_equal(image_moments(images), whole)


def test_standardised_images_have_mean_0_and_deviation_1():
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    result = standardise(image_moments(images), 1 / 255).apply(torch.from_numpy(images))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_constant_channel_becomes_zero(value):
    images = np.full((5, 1, 3, 3), value, dtype=np.uint8)
    preprocessing = standardise(image_moments(images), 1 / 255)
    assert preprocessing.std == (1.0,)
    assert preprocessing.apply(torch.from_numpy(images)).abs().max() < 1e-6


def test_apply_follows_the_formula_and_leaves_its_input_alone():
    images = torch.tensor([[[[2.0, 4.0]], [[10.0, 20.0]]]])
    before = images.clone()
    result = Preprocessing(scale=0.5, mean=(1.0, 2.0), std=(2.0, 4.0)).apply(images)
    torch.testing.assert_close(result, torch.tensor([[[[0.0, 0.5]], [[0.75, 2.0]]]]))
    assert torch.equal(images, before)


def test_identity_only_changes_the_dtype():
    images = torch.arange(8, dtype=torch.float64).reshape(1, 2, 2, 2)
    assert torch.equal(identity(2).apply(images), images.to(torch.float32))


def test_one_channel_is_said_to_come_last_however_it_is_stored():
    apply = identity(1).apply
    pixels = torch.arange(24, dtype=torch.uint8)
    for strides in ((6, 6, 3, 1), (6, 0, 3, 1), (6, 1, 3, 1)):
        found = apply(pixels.as_strided((4, 1, 2, 3), strides))
        assert found.stride() == (6, 1, 3, 1)
        assert found.flatten().tolist() == list(range(24))
    turned = pixels.reshape(4, 1, 3, 2).transpose(2, 3)
    assert torch.equal(apply(turned), turned.float())
