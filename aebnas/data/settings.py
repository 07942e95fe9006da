"""The ``data`` block of an experiment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from aebnas.settings import Settings


class AugmentSettings(Settings):
    """How training images are altered at random, anew in every epoch; not at all by default.

    Attributes:
        flip: Mirror every second image from left to right.
        shift: Most pixels by which an image is moved, up or down and left or right; what comes in is black.
    """

    flip: bool = False
    shift: int = Field(default=0, ge=0)

    @property
    def on(self) -> bool:
        """Tell whether anything is altered."""
        return self.flip or self.shift > 0


class DataSettings(Settings):
    """Which data set to use and how to split it.

    Attributes:
        name: A name of the registry ``DATASETS``: digits, fashion-mnist, npz or folder.
        path: The .npz file, or the folder of images; only for npz and folder.
        data_dir: The folder where the files of fashion-mnist are looked for first.
        validation: Fraction of the training part that is held out for validation, in (0, 0.5].
        test: Fraction held out for the test where the data set has no test part of its own, in (0, 0.5].
        image_size: Side in pixels that every image is resized to; only for folder.
        grey: Read images as one grey channel instead of three colours; only for folder.
        augment: How training images are altered wherever the backbone learns from them.
    """

    name: str = "digits"
    path: Path | None = None
    data_dir: Path | None = None
    validation: float = Field(default=0.2, gt=0, le=0.5)
    test: float = Field(default=0.2, gt=0, le=0.5)
    image_size: int | None = Field(default=None, ge=1)
    grey: bool = False
    augment: AugmentSettings = AugmentSettings()
