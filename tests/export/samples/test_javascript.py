"""The sample for Node says what EarlyExitSession says, of pictures that it reads as the Python sample does."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pictured import FORMS, LINE, SIZES, classify, run, sample
from PIL import Image, ImageOps

from aebnas.export.samples import TEMPLATES


@pytest.fixture
def script(case, installed) -> Iterator[Path]:
    """The JavaScript sample of the case, with what it needs beside it."""
    folder = case.folder / "samples" / "javascript"
    (folder / "node_modules").symlink_to(installed["javascript"])
    yield folder / "classify.mjs"
    (folder / "node_modules").unlink()


def test_javascript(case, script):
    case.check(run("node", script, *case.pictures))


def test_javascript_names_what_is_no_picture(script, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    for words, said in [
        ([tmp_path / "x.png"], r".*x\.png cannot be read as a PNG or JPEG picture: .*\n"),
        ([], "give.*\n"),
    ]:
        done = subprocess.run(["node", script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert re.fullmatch(said, done.stderr)


def test_javascript_reads_jpeg(case, script, tmp_path):
    """Photos in all positions of the camera, too."""
    paths, exif = [], Image.Exif()
    for number, picture in enumerate(case.pictures):
        paths.append(tmp_path / f"{picture.stem}.jpg")
        exif[0x0112] = 1 + number % 8
        with Image.open(picture) as opened:
            opened.save(paths[-1], quality=100, subsampling=0, exif=exif)
    found, said = (
        [LINE.fullmatch(line)["name"] for line in lines.splitlines()]
        for lines in (run("node", script, *paths), classify(case, *paths))
    )
    # Decoders differ in the last bit.
    assert np.mean([one == other for one, other in zip(found, said, strict=True)]) >= 0.8


RESIZE = """
import { readFileSync } from "node:fs";
import { asModelInput } from "%s";
for (const [file, width, height, pixels] of JSON.parse(readFileSync(0, "utf8"))) {
  console.log(Buffer.from(asModelInput(readFileSync(file), width, height, pixels)).toString("hex"));
}
"""


def test_javascript_resizes_as_python_does(tmp_path):
    """To one step of 255, for Pillow takes the axes in either order and rounds in between; in grey and in colour."""
    if shutil.which("node") is None:
        pytest.skip("there is no node on this machine")
    random, asked, expected = np.random.default_rng(0), [], []
    for number, (size, to) in enumerate(SIZES):
        rgba = random.integers(0, 256, (*size, 4), dtype=np.uint8)
        (tmp_path / str(number)).write_bytes(rgba.tobytes())
        for (channels, mode), form in itertools.product([(1, "L"), (3, "RGB")], FORMS):
            pixels = {"shape": [1, *to, channels], "white": 255, **form}
            asked.append([str(tmp_path / str(number)), size[1], size[0], pixels])
            picture = sample().resized(Image.fromarray(rgba[..., :3]).convert(mode), pixels)
            expected.append(np.asarray(picture).astype(int).ravel())
    code = RESIZE % (TEMPLATES / "javascript" / "picture.mjs")
    found = run("node", "--input-type=module", "-e", code, input=json.dumps(asked)).split()
    off = []
    for text, wanted, (*_, pixels) in zip(found, expected, asked, strict=True):
        got = np.frombuffer(bytes.fromhex(text), np.uint8)
        off.append(int(np.abs(got - wanted).max()))
        assert off[-1] <= (pixels["interpolation"] != "nearest"), pixels
    assert np.mean(off) < 0.1


UPRIGHT = """
import { readFileSync } from "node:fs";
import { orientationOf, upright } from "%s";
const { exif, picture, width, height } = JSON.parse(readFileSync(0, "utf8"));
const bytes = (hex) => (hex === null ? undefined : Uint8Array.from(Buffer.from(hex, "hex")));
for (const block of exif) {
  const turned = upright({ data: bytes(picture), width, height }, orientationOf(bytes(block)));
  console.log(turned.width, turned.height, Buffer.from(turned.data).toString("hex"));
}
"""


def test_javascript_turns_photos_as_python_does():
    if shutil.which("node") is None:
        pytest.skip("there is no node on this machine")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8), "RGBA")
    blocks, expected = [], []
    for orientation, order in itertools.product(range(10), "<>"):
        tag = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
        other = struct.pack(f"{order}HHII", 0x0100, 4, 1, 7)
        start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, 2)
        blocks.append(b"\0" + start + other + tag + bytes(4))
        picture.getexif()[0x0112] = orientation
        expected.append(ImageOps.exif_transpose(picture))
    blocks += [None, blocks[-1][:20], b"\0", b""]
    expected += [picture] * 4
    given = {"exif": [None if block is None else block.hex() for block in blocks], "picture": picture.tobytes().hex()}
    code = UPRIGHT % (TEMPLATES / "javascript" / "upright.mjs")
    said = run("node", "--input-type=module", "-e", code, input=json.dumps({**given, "width": 7, "height": 5}))
    assert said.splitlines() == [f"{one.width} {one.height} {one.tobytes().hex()}" for one in expected]
