"""`LatticeMixture`: the latent distribution of an integer flow."""

import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import _compat, arguments, networks
from tfp_hybrid.bijectors.lattice import LATTICE_RANGE, lattice_step
from tfp_hybrid.latents.base import TrainedLatent
from tfp_hybrid.latents.checks import checked_dtype

tfd = tfp.distributions
_UNIT = LATTICE_RANGE / 2  # what the networks see is divided by it, and the means are in it
_LEAST_SCALE = 0.05  # in steps: a component of this scale has nearly all of its mass at one point


class LatticeMixture(TrainedLatent):
    """Mixtures of logistic distributions, discretized to the multiples of a step, for the z of an `IntegerFlow`.

    Of each entry of z, with mixture weights w_c, means m_c, scales s_c, and the logistic cdf F,

        P(z) = sum_c w_c [ F((z - m_c + step / 2) / s_c) - F((z - m_c - step / 2) / s_c) ],

    a probability: it sums to 1 over the multiples of the step. In the deepest level of the flow, w, m and s are
    weights. In each other level they are functions of all deeper levels, by one pass of a network for the whole level:

        P(z) = prod_l P(z_l | z_l+1, ..., z_L)

    log P and its gradient are finite however far out z is, where the difference of the cdfs is zero in floating point:

        log[F(b) - F(a)] = log F(b) + log F(-a) + log(1 - exp(a - b))

    Args:
      level_sizes: `flow.level_sizes()`: how many entries of z each level ends in, the data side first. z holds them in
        reverse.
      quantization_levels: As for the flow; it sets the step, and the range on which the initial components lie.
      components: The number of components of each entry.
      hidden_units: The sizes of the hidden layers of each level's network.
      conditioner: A function `(input_shape, units) -> keras layer` in place of `networks.MLP`, called for each level
        but the deepest, whose inputs are scaled to about [0, 2); or a list of built layers, the deeper levels first.
        TFP distributions take no `training` argument, so dropout inside them stays off.
      dtype: The dtype of z, and of the networks unless the global policy is mixed precision.
      name: The name of the distribution.

    Raises:
      ValueError: For arguments that are not as above.

    Example:

    >>> from tfp_hybrid import latents
    >>> flow = bijectors.IntegerFlow((4, 4, 1), quantization_levels=16)
    >>> p_x = flow_distribution(flow, latents.LatticeMixture(flow.level_sizes(), 16))

    References:
      Hoogeboom, Peters, van den Berg and Welling 2019, "Integer Discrete Flows and Lossless Compression", eq. 9 and 10.
      Salimans, Karpathy, Chen and Kingma 2017, "PixelCNN++", section 2.1 (mixtures).
    """

    def __init__(
        self,
        level_sizes: Sequence[int],
        quantization_levels: int = 256,
        components: int = 4,
        hidden_units: Sequence[int] = (128, 128),
        conditioner: Callable | Sequence[keras.layers.Layer] | None = None,
        dtype: tf.DType = tf.float32,
        name: str = "lattice_mixture",
    ):
        parameters = dict(locals())
        self.step = lattice_step(quantization_levels, "LatticeMixture")
        arguments.check_count(components, "LatticeMixture: `components`")
        sizes = _checked_sizes(level_sizes)
        dtype = checked_dtype(dtype, "LatticeMixture")
        super().__init__(tf.TensorShape([sum(sizes)]), dtype, parameters=parameters, name=name)
        self.quantization_levels, self.components = int(quantization_levels), int(components)
        self._ends = np.cumsum(sizes).tolist()
        self.base = self.add_weight(tf.cast(self._initial(), dtype), "base")
        if conditioner is None:
            policy = networks.policy_for(dtype.name)
            conditioner = functools.partial(networks.MLP, hidden_units=tuple(hidden_units), dtype=policy)
        shapes = [(end, 3 * self.components * size) for end, size in zip(self._ends, sizes[1:], strict=False)]
        self.conditioners = [self.add_network(layer) for layer in _built(conditioner, shapes)]
        _compat.set_parameter(self, "conditioner", self.conditioners)

    @property
    def levels(self) -> list[slice]:
        """Where the entries of each level are in z, the deepest level first."""
        return [slice(start, end) for start, end in zip([0, *self._ends], self._ends, strict=False)]

    def mixtures(self, z, level: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns logits, means and scales of the components of a level's entries, each `(n, size, components)`.

        Args:
          z: `(n, d)`, of which the entries of deeper levels are used.
          level: The index of the level in `levels`.
        """
        entries = self.levels[level]
        raw = tf.broadcast_to(
            self.base.value[entries], [tf.shape(z)[0], entries.stop - entries.start, 3 * self.components]
        )
        if level:
            found = self.conditioners[level - 1](z[:, : entries.start])
            raw += tf.reshape(tf.cast(found, raw.dtype), tf.shape(raw))
        logits, means, log_scales = tf.split(raw, 3, -1)
        return logits, _UNIT * means, self.step * (_LEAST_SCALE + tf.exp(log_scales))

    def _log_prob(self, z):
        z = tf.convert_to_tensor(z, self.dtype)
        rows = tf.reshape(z, [-1, self._ends[-1]])
        found = [self.mixtures(rows, level) for level in range(len(self._ends))]
        logits, means, scales = (tf.concat(parts, 1) for parts in zip(*found, strict=True))
        centered, half = (rows[..., tf.newaxis] - means) / scales, self.step / (2 * scales)
        each = tf.math.log_sigmoid(centered + half) + tf.math.log_sigmoid(half - centered)
        each += tf.math.log(-tf.math.expm1(-2 * half))
        log_prob = tf.reduce_logsumexp(each + tf.nn.log_softmax(logits), -1)
        return tf.reshape(tf.reduce_sum(log_prob, -1), tf.shape(z)[:-1])

    def _sample_n(self, n, seed=None):
        seeds = tfp.random.split_seed(seed, len(self._ends), salt="lattice_mixture")
        z = tf.zeros((n, 0), self.dtype)
        for level in range(len(self._ends)):
            logits, means, scales = self.mixtures(z, level)
            mixture = tfd.MixtureSameFamily(tfd.Categorical(logits), tfd.Logistic(means, scales))
            drawn = self.step * tf.round(mixture.sample(seed=seeds[level]) / self.step)
            z = tf.concat([z, drawn], -1)
        return z

    def _initial(self):
        """Equal weights, and means that are spread over the range of the data."""
        highest = self.step * (self.quantization_levels - 1)
        means = highest * (np.arange(self.components) + 0.5) / self.components / _UNIT
        scale = self.quantization_levels / (4 * self.components)  # in steps
        row = np.concatenate([np.zeros(self.components), means, np.full(self.components, np.log(scale))])
        return np.tile(row, (self._ends[-1], 1))

    def _default_event_space_bijector(self):
        return None


def _checked_sizes(level_sizes) -> list[int]:
    """Sizes of the levels, the deepest first."""
    if not isinstance(level_sizes, Sequence) or isinstance(level_sizes, str) or not level_sizes:
        raise ValueError(f"LatticeMixture: `level_sizes` is {level_sizes!r}; wanted `flow.level_sizes()`.")
    for size in level_sizes:
        arguments.check_count(size, "LatticeMixture: a size in `level_sizes`")
    return [int(size) for size in level_sizes[::-1]]


def _built(conditioner, shapes) -> list[keras.layers.Layer]:
    if callable(conditioner) and not isinstance(conditioner, keras.layers.Layer):
        conditioner = [
            keras.Sequential([keras.Input((size,)), keras.layers.Rescaling(1 / _UNIT), conditioner((size,), units)])
            for size, units in shapes
        ]
    if not isinstance(conditioner, Sequence) or len(conditioner) != len(shapes):
        raise ValueError(
            f"LatticeMixture: `conditioner` is {conditioner!r}; wanted a function (input_shape, units) -> keras layer, "
            f"or a list of {len(shapes)} built layers."
        )
    for layer, (size, units) in zip(conditioner, shapes, strict=True):
        found = tuple(layer(tf.zeros((1, size))).shape)
        if found != (1, units):
            raise ValueError(
                f"LatticeMixture: a layer of `conditioner` maps {(1, size)} to {found}; wanted {(1, units)}."
            )
    return list(conditioner)
