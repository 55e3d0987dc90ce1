"""scikit-learn's handwritten digits, 8x8 pixels; no download."""

from __future__ import annotations

import numpy as np
import sklearn.datasets

from tfp_hybrid.datasets.dataset import Dataset

_TRAIN, _VALIDATION = 1000, 350


def load() -> Dataset:
    """Loads 1,797 images of handwritten digits, split 1000 / 350 / 447 in scikit-learn's order.

    The images are in the order in which they were collected, so most writers in the test part do not occur in the
    training part. This is slightly harder than a random split.

    Returns:
      A `Dataset` with uint8 images `(n, 8, 8, 1)` of values `0 ... 16` and int32 labels `(n,)`.

    References:
      E. Alpaydin and C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning
      Repository, 1998. doi:10.24432/C50P49. CC BY 4.0.
    """
    source = sklearn.datasets.load_digits()
    x = source.images.astype(np.uint8)[..., np.newaxis]
    y = source.target.astype(np.int32)
    first, second = _TRAIN, _TRAIN + _VALIDATION
    return Dataset(
        name="digits",
        task="classification",
        train=(x[:first], y[:first]),
        validation=(x[first:second], y[first:second]),
        test=(x[second:], y[second:]),
        num_classes=10,
        quantization_levels=17,
        target_name="digit",
        class_names=tuple(str(label) for label in range(10)),
        description="scikit-learn's 8x8 digits, split 1000 / 350 / 447 in their order",
    )
