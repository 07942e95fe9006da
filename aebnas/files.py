"""Reading and writing files so that a killed process never leaves half of one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from aebnas.errors import AebnasError, RunError, RunFailed


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; rename it to ``path`` when the block succeeds.

    Raises:
        RunError: the folder cannot be written. RunFailed: the disk is full. What was there before is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(descriptor)
    except OSError as error:
        raise cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write ``path`` through ``write(file)``, flushed to disk before it gets its name."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    write_atomic(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` atomically."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON from ``path``.

    Raises:
        RunError: the file is missing or damaged; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing: is this the folder of a finished run or export?") from error
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} is damaged ({error}): delete it and write it again, with the `aebnas search` or `aebnas export` "
            "that wrote it"
        ) from error


def digest(*parts: bytes | str) -> str:
    """Return the first 16 hex digits of the SHA-256 over ``parts``, each length-prefixed."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:16]


def canonical_json(value: Any) -> str:
    """Return ``value`` as JSON with sorted keys and no spaces, the same text for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def first_difference(
    earlier: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> tuple[str, Any, Any] | None:
    """Return the first dotted key whose value differs, its earlier value and the one now; None if none does."""
    for key in (*now, *earlier):
        value, other = now.get(key), earlier.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            found = first_difference(other, value, f"{prefix}{key}.")
            if found:
                return found
        elif value != other:
            return f"{prefix}{key}", other, value
    return None


def nearest(path: Path) -> Path:
    """Return ``path``, absolute, or the nearest folder above it that exists; itself where not even the root does.

    Raises:
        OSError: it cannot be looked at.
    """
    whole = path.absolute()
    return next((place for place in (whole, *whole.parents) if place.exists()), whole)


def cannot_write(path: Path, error: OSError) -> AebnasError:
    """Return what to raise where ``path`` cannot be written: a full disk is a failure, a wrong folder wrong input."""
    kind = RunFailed if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else RunError
    return kind(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder")
