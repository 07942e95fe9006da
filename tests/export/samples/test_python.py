"""The Python sample says what EarlyExitSession says, of pictures that it reads as the data set did."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from pictured import FORMS, SIZES, classify, sample
from PIL import Image

from aebnas.data.decoding import ImageForm
from aebnas.export.samples import TEMPLATES


def test_python(case):
    case.check(classify(case, *case.pictures))


def test_python_needs_nothing_of_aebnas():
    code = (TEMPLATES / "python" / "classify.py").read_text()
    imported = set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE))
    assert imported - sys.stdlib_module_names == {"numpy", "onnxruntime", "PIL"}


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"no picture", "cannot identify image file")])
def test_python_names_what_is_no_picture(case, tmp_path, content, said):
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    program = case.folder / "samples" / "python" / "classify.py"
    done = subprocess.run([sys.executable, program, tmp_path / "x.png"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(rf".*x\.png cannot be read as a picture: .*{said}.*\n", done.stderr)


def test_python_says_why_a_network_takes_no_pictures(floats):
    program = floats / "samples" / "python" / "classify.py"
    done = subprocess.run([sys.executable, program, "x.png"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"this network takes no pictures as they are: .* no 8-bit pixels: .*\n", done.stderr)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_python_resizes_as_the_data_set_did(size):
    (height, width), to = size
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for form in FORMS:
        expected = ImageForm(size=to, **form).pixels(Image.fromarray(values)).transpose(1, 2, 0)
        pixels = {"shape": [1, *to, 3], "white": 255, **form}
        np.testing.assert_array_equal(sample().resized(Image.fromarray(values), pixels), expected, err_msg=str(form))


@pytest.mark.parametrize("way", ["portrait", "deep"])
def test_python_reads_pictures_as_the_data_set_did(tmp_path, way):
    """Turned upright, and of 16 bits the upper ones."""
    values = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    path = tmp_path / "x.png"
    if way == "portrait":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(values).save(path, exif=exif)
    else:
        Image.fromarray(values[..., 0].astype(np.uint16) * 257).save(path)
    form = ImageForm(size=(4, 5))
    with Image.open(path) as opened:
        expected = form.pixels(opened).transpose(1, 2, 0)
    pixels = {"shape": [1, 4, 5, 3], "white": 255, **FORMS[1]}
    np.testing.assert_array_equal(sample().read_picture(str(path), pixels)[0], expected)
