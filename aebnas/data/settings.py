"""The ``data`` block of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from aebnas.settings import Settings

Option = str | int | float | bool


class AugmentSettings(Settings):
    """How training images are altered at random, anew in every epoch; not at all by default.

    All but flip and shift are made by torchvision (the extra torchvision).

    Attributes:
        flip: Mirror every second image from left to right.
        shift: Most pixels by which an image is moved, up or down and left or right; what comes in is black.
        crop: Smallest share of an image's area that is cut out at random and resized to the whole; 1: nothing is cut.
        rotate: Most degrees by which an image is turned, to either side; what comes in is black.
        colour: Most by which brightness, contrast and saturation change, as a share, and hue by a quarter of that.
        rand_augment: Magnitude, 1 to 30, of two random operations on every image (arXiv 1909.13719); 0: none.
        erase: Probability that a random rectangle of an image is made black.
    """

    flip: bool = False
    shift: int = Field(default=0, ge=0)
    crop: float = Field(default=1.0, gt=0, le=1)
    rotate: float = Field(default=0.0, ge=0, le=180)
    colour: float = Field(default=0.0, ge=0, le=1)
    rand_augment: int = Field(default=0, ge=0, le=30)
    erase: float = Field(default=0.0, ge=0, le=1)

    @property
    def on(self) -> bool:
        """Tell whether anything is altered."""
        return self.flip or self.shift > 0 or self.uses_library

    @property
    def uses_library(self) -> bool:
        """Tell whether something is altered that torchvision does."""
        return self.crop < 1 or any((self.rotate, self.colour, self.rand_augment, self.erase))

    def to_json(self) -> dict[str, Any]:
        """Return what alters images, as a dictionary that JSON can hold; flip and shift always."""
        return {
            key: value
            for key, value in self.model_dump().items()
            if key in ("flip", "shift") or value != type(self).model_fields[key].default
        }


class ColumnSettings(Settings):
    """Which columns of a table hold what, where they are not found by themselves.

    Attributes:
        image: Of the images, or of their paths.
        label: Of the classes.
        split: Of train, validation or test, in a CSV file.
    """

    image: str | None = None
    label: str | None = None
    split: str | None = None


class DataSettings(Settings):
    """Which data set to use, how to split it and what its images are brought to.

    Attributes:
        name: A name of the registry ``DATASETS``: digits, fashion-mnist, npz, folder, csv, torchvision:NAME,
            huggingface, huggingface:NAME, or MODULE:CALLABLE that gives torch Datasets.
        path: The .npz or CSV file, the folder of images, a data set of the library datasets on disk, or the folder
            that a MODULE lies in.
        data_dir: The folder where the files of a named data set are looked for first; of a CSV file, the folder that
            its paths are relative to.
        validation: Fraction of the training part that is held out for validation where the data set has no validation
            part of its own, in (0, 0.5].
        test: Fraction held out for the test where the data set has no test part of its own, in (0, 0.5].
        image_size: What images are resized to: a side in pixels, or [height, width]; by default their own size if all
            have the same, else the one that the backbone wants.
        resize: stretch: to the size, whatever the proportions; crop: as small as still covers it, and the centre is
            kept; pad: as large as still fits in, with black borders.
        grey: Read images as one grey channel instead of three colours.
        normalise: What images are standardised with: data: mean and deviation of the train split; backbone: those that
            a pretrained backbone was trained with.
        corrupt: What becomes of images that cannot be read: fail: they are named; skip: they are left out and counted,
            up to a tenth of them.
        columns: Where a table's images and labels are; only for csv and huggingface.
        options: What else the constructor of a data set of torchvision, or ``load_dataset`` of huggingface, is given.
        download: Whether a data set of torchvision or huggingface that is not there may be downloaded.
        ram_gib: Decoded images are held in memory where they take no more than this, in GiB; else they are decoded
            anew whenever they are read.
        workers: Processes that read images; by default none where they are held in memory or a MODULE
            gives them, else up to 4.
        augment: How training images are altered wherever the backbone learns from them.
    """

    name: str = "digits"
    path: Path | None = None
    data_dir: Path | None = None
    validation: float = Field(default=0.2, gt=0, le=0.5)
    test: float = Field(default=0.2, gt=0, le=0.5)
    image_size: tuple[int, int] | None = None
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    grey: bool = False
    normalise: Literal["data", "backbone"] = "data"
    corrupt: Literal["fail", "skip"] = "fail"
    columns: ColumnSettings = ColumnSettings()
    options: dict[str, Option] = Field(default={})
    download: bool = False
    ram_gib: float = Field(default=2.0, ge=0)
    workers: int | None = Field(default=None, ge=0, le=256)
    augment: AugmentSettings = AugmentSettings()

    @field_validator("image_size", mode="before")
    @classmethod
    def _image_size(cls, value: Any) -> Any:
        sides = [value, value] if isinstance(value, int) else value
        if sides is None:
            return None
        if (
            not isinstance(sides, (list, tuple))
            or len(sides) != 2
            or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
        ):
            raise ValueError("must be a side in pixels, or [height, width]")
        return tuple(sides)
