"""The agent's side of the wire: a line of JSON and the bytes of its files come in, lines of JSON go out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aebnas.devices.target.errors import REQUEST, Refused

_LONGEST_HEADER = 16 * 2**20
_CHUNK = 2**16


class Garbled(Exception):
    """What came in is no request, so that where the next one begins is unknown."""


class Cut(Exception):
    """The input ended in the middle of a request."""


@dataclass(frozen=True)
class Header:
    """A request's first line: everything it says, and the sizes in bytes of the files that follow, by name."""

    values: Mapping[str, Any]
    sizes: Mapping[str, int]

    def get(self, key: str, kind: type, otherwise: Any = None) -> Any:
        """Return the value of ``key``, which has to be a ``kind``; a float may be given as an int.

        Raises:
            Refused: it is something else.
        """
        value = self.values.get(key, otherwise)
        accepted = (float, int) if kind is float else kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise Refused(REQUEST, f"{key} is {value!r}: it has to be a {kind.__name__}")
        return value


def read_header(stream: IO[bytes]) -> Header | None:
    """Read one header, or None at the end of the input.

    Raises:
        Garbled: the line is not a header.
    """
    line = stream.readline(_LONGEST_HEADER)
    if not line:
        return None
    try:
        values = json.loads(line.decode("utf-8"))
        files = [(file["name"], file["size"]) for file in values.get("files", [])]
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise Garbled(f"a request begins with {line[:80]!r}") from error
    if not all(isinstance(name, str) and isinstance(size, int) and size >= 0 for name, size in files):
        raise Garbled(f"the files of a request are {files!r}")
    if len(dict(files)) < len(files):
        raise Garbled("two files of a request have the same name")
    return Header(values, dict(files))


def receive(stream: IO[bytes], sizes: Mapping[str, int], folder: Path) -> dict[str, Path]:
    """Write the files that follow a header into ``folder`` and return their paths by name.

    Raises:
        OSError: a file cannot be written; all have been read then, so that the next request can be.
        Cut: the input ended.
    """
    paths, trouble = {}, None
    for number, (name, size) in enumerate(sizes.items()):
        # Names are the client's: they may have slashes, and mean nothing here.
        paths[name] = folder / f"{number}.file"
        try:
            _copy(stream, size, paths[name])
        except OSError as error:
            trouble = trouble or error
    if trouble:
        raise trouble
    return paths


def skip(stream: IO[bytes], size: int) -> None:
    """Read ``size`` bytes and forget them.

    Raises:
        Cut: the input ended.
    """
    while size:
        size -= len(_read(stream, size))


def _copy(stream: IO[bytes], size: int, path: Path) -> None:
    try:
        with path.open("wb") as file:
            while size:
                chunk = _read(stream, size)
                size -= len(chunk)
                file.write(chunk)
    except OSError:
        skip(stream, size)
        raise


def _read(stream: IO[bytes], size: int) -> bytes:
    chunk = stream.read(min(size, _CHUNK))
    if not chunk:
        raise Cut
    return chunk


class Answers:
    """Writes events to ``stream``, each on a line of its own and at once."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def event(self, event: str, **values: Any) -> None:
        """Send one event.

        Raises:
            BrokenPipeError: nobody reads the answers.
        """
        line = json.dumps({"event": event, **values}).encode() + b"\n"
        self._stream.write(line)
        self._stream.flush()

    def refused(self, error: Refused) -> None:
        """Send what was refused."""
        self.event("error", kind=error.kind, message=str(error), name=error.name)
