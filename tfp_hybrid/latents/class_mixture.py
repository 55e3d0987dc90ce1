"""`ClassMixture`: a latent distribution with components for each class."""

import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import arguments
from tfp_hybrid.latents.base import TrainedLatent
from tfp_hybrid.latents.checks import checked_dtype, checked_shape

tfd = tfp.distributions
_SCALES = ("shared", "own")


class ClassMixture(TrainedLatent):
    """A mixture of Gaussians in which each class has components of its own.

        p(z) = sum_k pi_k p(z | k),    p(z | k) = sum_c w_kc N(z; mu_kc, diag(s_kc^2))

    As the latent of a flow, it gives every row a class, known or not: `heads.ClassPosterior` is p(k | z) by Bayes'
    rule, from the same weights. So rows without labels help, too: they pull the classes apart where p(x) is low.

    The means start on the axes of the first entries of z, of a multi-scale flow those of its last level, at a distance
    `separation` from the origin (independent Normals of that length on average, if there are more components than
    entries of z). So the other entries need not change with the class. pi and w start uniform, and s at 1.

    Args:
      num_classes: The number of classes K, at least 2.
      shape: The shape of z, such as `flow.latent_shape`.
      components: The number of components of each class.
      separation: The distance > 0 of the initial means from the origin. Two classes are then `separation * sqrt(2)`
        standard deviations apart.
      scales: "shared" for one standard deviation of each entry of z, or "own" for one of each component and entry.
      train_means: Whether the means are trained; otherwise the flow moves the rows to them.
      dtype: The dtype of z.
      name: The name of the distribution.

    Raises:
      ValueError: For arguments that are not as above.

    Example:

    >>> from tfp_hybrid import latents
    >>> flow = bijectors.RealNVP((2,))
    >>> latent = latents.ClassMixture(3, flow.latent_shape)
    >>> model = HybridModel(flow_distribution(flow, latent), heads.ClassPosterior(latent))

    References:
      Izmailov, Kirichenko, Finzi and Wilson 2020, "Semi-Supervised Learning with Normalizing Flows" (fixed means).
      Ardizzone, Mackowiak, Rother and Köthe 2020, "Training Normalizing Flows with the Information Bottleneck for
      Competitive Generative Classification".
    """

    def __init__(
        self,
        num_classes: int,
        shape: tuple[int, ...],
        components: int = 1,
        separation: float = 4.0,
        scales: str = "shared",
        train_means: bool = True,
        dtype: tf.DType = tf.float32,
        name: str = "class_mixture",
    ):
        parameters = dict(locals())
        arguments.check_count(num_classes, "num_classes", 2)
        arguments.check_count(components, "components", 1)
        shape = checked_shape(shape, "ClassMixture")
        arguments.check_number(separation, "separation", 0, open=True)
        if scales not in _SCALES:
            raise ValueError(f"ClassMixture: `scales` is {scales!r}; wanted one of {', '.join(_SCALES)}.")
        dtype = checked_dtype(dtype, "ClassMixture")
        super().__init__(shape, dtype, parameters=parameters, name=name)
        self.num_classes, self.components, self.scales = int(num_classes), int(components), scales
        self._size = shape.num_elements()
        count = self.num_classes * self.components
        self.means = self.add_weight(_means(count, self._size, separation, dtype), "means", trainable=train_means)
        self.log_scales = self.add_weight(
            tf.zeros((count if scales == "own" else 1, self._size), dtype), "log_scales", trainable=True
        )
        self.class_logits = self.add_weight(tf.zeros(self.num_classes, dtype), "class_logits")
        self.component_logits = self.add_weight(
            tf.zeros((self.num_classes, self.components), dtype), "component_logits", trainable=components > 1
        )

    def class_log_probs(self, z) -> tf.Tensor:
        """Returns log p(z | k) of all classes in nats, `(..., K)`.

        Args:
          z: `(..., *shape)`.
        """
        z = self._flat(z)
        scales = tf.exp(self.log_scales.value)
        means = self.means.value / scales
        if self.scales == "shared":
            u = z / scales[0]
            squares = tf.reduce_sum(u**2, -1, keepdims=True)
            products = tf.linalg.matvec(means, u)
        else:
            squares = tf.linalg.matvec(1 / scales**2, z**2)
            products = tf.linalg.matvec(means / scales, z)
        distances = squares - 2 * products + tf.reduce_sum(means**2, -1)
        log_det = tf.reduce_sum(self.log_scales.value, -1) + self._size * 0.5 * math.log(2 * math.pi)
        each = tf.reshape(
            -0.5 * distances - log_det,
            tf.concat([tf.shape(z)[:-1], [self.num_classes, self.components]], 0),
        )
        return tf.reduce_logsumexp(each + tf.nn.log_softmax(self.component_logits.value), -1)

    def joint_log_probs(self, z) -> tf.Tensor:
        """Returns log p(z, k) = log pi_k + log p(z | k) of all classes in nats, `(..., K)`."""
        return self.class_log_probs(z) + tf.nn.log_softmax(self.class_logits.value)

    def given(self, y) -> tfd.Distribution:
        """Returns p(z | y), with the batch shape of y, integers 0 .. K-1."""
        y = tf.convert_to_tensor(y)
        means = tf.reshape(self.means.value, (self.num_classes, self.components, self._size))
        scales = tf.exp(self.log_scales.value)
        scales = tf.reshape(tf.broadcast_to(scales, tf.shape(self.means.value)), tf.shape(means))
        components = tfd.MultivariateNormalDiag(tf.gather(means, y), tf.gather(scales, y))
        flat = tfd.MixtureSameFamily(tfd.Categorical(tf.gather(self.component_logits.value, y)), components)
        return tfd.TransformedDistribution(flat, tfp.bijectors.Reshape(self._shape, [self._size]))

    def _flat(self, z):
        z = tf.convert_to_tensor(z, self.dtype)
        return tf.reshape(z, tf.concat([tf.shape(z)[: tf.rank(z) - self._shape.rank], [self._size]], 0))

    def _log_prob(self, z):
        return tf.reduce_logsumexp(self.joint_log_probs(z), -1)

    def _sample_n(self, n, seed=None):
        of_class, of_latent = tfp.random.split_seed(seed, salt="class_mixture")
        y = tfd.Categorical(self.class_logits.value).sample(n, seed=of_class)
        return self.given(y).sample(seed=of_latent)

    def _mean(self):
        means = tf.reshape(self.means.value, (self.num_classes, self.components, self._size))
        of_class = tf.einsum("kc,kcd->kd", tf.nn.softmax(self.component_logits.value), means)
        return tf.reshape(tf.einsum("k,kd->d", tf.nn.softmax(self.class_logits.value), of_class), self._shape)

    def _default_event_space_bijector(self):
        return tfp.bijectors.Identity()


def _means(count, size, length, dtype):
    """Initial means, `(count, size)`."""
    if count <= size:
        return length * tf.eye(count, size, dtype=dtype)
    return keras.initializers.RandomNormal(stddev=length / np.sqrt(size))((count, size), dtype.name)
