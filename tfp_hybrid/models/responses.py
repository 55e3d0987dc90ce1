"""`Responses`: what a hybrid model says of the responses of new rows, and what it can draw."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import arguments
from tfp_hybrid.heads.quantiles import quantile
from tfp_hybrid.models import checks, classes, draws, side_inputs
from tfp_hybrid.models.encoding import flattened

tfd = tfp.distributions


class Responses:
    """What `HybridModel` can be asked besides what every Keras model can."""

    @property
    def joint(self) -> tfd.JointDistributionNamed:
        """p(x, y) = p(x) p(y|x), over `{"x": ..., "y": ...}`; of features and y, if there is an encoder."""
        side_inputs.check_none(self, "joint")
        event_shape = self.distribution.distribution.event_shape

        def p_y(flow_input):
            return self.head(flattened(self.flow.inverse(flow_input), event_shape))

        if self.encoder is None:
            return tfd.JointDistributionNamed({"x": self.distribution, "y": lambda x: p_y(x)})
        return tfd.JointDistributionNamed({"features": self.distribution, "y": lambda features: p_y(features)})

    def predict_distribution(self, x, batch_size: int | None = None) -> tuple[tfd.Distribution, np.ndarray]:
        """Returns p(y|x) and log p(x), from one pass.

        Args:
          x: An array `(n, *event_shape)`, or a `tf.data.Dataset` of batches of inputs or (inputs, ...).
          batch_size: Rows of a batch of an array; 256 if None.

        Returns:
          A distribution with batch shape `(n,)`, and log p(x) in nats, `(n,)`; -inf where it overflows.
        """
        features, log_prob = zip(
            *((batch.features, batch.log_prob) for batch in self.encode_batches(x, batch_size)), strict=True
        )
        return self.head(tf.concat(features, 0)), np.concatenate(log_prob)

    def predict_quantile(self, x, q, batch_size: int | None = None) -> np.ndarray:
        """Returns quantiles of p(y|x): the smallest y that P(Y <= y | x) >= q.

        Args:
          x: As for `predict_distribution`.
          q: A probability in (0, 1), or several, `(m,)`.
          batch_size: Rows of a batch of an array; 256 if None.

        Returns:
          `(n,)`, or `(m, n)` for several probabilities, in the unit of y; whole numbers for counts; NaN where the
          latent overflows. Of a vector response, those of each entry, with one more axis.

        Raises:
          ValueError: If q is not in (0, 1), or if the head classifies.
        """
        q = checks.reals(q, "q")
        if q.ndim > 1 or not q.size or not ((q > 0) & (q < 1)).all():
            raise ValueError(f"q is {q.tolist()}; wanted a probability above 0 and below 1, or a list of them.")
        if self.head.classifies:
            raise ValueError(
                f"predict_quantile: the head is {type(self.head).__name__}, of classes; wanted one of numbers. "
                "`predict` returns the probabilities of the classes."
            )
        return quantile(self.predict_distribution(x, batch_size)[0], q)

    def predict_interval(self, x, level: float = 0.9, batch_size: int | None = None) -> np.ndarray:
        """Returns the central interval of p(y|x), `(2, n)`: its quantiles (1 - level) / 2 and (1 + level) / 2.

        The response is in it, the ends included, with probability `level`; of counts, with at least that.

        Args:
          x: As for `predict_distribution`.
          level: The probability of the interval, between 0 and 1.
          batch_size: As for `predict_quantile`.

        Raises:
          ValueError: As `predict_quantile`; or if `level` is not between 0 and 1.
        """
        arguments.check_fraction(level, "level")
        return self.predict_quantile(x, [(1 - level) / 2, (1 + level) / 2], batch_size)

    def log_prob_given(self, x, y, batch_size: int | None = None) -> np.ndarray:
        """Returns log p(x | y) in nats, `(n,)`; -inf where it overflows. It takes a `latents.ClassMixture`.

        Args:
          x: As for `log_prob`.
          y: The class of each row, `(n,)`.
          batch_size: As for `log_prob`.
        """
        return classes.log_prob_given(self, x, y, batch_size)

    def sample(self, n: int = 1, seed=None, y=None) -> dict[str, tf.Tensor]:
        """Draws n pairs from p(x, y): `{"x": (n, *event_shape), "y": (n, ...)}`; "features" in place of "x" if there is
        an encoder.

        Args:
          n: The number of draws.
          seed: As for `DensityModel.sample`.
          y: If given, a class, or one for each draw, `(n,)`: x (or features) are drawn from p(x | y). It takes a
            `latents.ClassMixture`.
        """
        if y is None:
            return draws.draw(self.joint, n, seed)
        arguments.check_count(n, "n", least=0)
        latent, y = classes.given(self, n, y)
        p_x = tfd.TransformedDistribution(latent, self.flow)
        x = draws.draw(p_x, 1, seed)[0]
        return {"x" if self.encoder is None else "features": x, "y": tf.constant(y, tf.int32)}
