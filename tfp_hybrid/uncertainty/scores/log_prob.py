"""Scores by log p(x)."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import Score, level_of
from tfp_hybrid.uncertainty.scores.response import response_statistic

_register = keras.saving.register_keras_serializable(package="tfp_hybrid")


@_register
class NegativeLogProb(Score):
    """-log p(x) in nats: how unlikely the input is.

    References:
      Bishop 1994, "Novelty detection and neural network validation"; Nalisnick et al. 2019, section 3.1.
    """

    title = "-log p(x)"

    def of(self, encoding: Encoding) -> tf.Tensor:
        return -encoding.log_prob


@_register
class Typicality(Score):
    """|-log p(x) - H| in nats: how far -log p(x) is from its usual value, in either direction.

    H, the entropy of p(x), is the mean of -log p(x) over the held-out inputs passed to `fit`. Inputs with too *high* a
    density, such as a blank image, also have a high score. `drift.typicality_test` tests whole batches.

    References:
      Nalisnick, Matsukawa, Teh and Lakshminarayanan 2019, "Detecting Out-of-Distribution Inputs to Deep Generative
      Models Using Typicality", eq. 5.
    """

    title = "typicality"
    needs_fit = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.entropy = self.add_weight((), "zeros", "float64", trainable=False, autocast=False, name="entropy")

    def learn(self, model: DensityModel, x, batch_size: int):
        log_prob = np.concatenate([batch.log_prob for batch in encode_batches(model, x, batch_size)])
        if not np.isfinite(log_prob).all():
            raise ValueError(
                f"x has {np.sum(~np.isfinite(log_prob))} inputs whose log p(x) is not finite; wanted held-out "
                "in-distribution inputs."
            )
        self.entropy.assign(-log_prob.mean(dtype="float64"))

    def of(self, encoding: Encoding) -> tf.Tensor:
        return tf.abs(-encoding.log_prob - tf.cast(self.entropy, encoding.log_prob.dtype))


@_register
class JointNegativeLogProb(Score):
    """-log p(x, y-hat) in nats: -log p(x) - log p(y-hat|x) at the most probable response y-hat.

    References:
      Nalisnick et al. 2019, section 2.3, eq. 4.
    """

    title = "-log p(x, y-hat)"

    def of(self, encoding: Encoding) -> tf.Tensor:
        mode = response_statistic(encoding, "mode")
        return -encoding.log_prob - tf.cast(encoding.p_y.log_prob(mode), encoding.log_prob.dtype)


@_register
class LevelLogProb(Score):
    """-log p of one level of a multi-scale flow in nats.

        log p(x) = sum_l [ log p_z(z_l) + log|det J_l| ]

    where level l ends in the part z_l of z and adds log|det J_l|. The first levels see single pixels, the last ones see
    what is left of the image as a whole.

    Args:
      level: The level, counted from the data side, or from the end if negative.
      **kwargs: Passed to `Score`.

    Raises:
      ValueError: When the score is used, if the flow has no such level, or if p_z is not factorized.

    References:
      Schirrmeister, Zhou, Ball and Zhang 2020, "Understanding Anomaly Detection with Deep Invertible Networks through
      Hierarchies of Distributions and Features", section 3.
    """

    def __init__(self, level: int = -1, **kwargs):
        super().__init__(**kwargs)
        self.level = level
        self.title = f"-log p of level {level}"

    def of(self, encoding: Encoding) -> tf.Tensor:
        return -level_of(tf.unstack(encoding.level_log_probs, axis=-1), self)

    def get_config(self) -> dict:
        return super().get_config() | {"level": self.level}
