"""Scores by p(x | y), of models whose latent distribution has classes."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.models.classes import log_probs_given, mixture_of
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import Score, check_classifier, classes_of

_register = keras.saving.register_keras_serializable(package="tfp_hybrid")


class _OfClass(Score):
    """A score by log p(x | y-hat) of the class y-hat that the model predicts."""

    def check_applies(self, model: DensityModel):
        """Raises ValueError unless the model is a classifier whose latent distribution is a `ClassMixture`."""
        check_classifier(model, type(self).__name__)
        mixture_of(model)

    @staticmethod
    def log_prob(encoding: Encoding) -> tuple[tf.Tensor, tf.Tensor]:
        """log p(x | y-hat) and y-hat, both `(n,)`."""
        classes = classes_of(encoding)
        return tf.gather(log_probs_given(encoding), classes, axis=1, batch_dims=1), classes


@_register
class ClassNegativeLogProb(_OfClass):
    """-log p(x | y-hat) in nats: how unlikely the input is among those of the class that the model predicts.

    A rare class is not penalized for being rare, as it is by -log p(x). It takes a `latents.ClassMixture`.
    """

    title = "-log p(x | y-hat)"

    def of(self, encoding: Encoding) -> tf.Tensor:
        return -self.log_prob(encoding)[0]


@_register
class ClassTypicality(_OfClass):
    """|-log p(x | y-hat) - H(y-hat)| in nats: as `Typicality`, within the class that the model predicts.

    H(k), the entropy of p(x | k), is the mean of -log p(x | k) over the held-out inputs passed to `fit` that the model
    takes for k; over all of them, if there are none of k. It takes a `latents.ClassMixture`.

    References:
      Nalisnick, Matsukawa, Teh and Lakshminarayanan 2019, "Detecting Out-of-Distribution Inputs to Deep Generative
      Models Using Typicality", eq. 5.
    """

    title = "typicality within y-hat"
    needs_fit = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.entropies = self.add_array("entropies")

    def learn(self, model: DensityModel, x, batch_size: int):
        self.check_applies(model)
        passes = [self.log_prob(encoding) for encoding in encode_batches(model, x, batch_size)]
        log_prob, classes = (np.concatenate(parts) for parts in zip(*passes, strict=True))
        if not np.isfinite(log_prob).all():
            raise ValueError(
                f"x has {np.sum(~np.isfinite(log_prob))} inputs whose log p(x | y-hat) is not finite; wanted held-out "
                "in-distribution inputs."
            )
        rows = [log_prob[classes == k] for k in range(mixture_of(model).num_classes)]
        self.entropies.assign([-(of_class if len(of_class) else log_prob).mean() for of_class in rows])

    def of(self, encoding: Encoding) -> tf.Tensor:
        log_prob, classes = self.log_prob(encoding)
        entropies = tf.cast(tf.ensure_shape(self.entropies, (None,)), log_prob.dtype)
        return tf.abs(-log_prob - tf.gather(entropies, classes))
