"""IDX files, the format of MNIST and its relatives, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aebnas.errors import DataError

_UNSIGNED_BYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the uint8 array with ``dimensions`` axes that ``path`` holds; a name ending in .gz is decompressed.

    Raises:
        DataError: the file is not gzip, is cut off, has another magic number or another length than it says.
    """
    content = _read(path)
    header = struct.Struct(f">I{dimensions}I")
    magic = _UNSIGNED_BYTE << 8 | dimensions
    if len(content) < header.size:
        raise _damaged(path, f"it has {len(content)} bytes, less than its header of {header.size}")
    found, *shape = header.unpack_from(content)
    if found != magic:
        raise _damaged(path, f"its magic number is {found} instead of {magic}")
    expected = header.size + math.prod(shape)
    if len(content) != expected:
        raise _damaged(path, f"it has {len(content)} bytes where its header {tuple(shape)} asks for {expected}")
    return np.frombuffer(content, dtype=np.uint8, offset=header.size).reshape(shape)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error}): check its permissions") from error
    if path.suffix != ".gz":
        return content
    if not content.startswith(_GZIP_MAGIC):
        raise _damaged(path, "it is not a gzip file, though its name ends in .gz")
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, "its compressed data is cut off or corrupt") from error


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is damaged: {reason}; delete it and get it again")
