"""`DensityOfStates`: how unusual several statistics of one pass are together."""

from collections.abc import Sequence

import keras
import numpy as np
import scipy.special
import tensorflow as tf

from tfp_hybrid.bijectors import one_pass
from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import Composite, Score, check_classifier, classes_of, evaluate
from tfp_hybrid.uncertainty.scores.complexity import CodeLength
from tfp_hybrid.uncertainty.scores.latent import LatentNorm
from tfp_hybrid.uncertainty.scores.log_prob import LevelLogProb, NegativeLogProb
from tfp_hybrid.uncertainty.scores.mahalanobis import squared_distances
from tfp_hybrid.uncertainty.scores.normal_scores import knots_of, normal_scores
from tfp_hybrid.uncertainty.scores.response import Energy, PredictiveVariance

_register = keras.saving.register_keras_serializable(package="tfp_hybrid")
_LEAST_VARIANCE = 1e-2  # of combinations of statistics of variance 1; below, they say the same, and differ by noise
_LEAST, _MOST = 20, 2000  # held-out inputs that the density is estimated from
_BANDWIDTHS = np.geomspace(0.1, 1.5, 15)


def statistics_of(model: DensityModel) -> list[Score]:
    """Returns the default statistics: ||z|| and log p of each level, and what applies of code length and p(y|x)."""
    p_x = model.distribution
    levels = range(len(one_pass.level_sizes(p_x.bijector, p_x.event_shape)))
    found = [score(level=level) for level in levels for score in (LatentNorm, LevelLogProb)]
    return [score for score in (*found, CodeLength(), Energy(), PredictiveVariance()) if score.applies(model)]


@_register
class DensityOfStates(Composite):
    """-log p(s), the density of several statistics s of a pass, estimated from held-out inputs; in nats.

    An input may be as likely as others, have as long a z, or be as complex, and yet have a combination of these that no
    held-out input has. Too high a density counts as too low a one does. Each statistic is mapped to its normal score,
    the scores are made uncorrelated (combinations of less than 1 % of their variance are left out), and p is a kernel
    density with Gaussian kernels, whose bandwidth maximizes the likelihood of each held-out input under the kernels of
    the others.

    Args:
      statistics: Scores that need no fit. None takes ||z|| and -log p of each level of the flow, the code length of
        images, the energy of classifiers and the variance of regressors.
      given_class: Whether the statistics are compared with those of the predicted class: its means are subtracted.
      **kwargs: Passed to `Score`.

    Raises:
      ValueError: If `statistics` is empty, or holds something else. When fitted, if x has fewer than 20 inputs whose
        statistics are finite, or if `given_class` and the head is no classifier.

    References:
      Morningstar, Ham, Gallagher, Lakshminarayanan, Alemi and Dillon 2021, "Density of States Estimation for
      Out-of-Distribution Detection", section 3.
    """

    needs_fit = True
    title = "density of states"

    def __init__(self, statistics: Sequence[Score] | None = None, given_class: bool = False, **kwargs):
        super().__init__(statistics, **kwargs)
        if any(score.needs_fit for score in self.scores or ()):
            raise ValueError(f"{type(self).__name__}: `statistics` is {statistics}; wanted scores that need no fit.")
        self.given_class = given_class
        if given_class:
            self.title += " given y-hat"
        for name in ("means", "quantiles", "origins", "slopes", "centre", "whitening", "points", "bandwidth"):
            setattr(self, name, self.add_array(name))

    def check_applies(self, model: DensityModel):
        super().check_applies(model)
        if self.given_class:
            check_classifier(model, type(self).__name__)

    def learn(self, model: DensityModel, x, batch_size: int):
        self.check_applies(model)
        if self.scores is None:
            self.scores = statistics_of(model)
        passes = [(self._statistics(e), self._classes(e)) for e in encode_batches(model, x, batch_size)]
        states, classes = (np.concatenate(parts) for parts in zip(*passes, strict=True))
        finite = np.isfinite(states).all(-1)
        if finite.sum() < _LEAST:
            raise ValueError(
                f"{type(self).__name__}: x has {finite.sum()} inputs whose statistics are finite; wanted at least "
                f"{_LEAST} held-out in-distribution inputs."
            )
        states, classes = states[finite].astype("float64"), classes[finite]
        means = np.tile(states.mean(0), (model.head.num_classes if self.given_class else 1, 1))
        for k in np.unique(classes):
            means[k] = states[classes == k].mean(0)
        states -= means[classes]
        pieces = knots_of(states)
        u = normal_scores(states, *pieces).numpy()
        scale = np.maximum(u.std(0), 1e-6)
        variances, axes = np.linalg.eigh(np.cov(u / scale, rowvar=False).reshape(len(scale), -1))
        kept = variances > _LEAST_VARIANCE
        whitening = (axes / np.sqrt(np.maximum(variances, _LEAST_VARIANCE)) / scale[:, np.newaxis])[:, kept]
        points = ((u - u.mean(0)) @ whitening)[:: -(-len(u) // _MOST)]
        learned = (means, *pieces, u.mean(0), whitening, points, _bandwidth(points))
        for array, value in zip(self.arrays.values(), learned, strict=True):
            array.assign(value)

    def of(self, encoding: Encoding) -> tf.Tensor:
        states = self._statistics(encoding) - tf.gather(self.means, self._classes(encoding))
        u = normal_scores(states, *map(tf.convert_to_tensor, (self.quantiles, self.origins, self.slopes)))
        points = tf.ensure_shape(self.points, (None, None))
        scaled = squared_distances((u - self.centre) @ self.whitening, points) / (2 * tf.square(self.bandwidth))
        count, size = tf.unstack(tf.cast(tf.shape(points), scaled.dtype))
        unit = tf.math.log(self.bandwidth) + 0.5 * np.log(2 * np.pi).astype("float32")
        return -tf.reduce_logsumexp(-scaled, -1) + tf.math.log(count) + size * unit

    def _statistics(self, encoding):
        return tf.stack([tf.cast(evaluate(score, encoding), tf.float32) for score in self.scores], -1)

    def _classes(self, encoding):
        return classes_of(encoding) if self.given_class else tf.zeros(tf.shape(encoding.log_p_z), tf.int32)

    def get_config(self) -> dict:
        config = super().get_config()
        return config | {"statistics": config.pop("scores"), "given_class": self.given_class}


@_register
class ComplexityDensity(DensityOfStates):
    """-log p(log p(x), L(x)): how unusual the density and the complexity of an image are together, in nats.

    `InputComplexity` subtracts the code length L(x) from -log p(x); this score learns from held-out images how the two
    belong together.

    Args:
      **kwargs: Passed to `Score`.

    References:
      Serra et al. 2020, "Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models".
    """

    title = "complexity density"

    def __init__(self, **kwargs):
        super().__init__([NegativeLogProb(), CodeLength()], **kwargs)

    def get_config(self) -> dict:
        config = super().get_config()
        return {key: value for key, value in config.items() if key not in ("statistics", "given_class")}

    @classmethod
    def from_config(cls, config: dict):
        return cls(**config)


def _bandwidth(points):
    """Returns the bandwidth under which the points are most likely, each by the kernels of the others."""
    rows = np.arange(min(500, len(points)))
    squared = squared_distances(points[rows], points).numpy()
    squared[rows, rows] = np.inf
    found = [
        (np.mean(scipy.special.logsumexp(-squared / (2 * h * h), axis=1)) - points.shape[1] * np.log(h), h)
        for h in _BANDWIDTHS
    ]
    return np.float32(max(found)[1])
