"""Small programs that run an exported network, in some languages; they are copied into every export as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aebnas.errors import RunFailed
from aebnas.files import write_bytes

TEMPLATES = Path(__file__).parent / "templates"
# Of an exported folder.
SAMPLES = "samples"
FILES = (
    "README.md",
    "python/classify.py",
    "javascript/package.json",
    "javascript/classify.mjs",
    "javascript/picture.mjs",
    "javascript/upright.mjs",
    "web/index.html",
    "web/package.json",
    "cpp/CMakeLists.txt",
    "cpp/classify.cpp",
)


def read_samples(templates: Path = TEMPLATES) -> dict[str, bytes]:
    """Return the content of every sample by its path among them.

    Raises:
        RunFailed: one is missing in this installation; the message names it.
    """
    try:
        return {name: (templates / name).read_bytes() for name in FILES}
    except OSError as error:
        raise RunFailed(
            f"{error.filename} cannot be read ({error.strerror or error}): this installation of aebnas is not whole, "
            "install it again"
        ) from error


def write_samples(out: Path, samples: Mapping[str, bytes]) -> None:
    """Write ``samples`` into the exported folder ``out``; what else lies beside them stays.

    Raises:
        RunError: the folder cannot be written. RunFailed: the disk is full.
    """
    for name, content in samples.items():
        write_bytes(out / SAMPLES / name, content)
