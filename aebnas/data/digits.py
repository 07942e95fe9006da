"""The 1,797 handwritten digits, 8x8 pixels, that come with scikit-learn."""

from __future__ import annotations

import numpy as np

from aebnas.data.datasets import DATASETS, DECODING, LIBRARY, RawData, labelled_images, raw_data, refuse_options
from aebnas.data.settings import DataSettings


@DATASETS.add("digits")
def load(settings: DataSettings) -> RawData:
    """Return the digits as uint8 (1797, 1, 8, 8) with values 0 to 16; they have no test part of their own."""
    refuse_options(settings, "path", *DECODING, *LIBRARY)
    # Imported late: scikit-learn takes longer to import than everything else that load.py needs.
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    images = values.reshape(-1, 8, 8).astype(np.uint8)
    train = labelled_images(images, labels, images_source="digits", labels_source="digits", num_classes=10)
    return raw_data(train, None, tuple(str(digit) for digit in range(10)), scale=1 / 16)
