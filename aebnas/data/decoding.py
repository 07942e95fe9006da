"""From an image file of any kind to pixels of one form: 8 bits, grey or in colour, of one size."""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.errors import DataError, MissingExtraError
from aebnas.inputs import ModelInput

# Pillow's plug-ins raise any of these on a damaged file; a broken PNG chunk is a SyntaxError.
_READ_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    EOFError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
# What ends the message of every image that cannot be read.
OR_SKIP = ", or set data.corrupt to skip"
_ORIENTATION = 0x0112
# What turns an image upright, by the orientation that its camera noted.
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


@dataclass(frozen=True)
class ImageForm:
    """What every image of a data set is brought to.

    Attributes:
        size: Height and width in pixels; None: each keeps its own.
        grey: One channel instead of three.
        resize: stretch, crop or pad, where an image is of another size.
        interpolation: nearest, bilinear, bicubic or lanczos.
        crop: With ``resize`` crop, the side of what is kept as a share of the resized image's shorter side.
    """

    size: tuple[int, int] | None = None
    grey: bool = False
    resize: str = "stretch"
    interpolation: str = "bilinear"
    crop: float = 1.0

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.grey else 3

    def to_json(self) -> dict[str, Any]:
        """Return the values as a dictionary that JSON can hold."""
        return {**asdict(self), "size": None if self.size is None else list(self.size)}

    def pixels(self, image: Any) -> NDArray[np.uint8]:
        """Return a Pillow ``image`` upright and in this form, uint8 (C, H, W); transparency is left away.

        Raises:
            OSError, ValueError ...: it is damaged, or has more than 16 bits per channel.
        """
        resized = self._resized(_eight_bits(_upright(image)).convert("L" if self.grey else "RGB"))
        found = np.asarray(resized, dtype=np.uint8)
        return found.reshape(*found.shape[:2], -1).transpose(2, 0, 1)

    def _resized(self, image: Any) -> Any:
        if self.size is None:
            return image
        if self.resize == "crop":
            return self._cropped(image)
        if self.size == (image.height, image.width):
            return image
        return self._padded(image) if self.resize == "pad" else self._to(image, *self.size)

    def _to(self, image: Any, height: int, width: int) -> Any:
        return image.resize((width, height), getattr(import_pillow().Resampling, self.interpolation.upper()))

    def _cropped(self, image: Any) -> Any:
        assert self.size is not None
        height, width = self.size
        scale = max(round(height / self.crop) / image.height, round(width / self.crop) / image.width)
        # A hair more, for 1 / 3 * 3 may be less than 1.
        sides = (int(image.height * scale + 1e-6), int(image.width * scale + 1e-6))
        found = self._to(image, max(height, sides[0]), max(width, sides[1]))
        top, left = round((found.height - height) / 2), round((found.width - width) / 2)
        return found.crop((left, top, left + width, top + height))

    def _padded(self, image: Any) -> Any:
        assert self.size is not None
        height, width = self.size
        scale = min(height / image.height, width / image.width)
        inner = self._to(image, *(max(1, round(side * scale)) for side in (image.height, image.width)))
        whole = import_pillow().new(image.mode, (width, height))
        whole.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
        return whole


def form_of(size: tuple[int, int] | None, *, grey: bool, resize: str, wanted: ModelInput | None) -> ImageForm:
    """Return the form of images of a data set whose backbone wants to see ``wanted``, where it says."""
    if wanted is None:
        return ImageForm(size, grey, resize)
    return ImageForm(size, grey, resize, wanted.interpolation, wanted.crop if resize == "crop" else 1.0)


def decoded(content: bytes, name: str, form: ImageForm) -> NDArray[np.uint8]:
    """Return the image that the file ``content`` holds in ``form``, uint8 (C, H, W); ``name`` is for messages.

    Raises:
        DataError: it cannot be read.
    """
    pillow = import_pillow()
    try:
        with pillow.open(io.BytesIO(content)) as image:
            return form.pixels(image)
    except (*_READ_ERRORS, pillow.DecompressionBombError) as error:
        raise _unreadable(name, error) from error


def header_size(content: bytes, name: str) -> tuple[int, int]:
    """Return height and width of the image that the file ``content`` holds, upright, without decoding its pixels.

    Raises:
        DataError: its header cannot be read.
    """
    pillow = import_pillow()
    try:
        with pillow.open(io.BytesIO(content)) as image:
            sides = (image.height, image.width)
            return sides[::-1] if _orientation(image) > 4 else sides
    except (*_READ_ERRORS, pillow.DecompressionBombError) as error:
        raise _unreadable(name, error) from error


def formed(image: Any, name: str, form: ImageForm) -> NDArray[np.uint8]:
    """Return a Pillow ``image`` in ``form``, uint8 (C, H, W); ``name`` is for messages.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return form.pixels(image)
    except (*_READ_ERRORS, import_pillow().DecompressionBombError) as error:
        raise _unreadable(name, error) from error


def is_picture(item: object) -> bool:
    """Tell whether ``item`` is an image of Pillow, which need not be installed."""
    return any(kind.__module__.partition(".")[0] == "PIL" and kind.__name__ == "Image" for kind in type(item).__mro__)


def import_pillow() -> ModuleType:
    """Return the module PIL.Image.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("Pillow", "images") from error
    return Image


def _orientation(image: Any) -> int:
    # Pillow decodes a PNG to look for more than its header says.
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))


def _upright(image: Any) -> Any:
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(getattr(import_pillow().Transpose, turn))


def _eight_bits(image: Any) -> Any:
    """Return ``image`` with 8 bits per channel: of 16 the upper ones are kept, as Pillow does with colours."""
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError("it has more than 16 bits per pixel, save it with 8 or 16")
    return import_pillow().fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))


def _unreadable(name: str, error: Exception) -> DataError:
    reason = re.sub(r" ?<_io\.BytesIO[^>]*>", "", " ".join(str(error).split()))
    return DataError(
        f"{name} cannot be read as an image ({reason or type(error).__name__}): repair or remove it{OR_SKIP}"
    )
