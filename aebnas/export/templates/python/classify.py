"""Tell what is on a picture with the network of this export; needs numpy, onnxruntime and Pillow.

python classify.py picture.png [more.png ...]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

EXPORT = Path(__file__).resolve().parents[2]
MODES = {1: "L", 3: "RGB"}


def main() -> None:
    """Print class, confidence and exit of every picture that the command line names."""
    parser = argparse.ArgumentParser(description="Tell what is on pictures.")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--export", type=Path, default=EXPORT, help="the exported folder; the one around this file")
    arguments = parser.parse_args()
    manifest = json.loads((arguments.export / "manifest.json").read_text(encoding="utf-8"))
    if "file" not in manifest["pixels"]:
        raise SystemExit(f"this network takes no pictures as they are: {manifest['pixels']['left_out']}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = manifest["threads"]
    if manifest.get("precision") == "int8":  # exact products also on x86-64 processors whose fast ones overflow
        options.add_session_config_entry("session.x64quantprecision", "1")

    # These three lines are all it takes.
    session = onnxruntime.InferenceSession(str(arguments.export / manifest["pixels"]["file"]), options)
    for picture in arguments.pictures:
        image = read_picture(picture, manifest["pixels"])
        label, left, confidence = session.run(["label", "exit", "confidence"], {"image": image})
        name, last = manifest["classes"][label[0]], manifest["exits"] - 1
        print(f"{picture}: {name}, confidence {confidence[0]:.4f}, left at exit {left[0]} of 0 to {last}")


def read_picture(path: str, pixels: dict[str, Any]) -> np.ndarray:
    """Return a picture as the network takes it: uint8 (1, H, W, C), resized, from 0 to the data set's white."""
    channels = pixels["shape"][3]
    if channels not in MODES:
        raise SystemExit(f"this network takes {channels} channels, which no picture file has: give it an array")
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):  # 16 bits: the upper ones are kept
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            picture = picture.convert(MODES[channels])
    except OSError as error:
        raise SystemExit(f"{path} cannot be read as a picture: {error}") from error
    values: np.ndarray = np.asarray(resized(picture, pixels)).reshape(pixels["shape"])
    if pixels["white"] != 255:
        values = np.rint(values * (pixels["white"] / 255)).astype(np.uint8)
    return values


def resized(picture: Image.Image, pixels: dict[str, Any]) -> Image.Image:
    """Return a picture in the network's size, brought to it as those of the data set were."""
    _, height, width, _ = pixels["shape"]
    method = Image.Resampling[pixels["interpolation"].upper()]
    if pixels["resize"] == "stretch":
        return picture.resize((width, height), method)
    if pixels["resize"] == "pad":
        scale = min(height / picture.height, width / picture.width)
        inner = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), method)
        whole = Image.new(picture.mode, (width, height))
        whole.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
        return whole
    crop = pixels["crop"]
    scale = max(round(height / crop) / picture.height, round(width / crop) / picture.width)
    sides = (int(side * scale + 1e-6) for side in picture.size)
    whole = picture.resize((max(width, next(sides)), max(height, next(sides))), method)
    left, top = round((whole.width - width) / 2), round((whole.height - height) / 2)
    return whole.crop((left, top, left + width, top + height))


if __name__ == "__main__":
    main()
