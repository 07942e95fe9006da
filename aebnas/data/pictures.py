"""Images that are decoded one at a time, when they are asked for."""

from __future__ import annotations

import contextlib
import hashlib
import operator
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from aebnas.data.decoding import OR_SKIP, ImageForm, decoded, formed, header_size, is_picture
from aebnas.data.names import Names
from aebnas.errors import DataError

ANY_FORM = ImageForm()
DIGEST_BYTES = 16
NO_LABEL = -1


@dataclass(frozen=True)
class Look:
    """What a look at one image found.

    Attributes:
        size: Height and width in pixels.
        digest: 16 bytes that change with the image.
        label: Its class, where the images bring their own; else -1.
    """

    size: tuple[int, int]
    digest: bytes
    label: int = NO_LABEL


class Pictures(ABC):
    """N images that lie on disk; can be sent to other processes.

    Attributes:
        source: What they are called in messages.
    """

    source: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, position: int) -> str:
        """Return what one image is called in messages."""

    @abstractmethod
    def look(self, position: int, *, whole: bool) -> Look:
        """Return what is to be known of an image.

        Args:
            whole: Decode all of it, so that any damage shows.

        Raises:
            DataError: it cannot be read.
        """

    @abstractmethod
    def read(self, position: int, form: ImageForm) -> NDArray[np.uint8]:
        """Return an image in ``form``, uint8 (C, H, W).

        Raises:
            DataError: it cannot be read.
        """

    @abstractmethod
    def stamps(self) -> tuple[Names, NDArray[np.int64]]:
        """Return a name for every image and two numbers, (N, 2), that stay as long as the image does."""

    @abstractmethod
    def key(self) -> str:
        """Return a text that no other images have, under which looks at them are remembered."""


class Encoded(Pictures):
    """Images as the content of files."""

    @abstractmethod
    def content(self, position: int) -> bytes:
        """Return the file that holds an image.

        Raises:
            DataError: it cannot be read.
        """

    def look(self, position: int, *, whole: bool) -> Look:
        content, name = self.content(position), self.name(position)
        size = header_size(content, name)
        if whole:
            decoded(content, name, ANY_FORM)
        return Look(size, hashlib.sha256(content).digest()[:DIGEST_BYTES])

    def read(self, position: int, form: ImageForm) -> NDArray[np.uint8]:
        return decoded(self.content(position), self.name(position), form)


class FilePictures(Encoded):
    """Images in files of their own.

    Args:
        root: What ``files`` are relative to.
        files: Paths.
        source: What they are called in messages.
    """

    def __init__(self, root: Path, files: Names, source: str) -> None:
        self._root, self._files, self.source = root, files, source

    def __len__(self) -> int:
        return len(self._files)

    def name(self, position: int) -> str:
        return str(self._root / self._files[position])

    def content(self, position: int) -> bytes:
        path = self._root / self._files[position]
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({error.strerror or error}): restore or remove it{OR_SKIP}"
            ) from error

    def stamps(self) -> tuple[Names, NDArray[np.int64]]:
        found = np.empty((len(self._files), 2), dtype=np.int64)
        root = str(self._root)
        for position, name in enumerate(self._files):
            # What is not there is found out by a look at it.
            found[position] = -1
            with contextlib.suppress(OSError):
                about = os.stat(os.path.join(root, name))  # noqa: PTH116, PTH118 - a Path for each of a million
                found[position] = about.st_size, about.st_mtime_ns
        return self._files, found

    def key(self) -> str:
        return f"files {self._root.absolute()} {self.source}"


class ItemPictures(Pictures):
    """Images that a map-style torch Dataset gives as Pillow's, with their labels.

    Args:
        dataset: Items are (image of Pillow, class number).
        source: What they are called in messages.
        stamp: Changes with the files behind the Dataset.
    """

    def __init__(self, dataset: Dataset[Any], source: str, stamp: str) -> None:
        self._dataset, self.source, self._stamp = dataset, source, stamp

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def name(self, position: int) -> str:
        return f"image {position} of {self.source}"

    def look(self, position: int, *, whole: bool) -> Look:
        image, label = self._item(position)
        pixels = formed(image, self.name(position), ANY_FORM)
        return Look((pixels.shape[1], pixels.shape[2]), hashlib.sha256(pixels.tobytes()).digest()[:DIGEST_BYTES], label)

    def read(self, position: int, form: ImageForm) -> NDArray[np.uint8]:
        return formed(self._item(position)[0], self.name(position), form)

    def stamps(self) -> tuple[Names, NDArray[np.int64]]:
        stamp = int.from_bytes(hashlib.sha256(self._stamp.encode()).digest()[:7], "little")
        stamps = np.zeros((len(self), 2), dtype=np.int64)
        stamps[:, 0] = stamp
        return Names.of(map(str, range(len(self)))), stamps

    def key(self) -> str:
        return f"items {self.source}"

    def _item(self, position: int) -> tuple[Any, int]:
        try:
            item = self._dataset[position]
        except (OSError, ValueError, SyntaxError, EOFError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{self.name(position)} cannot be read ({reason}): restore its file{OR_SKIP}") from error
        if not (isinstance(item, (tuple, list)) and len(item) == 2 and is_picture(item[0])):
            raise DataError(
                f"{self.source} does not hold pairs of an image and a class number: it is no data set of a classifier"
            )
        try:
            return item[0], operator.index(item[1])
        except TypeError as error:
            raise DataError(
                f"the label of {self.name(position)} is {item[1]!r}, but must be a whole number: it is no data set of "
                "a classifier"
            ) from error


class PictureItems(Dataset[tuple[Tensor, int]]):
    """Some of the ``pictures`` in one form, as a torch Dataset of (uint8 (C, H, W), label) pairs.

    Args:
        rows: Which of them, int64 (M,).
        labels: int64 (M,).
    """

    def __init__(self, pictures: Pictures, rows: NDArray[np.int64], labels: NDArray[np.int64], form: ImageForm) -> None:
        self._pictures, self._rows, self._labels, self._form = pictures, rows, labels, form

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return torch.from_numpy(self.pixels(position)), int(self._labels[position])

    def pixels(self, position: int) -> NDArray[np.uint8]:
        """Return the image at ``position``, uint8 (C, H, W), contiguous."""
        # A copy, for Pillow's memory is not to be written to.
        return np.array(self._pictures.read(int(self._rows[position]), self._form), order="C")
