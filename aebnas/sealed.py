"""Files that carry their own SHA-256; what is damaged is put aside, so that whoever needs it makes it again."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from aebnas.errors import RunError
from aebnas.files import canonical_json

# Behind the archive, where torch does not mind it. Files of older runs have none.
_MARK = b"\naebnas sha256 "
_SEAL_BYTES = len(_MARK) + 2 * hashlib.sha256().digest_size
NOT_WHOLE = "cut short, or its checksum differs"


class DamagedFile(RunError):
    """A record of a run was damaged, and has been put aside, or is gone; whoever needs it makes it again."""


def write_tensors(file: BinaryIO, record: dict[str, Any]) -> None:
    """Write ``record`` (tensors, numbers, texts, lists and dictionaries of them) and its sum behind it."""
    # By way of memory: on a full disk, torch's own writing ends in a RuntimeError that says nothing of a disk.
    buffer = io.BytesIO()
    torch.save(record, buffer)
    content = buffer.getbuffer()
    file.write(content)
    file.write(_MARK + hashlib.sha256(content).hexdigest().encode())


def read_tensors(path: Path) -> dict[str, Any]:
    """Return what :func:`write_tensors` wrote to ``path``, now or before there were sums.

    Raises:
        FileNotFoundError: it is not there. DamagedFile: it was damaged, and is put aside. RunError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            if not is_whole(file):
                raise put_aside(path, NOT_WHOLE, file)
            try:
                # A record of a GPU may be read where there is none.
                record = torch.load(file, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:
                # Its text would advise the user to load the file unsafely.
                raise put_aside(path, "no plain tensors", file) from None
            except Exception as error:  # torch's readers raise anything on what is no archive
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise put_aside(path, reason.partition(". ")[0], file) from None
            if not isinstance(record, dict):
                raise put_aside(path, "no dictionary", file)
            return record
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot read {path}: {reason}; make it readable, or delete it and search again") from error


def is_whole(file: BinaryIO) -> bool:
    """Tell whether ``file`` is an archive with the sum that it ends in, if it ends in one; go back to its beginning."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _SEAL_BYTES))
    seal = file.read()
    if not seal.startswith(_MARK):
        whole = zipfile.is_zipfile(file)
        file.seek(0)
        return whole
    file.seek(0)
    state, left = hashlib.sha256(), size - _SEAL_BYTES
    while left and (chunk := file.read(min(left, 1 << 20))):
        state.update(chunk)
        left -= len(chunk)
    file.seek(0)
    return seal == _MARK + state.hexdigest().encode()


def sum_of(record: dict[str, Any]) -> str:
    """Return the SHA-256 of ``record``, which JSON can hold, in hex digits; how a file lays it out does not matter."""
    # As it comes back from JSON, whose lists have been tuples and whose keys numbers.
    text = canonical_json(json.loads(json.dumps(record, allow_nan=False)))
    return hashlib.sha256(text.encode()).hexdigest()


def put_aside(path: Path, reason: str, file: BinaryIO | None = None) -> DamagedFile:
    """Rename the damaged ``path``, unless another process has replaced it since it was opened; return what to raise."""
    aside = path.with_name(f"{path.name}.damaged")
    done = f"put aside as {aside.name}"
    try:
        if file is None or os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            path.replace(aside)
    except OSError:
        done = "delete it"
    return DamagedFile(f"{path} is damaged ({reason}): {done}, a search of this run makes it again")
