"""Density against that of a background model."""

import keras
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.models import DensityModel, checks
from tfp_hybrid.uncertainty.scores import Score, check_model, model_config


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class LikelihoodRatio(Score):
    """log p_0(x) - log p(x) in nats, with p_0 a background model: what is common to all inputs cancels.

    p_0 has the model's flow, and `fit` trains it on perturbed inputs: each entry is replaced with probability
    `mutation_rate`, by any of its levels with equal probability (integers), or by the same entry of another row
    (other numbers). So p_0 knows the background, but little of what is specific to the data.

    Args:
      mutation_rate: probability that an entry is replaced.
      epochs, batch_size, learning_rate: of the background model's training, by Adam.
      background: a trained background model, a `DensityModel` of the same inputs; then `fit` trains none.
      **kwargs: of `Score`.

    References:
      Ren, Liu, Fertig, Snoek, Poplin, DePristo, Dillon and Lakshminarayanan 2019, "Likelihood Ratios for
      Out-of-Distribution Detection", eq. 3 and section 3.
    """

    title = "likelihood ratio"
    needs_fit = True

    def __init__(self, mutation_rate=0.2, epochs=2, batch_size=128, learning_rate=1e-3, background=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 < mutation_rate <= 1:
            raise ValueError(f"LikelihoodRatio: `mutation_rate` is {mutation_rate}; wanted above 0 and at most 1.")
        arguments.check_count(epochs, "LikelihoodRatio: `epochs`")
        arguments.check_count(batch_size, "LikelihoodRatio: `batch_size`")
        if background is not None:
            check_model(background)
        self.mutation_rate, self.epochs = mutation_rate, epochs
        self.batch_size, self.learning_rate = batch_size, learning_rate
        self.background, self.is_given = background, background is not None

    def learn(self, model, x, batch_size):
        shape = model.distribution.event_shape
        if self.is_given:
            if self.background.distribution.event_shape != shape:
                raise ValueError(
                    f"LikelihoodRatio: `background` is of inputs {tuple(self.background.distribution.event_shape)}; "
                    f"wanted {tuple(shape)}."
                )
            return
        background = BackgroundModel.from_config(
            DensityModel.get_config(model) | {"name": "background", "mutation_rate": self.mutation_rate}
        )
        background.compile(keras.optimizers.Adam(self.learning_rate))
        try:
            background.fit(x, batch_size=self.batch_size, epochs=self.epochs, verbose=1)
        except FloatingPointError as error:
            raise FloatingPointError(f"LikelihoodRatio, the background model: {error}") from None
        self.background = background

    def of(self, encoding):
        if self.background is None:
            raise ValueError("LikelihoodRatio is not fitted; wanted `fit(model, x)` first.")
        return self.background.encode(encoding.x).log_prob - encoding.log_prob

    def get_config(self):
        background = self.background and model_config(self.background)
        return super().get_config() | {
            "mutation_rate": self.mutation_rate,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "background": background,
            "is_given": self.is_given,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        background, is_given = config.pop("background"), config.pop("is_given")
        score = cls(**config)
        score.background = background and keras.saving.deserialize_keras_object(background)
        score.is_given = is_given
        return score


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class BackgroundModel(DensityModel):
    """A density of inputs in which random entries are replaced: it is adapted to such inputs, and trained on them.

    Args:
      distribution: As for `DensityModel`.
      mutation_rate: The probability that an entry is replaced; see `mutate`.
      **kwargs: Passed to `keras.Model`.
    """

    def __init__(self, distribution, mutation_rate=0.2, **kwargs):
        super().__init__(distribution, **kwargs)
        self.mutation_rate = mutation_rate

    def adapt(self, x, y=None):
        super().adapt(self._mutated(checks.inputs(x, self, training=True)), y)

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        return super().train_step((self._mutated(x), y, sample_weight))

    def _mutated(self, x):
        return mutate(tf.convert_to_tensor(x), self.mutation_rate, self.quantization_levels)

    def get_config(self):
        return super().get_config() | {"mutation_rate": self.mutation_rate}


def mutate(x, rate: float, quantization_levels: int | None) -> tf.Tensor:
    """Replaces random entries of x by uniform integers 0 .. quantization_levels-1, or (None) by those of other rows."""
    if quantization_levels is None:
        other = keras.ops.take_along_axis(x, tf.argsort(tf.random.uniform(tf.shape(x)), axis=0), axis=0)
    else:
        other = tf.cast(tf.random.uniform(tf.shape(x), 0, quantization_levels, tf.int32), x.dtype)
    return tf.where(tf.random.uniform(tf.shape(x)) < rate, other, x)
