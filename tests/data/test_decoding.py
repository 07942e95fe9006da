"""Files of every kind become 8-bit pixels of one form."""

from __future__ import annotations

import io

import numpy as np
import pytest

from aebnas.data.decoding import ImageForm, decoded, form_of, header_size, is_picture
from aebnas.errors import DataError
from aebnas.inputs import ModelInput

Image = pytest.importorskip("PIL.Image")
RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8)
RGB = Image.fromarray(COLOURS)


def content(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(image, form=ImageForm(), **options):  # noqa: B008 - frozen
    return decoded(content(image, **options), "x", form)


def test_colours_and_grey():
    np.testing.assert_array_equal(read(RGB), COLOURS.transpose(2, 0, 1))
    np.testing.assert_array_equal(read(RGB, ImageForm(grey=True))[0], np.asarray(RGB.convert("L")))
    grey = Image.fromarray(COLOURS[..., 0])
    np.testing.assert_array_equal(read(grey), np.stack([COLOURS[..., 0]] * 3))


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (RGB.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        (RGB.convert("P"), "GIF"),
        (RGB.convert("RGBA"), "PNG"),
        (RGB.convert("LA"), "PNG"),
        (RGB.convert("1"), "PNG"),
        (RGB.convert("CMYK"), "TIFF"),
        (RGB, "WEBP"),
        (RGB, "BMP"),
    ],
)
def test_every_mode_becomes_three_channels(image, kind):
    stored = Image.open(io.BytesIO(content(image, kind)))
    found = read(image, kind=kind)
    assert found.shape == (3, 5, 7)
    np.testing.assert_array_equal(found, np.asarray(stored.convert("RGB")).transpose(2, 0, 1))


def test_transparency_is_left_away():
    clear = RGB.convert("RGBA")
    clear.putalpha(0)
    np.testing.assert_array_equal(read(clear), COLOURS.transpose(2, 0, 1))


def test_a_transparent_palette_is_read_without_a_warning(recwarn):
    palette = RGB.convert("P", palette=Image.Palette.ADAPTIVE)
    found = read(palette, transparency=bytes(range(256)))
    np.testing.assert_array_equal(found, np.asarray(palette.convert("RGB")).transpose(2, 0, 1))
    assert not recwarn.list


def test_of_16_bits_the_upper_ones_are_kept():
    values = np.array([[0, 255, 256], [511, 40_000, 65_535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        assert read(Image.fromarray(values), ImageForm(grey=True), kind=kind)[0].tolist() == [[0, 0, 1], [1, 156, 255]]
    with pytest.raises(DataError, match="more than 16 bits"):
        read(Image.fromarray(values.astype(np.float32)), kind="TIFF")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_as_pillow_does(kind, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = content(RGB, kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(stored)))
    np.testing.assert_array_equal(decoded(stored, "x", ImageForm()), np.asarray(expected).transpose(2, 0, 1))
    assert header_size(stored, "x") == (expected.height, expected.width)


def test_stretch_pad_and_crop():
    wide = Image.new("RGB", (40, 20), (200, 100, 50))
    for resize in ("stretch", "crop"):
        found = read(wide, ImageForm((8, 8), resize=resize))
        assert found.shape == (3, 8, 8)
        assert np.unique(found[0]).tolist() == [200]
    padded = read(wide, ImageForm((8, 8), resize="pad"))[0]
    assert padded[:2].max() == padded[6:].max() == 0
    assert padded[2:6].min() == 200


def test_crop_keeps_the_centre_of_what_just_covers_the_size():
    columns = np.repeat(np.arange(40, dtype=np.uint8)[None], 20, axis=0)
    found = read(Image.fromarray(columns), ImageForm((10, 10), grey=True, resize="crop"))[0]
    # Half as large, 20 columns wide, of which 5 to 14 are kept.
    np.testing.assert_allclose(found[0], np.arange(10, 30, 2) + 0.5, atol=1)


def test_crop_is_that_of_pretrained_networks():
    torchvision = pytest.importorskip("torchvision.transforms.v2")
    picture = Image.fromarray(RANDOM.integers(0, 256, (90, 61, 3), dtype=np.uint8))
    form = form_of((32, 32), grey=False, resize="crop", wanted=ModelInput((32, 32), (0,), (1,), "bicubic", 0.8))
    theirs = torchvision.Compose(
        [torchvision.Resize(40, torchvision.InterpolationMode.BICUBIC), torchvision.CenterCrop(32)]
    )
    np.testing.assert_array_equal(read(picture, form), np.asarray(theirs(picture)).transpose(2, 0, 1))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_the_backbone_says_how_to_interpolate(interpolation):
    form = form_of((3, 4), grey=False, resize="stretch", wanted=ModelInput((9, 9), (0,), (1,), interpolation, 0.5))
    expected = RGB.resize((4, 3), getattr(Image.Resampling, interpolation.upper()))
    np.testing.assert_array_equal(read(RGB, form), np.asarray(expected).transpose(2, 0, 1))


def test_what_is_a_picture():
    assert is_picture(RGB)
    assert is_picture(Image.open(io.BytesIO(content(RGB))))
    assert not is_picture(COLOURS)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # Pillow's, of the damage
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_damage_is_one_sentence_with_the_name(kind):
    whole = content(RGB, kind)
    refused = 0
    for position in range(0, len(whole), 5):
        for damaged in (whole[:position], whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :]):
            try:
                decoded(damaged, "folder/cat.png", ImageForm())
            except DataError as error:
                refused += 1
                assert str(error).startswith("folder/cat.png cannot be read as an image (")
                assert "\n" not in str(error)
                assert "BytesIO" not in str(error)
    assert refused
