"""`fingerprint`: a checksum of weights, by which what was fitted to a model knows that model again."""

import weakref
import zlib

import keras
import numpy as np
import tensorflow as tf


def fingerprint(*layers: keras.layers.Layer, any_order: bool = False) -> int:
    """Returns a checksum of all weights, which saving and loading keep, and training changes.

    It is computed again only for layers that have changed since the last call; on a GPU, always. (The values of the
    last call are kept, which takes the memory of another copy of the weights once they are trained further.)

    Args:
      *layers: Keras layers. A layer with the attribute `learned` says itself what its weights are.
      any_order: Whether the order of a layer's weights does not matter. Keras lists those first that were trainable
        when the layer was built, so that the order may change when a layer is frozen, saved and loaded.

    Returns:
      A number >= 0.
    """
    crc = 0
    for layer in layers:
        crc = _checksum(layer, crc, any_order)
    return crc


_CHECKSUMS = weakref.WeakKeyDictionary()  # a layer: its values, and what they were summed with; the checksum


def _checksum(layer, crc, any_order):
    """Returns the CRC that continues `crc` with the weights of a layer.

    TensorFlow never changes a value that it has returned: an updated weight gets other memory as long as its old value
    is kept. So a weight at the same address has not changed.
    """
    weights = getattr(layer, "learned", layer.weights)
    values = [np.ascontiguousarray(tf.convert_to_tensor(weight)) for weight in weights]
    key = [value.ctypes.data for value in values], crc, any_order
    before = _CHECKSUMS.get(layer)
    if before is not None and before[1] == key:
        return before[2]
    found = crc
    if any_order:
        found = zlib.crc32(np.sort([zlib.crc32(value.tobytes()) for value in values]).tobytes(), found)
    else:
        for value in values:
            found = zlib.crc32(value.tobytes(), found)
    _CHECKSUMS[layer] = values, key, found
    return found
