"""Images to bytes and back: lossless compression by a model on an integer flow.

The flow maps integers x to integers z with P(x) = P(z), and a range coder writes z in -log2 P(z) bits, level by level,
the deepest first. Reading, each level's probabilities are computed from the levels already read, and the flow is
inverted.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import scipy.special
import tensorflow as tf

from tfp_hybrid.bijectors import Lattice
from tfp_hybrid.execution import traced_plainly
from tfp_hybrid.fingerprint import fingerprint
from tfp_hybrid.latents import LatticeMixture
from tfp_hybrid.models import DensityModel, checks

__all__ = ["decode", "encode"]

_MAGIC, _FORMAT = b"tfph", 1
_START = struct.Struct("<4sB")  # magic, format
_CHECKSUM = struct.Struct("<I")  # of all that follows
_ABOUT = struct.Struct("<IIIIB")  # checksum of the values, fingerprint, levels, number of rows, rank of a row
_ROWS_AT_ONCE = 64  # a network is always evaluated for so many rows, so that it rounds alike
_TABLE_SIZE = 2**21  # numbers in memory at once
_HALF = 2**16  # an escaped value is written in two halves of 16 bits


def encode(model: DensityModel, x) -> bytes:
    """Writes integers in about -log2 P(x) bits.

    The networks must compute the same when the data are read: `decode` needs the same kind of machine, the same
    versions of TensorFlow and numpy, and as many threads. How many rows there are, and in which order, does not matter:
    networks are evaluated on the CPU, operation by operation, in blocks of one size. Data that are decoded wrongly are
    not returned, since the bytes hold a checksum of the data. Values that P(z) finds all but impossible are written as
    they are.

    Args:
      model: A `DensityModel` or `HybridModel` of x on an `IntegerFlow` and a `LatticeMixture`.
      x: Integers 0 .. quantization_levels-1, `(n, *event_shape)`.

    Returns:
      The bytes: a header of 26 bytes and 4 for each axis of `event_shape`, and the code.

    Raises:
      ImportError: If `constriction` is not installed.
      ValueError: If the model has no P(x) of integers, or a condition, cannot be inverted exactly, or cannot take x.
    """
    stream = _constriction().stream
    p_z = _latent(model)
    x = checks.check_inputs(x, model.distribution).astype("int32")
    encoder = stream.queue.RangeEncoder()
    for start in range(0, len(x), _ROWS_AT_ONCE):
        rows = x[start : start + _ROWS_AT_ONCE]
        z = _encoded(model, rows)
        numbers = np.rint(z[: len(rows)] / p_z.step).astype("int64")
        for entries, first, probabilities in _tables(p_z, z, len(rows)):
            window = probabilities.shape[1] - 1
            symbols = numbers[entries] - first
            escaped = (symbols < 0) | (symbols >= window)
            encoder.encode(np.where(escaped, window, symbols).astype("int32"), _categorical(stream), probabilities)
            if escaped.any():
                halves = np.stack(np.divmod(numbers[entries][escaped] + _HALF**2 // 2, _HALF), -1)
                encoder.encode(halves.ravel().astype("int32"), stream.model.Uniform(_HALF))
    about = _ABOUT.pack(_sum_of(x), *_identity(model), len(x), x.ndim - 1)
    rest = about + struct.pack(f"<{x.ndim - 1}I", *x.shape[1:]) + encoder.get_compressed().astype("<u4").tobytes()
    return _START.pack(_MAGIC, _FORMAT) + _CHECKSUM.pack(zlib.crc32(rest)) + rest


def decode(model: DensityModel, data: bytes) -> np.ndarray:
    """Reads what `encode` has written with the same model.

    Args:
      model: The model, with the same weights of p(x); those of a head do not matter.
      data: The bytes.

    Returns:
      x, `(n, *event_shape)`, uint8, or int32 for more than 256 levels.

    Raises:
      ImportError: If `constriction` is not installed.
      ValueError: If `data` is not from `encode`, is damaged or of another model, or is decoded to other values than
        were encoded, because the networks were computed otherwise.
    """
    stream = _constriction().stream
    p_z = _latent(model)
    count, shape, sum_of_values, words = _opened(model, data)
    decoder, found = stream.queue.RangeDecoder(words), [np.zeros((0, *shape), "int32")]
    for start in range(0, count, _ROWS_AT_ONCE):
        rows = min(count - start, _ROWS_AT_ONCE)
        z = np.zeros((_ROWS_AT_ONCE, *p_z.event_shape), p_z.dtype.name)
        for entries, first, probabilities in _tables(p_z, z, rows):
            symbols = decoder.decode(_categorical(stream), probabilities)
            numbers, escaped = first + symbols, symbols == probabilities.shape[1] - 1
            if escaped.any():
                halves = decoder.decode(stream.model.Uniform(_HALF), 2 * int(escaped.sum())).astype("int64")
                numbers[escaped] = halves.reshape(-1, 2) @ [_HALF, 1] - _HALF**2 // 2
            z[:rows][entries] = numbers * p_z.step
        found.append(_decoded(model, z)[:rows])
    x = np.concatenate(found)
    if _sum_of(x) != sum_of_values:
        raise ValueError(
            "data was decoded to other values than were encoded; wanted the same kind of machine, versions of "
            "TensorFlow and numpy, and number of threads, so that the model's networks round alike."
        )
    return x.astype(model.inputs_spec.stored_dtype(x.dtype))


def _opened(model, data):
    """The number of rows, the shape of one, the checksum of the values and the words of the code."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ValueError(f"data is a {type(data).__name__}; wanted bytes from `compression.encode`.")
    data = bytes(data)
    if data[:4] != _MAGIC:
        raise ValueError(f"data begins with {data[:4]!r}; wanted bytes from `compression.encode`, {_MAGIC!r}.")
    if data[4:5] != bytes([_FORMAT]):
        raise ValueError(f"data has the format {list(data[4:5])}; this version reads [{_FORMAT}].")
    after = _START.size + _CHECKSUM.size
    rest = data[after:]
    if len(rest) < _ABOUT.size or data[_START.size : after] != _CHECKSUM.pack(zlib.crc32(rest)):
        raise ValueError(f"data, {len(data):,} bytes, is damaged or cut off: its checksum is not that of its content.")
    sum_of_values, *identity, count, rank = _ABOUT.unpack_from(rest)
    shape = struct.unpack_from(f"<{rank}I", rest, _ABOUT.size)
    wanted = tuple(model.distribution.event_shape)
    if shape != wanted:
        raise ValueError(f"data holds rows of shape {shape}; the model's have shape {wanted}.")
    if tuple(identity) != _identity(model):
        raise ValueError(
            f"data was encoded with another model: fingerprint and levels are {tuple(identity)}; this model's are "
            f"{_identity(model)}."
        )
    return count, shape, sum_of_values, np.frombuffer(rest, "<u4", offset=_ABOUT.size + 4 * rank)


def _constriction():
    try:
        import constriction
    except ImportError as error:
        raise ImportError(f"{error}; compression needs pip install 'tfp-hybrid[compression]'.") from None
    return constriction


def _categorical(stream):
    return stream.model.Categorical(perfect=False)


def _latent(model) -> LatticeMixture:
    if not isinstance(model, DensityModel) or model.encoder is not None:
        raise ValueError(f"model is {model!r}; wanted a `DensityModel` or `HybridModel` of x, without an encoder.")
    if model.flow_inputs:
        raise ValueError(f"model is {model!r}, of p(x | c); wanted one of p(x), whose flow takes no condition.")
    p_x = model.distribution
    is_of_integers = any(isinstance(part, Lattice) for part in (p_x.bijector, *p_x.bijector.submodules))
    if not is_of_integers or not isinstance(p_x.distribution, LatticeMixture):
        raise ValueError(
            f"model is {model!r}, of which p(x) is a density; wanted the probability of integers: "
            "`bijectors.IntegerFlow` and `latents.LatticeMixture`."
        )
    return p_x.distribution


def _identity(model) -> tuple[int, int]:
    """The checksum of the weights of p(x), and the number of levels."""
    return fingerprint(model.density, any_order=True), model.quantization_levels


def _sum_of(x) -> int:
    return zlib.crc32(np.ascontiguousarray(x, "<i4").tobytes())


def _encoded(model, rows) -> np.ndarray:
    """z of a block of rows, `(_ROWS_AT_ONCE, d)`, zero after the last row."""
    padded = np.zeros((_ROWS_AT_ONCE, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    with tf.device("CPU"), traced_plainly():  # without functions, whose parts TensorFlow may fuse, and round, otherwise
        z = model.flow.inverse_and_log_det(padded)[0].numpy()
    z[len(rows) :] = 0
    if np.abs(z).max() >= _HALF**2 // 4 or (_decoded(model, z)[: len(rows)] != rows).any():
        raise ValueError(f"model has a flow that does not map x to z and back exactly: {model.flow!r}.")
    return z


def _decoded(model, z) -> np.ndarray:
    with tf.device("CPU"), traced_plainly():
        return model.flow.forward_and_log_det(z)[0].numpy().astype("int32")


def _tables(p_z, z, rows) -> Iterator[tuple[tuple, np.ndarray, np.ndarray]]:
    """Yields what is coded next, in terms of steps: probabilities of a window of numbers, and of all others together.

    Args:
      p_z: The `LatticeMixture`.
      z: `(_ROWS_AT_ONCE, d)`. When an item is yielded, the entries of deeper levels must be known.
      rows: How many rows of z are coded.

    Yields:
      The indices of k entries in `z[:rows]`; the first number of each one's window, `(k,)`; and the probabilities of
      the numbers in it and of all others, `(k, window + 1)`.
    """
    window = max(64, 2 * p_z.quantization_levels)
    for level, entries in enumerate(p_z.levels):
        with tf.device("CPU"), traced_plainly():
            mixtures = [part.numpy()[:rows].astype("float64") for part in p_z.mixtures(tf.constant(z), level)]
        logits, means, scales = (part.reshape(-1, p_z.components) for part in mixtures)
        means, scales, weights = means / p_z.step, scales / p_z.step, scipy.special.softmax(logits, -1)
        if not np.isfinite(weights + means + scales).all():
            raise ValueError("model has weights by which P(z) is not finite.")
        indices = np.indices((rows, entries.stop - entries.start)).reshape(2, -1) + [[0], [entries.start]]
        first = np.floor((weights * means).sum(-1)).astype("int64") - window // 2
        at_once = max(1, _TABLE_SIZE // (window * p_z.components))
        for start in range(0, len(first), at_once):
            part = slice(start, start + at_once)
            edges = first[part, np.newaxis] + np.arange(window + 1) - 0.5
            cdf = np.zeros(edges.shape)
            for weight, mean, scale in zip(weights[part].T, means[part].T, scales[part].T, strict=True):
                cdf += weight[:, np.newaxis] * scipy.special.expit((edges - mean[:, None]) / scale[:, None])
            inside = np.diff(cdf)
            outside = np.maximum(1 - inside.sum(-1, keepdims=True), 0)
            yield tuple(indices[:, part]), first[part], np.concatenate([inside, outside], -1)
