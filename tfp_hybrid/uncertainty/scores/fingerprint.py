"""`fingerprint`: a checksum of a model's weights, by which a score knows the model that it was fitted to."""

import weakref
import zlib

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.models import DensityModel


def fingerprint(*layers: keras.layers.Layer) -> int:
    """Returns a checksum of all weights, which saving and loading keep, and training changes.

    It is computed again only for layers that have changed since the last call; on a GPU, always. (The values of the
    last call are kept, which takes the memory of another copy of the weights once they are trained further.)
    """
    crc = 0
    for layer in layers:
        crc = _checksum(layer, crc)
    return crc


_CHECKSUMS = weakref.WeakKeyDictionary()  # a layer: its values, their addresses, the checksums before and after


def _checksum(layer, crc):
    """Returns the CRC that continues `crc` with the weights of a layer.

    TensorFlow never changes a value that it has returned: an updated weight gets other memory as long as its old value
    is kept. So a weight at the same address has not changed.
    """
    values = [np.ascontiguousarray(tf.convert_to_tensor(weight)) for weight in _weights_in_order(layer)]
    addresses = [value.ctypes.data for value in values]
    before = _CHECKSUMS.get(layer)
    if before is not None and before[1:3] == (addresses, crc):
        return before[3]
    found = crc
    for value in values:
        found = zlib.crc32(value.tobytes(), found)
    _CHECKSUMS[layer] = values, addresses, crc, found
    return found


def _weights_in_order(layer):
    """Returns the weights of a layer, in an order that does not depend on what was frozen when it was built."""
    if not isinstance(layer, DensityModel):
        return getattr(layer, "learned", layer.weights)  # a score also has arrays
    return [*layer.density.ordered_variables(), *(() if layer.head is None else layer.head.weights)]
