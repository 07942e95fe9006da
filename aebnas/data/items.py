"""Items of a torch Dataset, read in pieces here or in other processes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from aebnas.data.augment import Augment
from aebnas.data.decoding import ImageForm, formed, is_picture


class Order(NamedTuple):
    """Items int64 (n,) to be read, and how they are to look, if otherwise than they are."""

    items: NDArray[np.int64]
    looks: NDArray[np.int64] | None


class ItemReader:
    """Reads and alters the images of a Dataset; can be sent to another process.

    Args:
        form: What images of Pillow are brought to.
    """

    def __init__(self, dataset: Dataset[Any], form: ImageForm, augment: Augment | None) -> None:
        self._dataset, self._form, self._augment = dataset, form, augment

    def __call__(self, order: Order) -> Tensor | NDArray[Any]:
        """Return the images (n, C, H, W); as an array where another process is to have them."""
        images = torch.stack([self._image(item) for item in order.items.tolist()])
        if self._augment is not None and order.looks is not None:
            images = self._augment.alter(images, torch.from_numpy(order.looks))
        if torch.utils.data.get_worker_info() is None:
            return images
        # A tensor would go by way of shared memory, of which a container has little.
        return (images.float() if images.dtype == torch.bfloat16 else images.detach()).numpy()

    def _image(self, item: int) -> Tensor:
        return as_tensor(self._dataset[item][0], f"image {item}", self._form)


def as_tensor(image: Any, name: str, form: ImageForm) -> Tensor:
    """Return ``image`` itself, or, if it is one of Pillow's, as a uint8 tensor (C, H, W) in ``form``."""
    if not is_picture(image):
        return image  # type: ignore[no-any-return]
    return torch.from_numpy(np.array(formed(image, name, form), order="C"))
