"""`LikelihoodRatio`: the density against that of a background model."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import arguments
from tfp_hybrid.models import DensityModel, Encoding, checks
from tfp_hybrid.uncertainty.scores.base import Score, check_model, model_config


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class LikelihoodRatio(Score):
    """log p_0(x) - log p(x) in nats, with p_0 a background model, so that what is common to all inputs cancels.

    p_0 has the architecture of the model's flow, and `fit` trains it on perturbed inputs: each entry is replaced with
    probability `mutation_rate`. Integers are replaced by one of their levels, all equally likely; other numbers are
    replaced by the same entry of another row. So p_0 learns the background, but little of what is specific to the data.

    Args:
      mutation_rate: The probability that an entry is replaced.
      epochs: The number of epochs of training the background model.
      batch_size: The batch size of training the background model.
      learning_rate: The learning rate of training the background model, with Adam.
      background: A trained background model, a `DensityModel` of the same inputs. If given, `fit` does not train one.
      **kwargs: Passed to `Score`.

    Raises:
      ValueError: If `mutation_rate` is not above 0 and at most 1, if `epochs` or `batch_size` is not a whole number
        >= 1, or if `background` is not a `DensityModel`.

    References:
      Ren, Liu, Fertig, Snoek, Poplin, DePristo, Dillon and Lakshminarayanan 2019, "Likelihood Ratios for
      Out-of-Distribution Detection", eq. 3 and section 3.
    """

    title = "likelihood ratio"
    needs_fit = True

    def __init__(
        self,
        mutation_rate: float = 0.2,
        epochs: int = 2,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        background: DensityModel | None = None,
        **kwargs,
    ):
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

    def learn(self, model: DensityModel, x, batch_size: int):
        if model.encoder is not None:
            raise ValueError("LikelihoodRatio: `model` has an encoder; wanted a model of x or of given features.")
        if model.flow_inputs:
            raise ValueError("LikelihoodRatio: the flow of `model` takes a condition; wanted a model of p(x).")
        if isinstance(x, list):  # of passes, which other scores shared
            x = np.concatenate([encoding.x for encoding in x])
        shape = model.distribution.event_shape
        if self.is_given:
            if self.background.distribution.event_shape != shape:
                raise ValueError(
                    "LikelihoodRatio: `background` is a model of inputs of shape "
                    f"{tuple(self.background.distribution.event_shape)}; wanted {tuple(shape)}, as the model has."
                )
            return
        background = BackgroundModel.from_config(
            DensityModel.get_config(model)
            | {"name": "background", "mutation_rate": self.mutation_rate}
            | {"trainable": True, "density_trainable": None}  # also where the model is frozen
        )
        background.compile(keras.optimizers.Adam(self.learning_rate))
        try:
            background.fit(x, batch_size=self.batch_size, epochs=self.epochs, verbose=1)
        except FloatingPointError as error:
            raise FloatingPointError(f"LikelihoodRatio: training the background model failed. {error}") from None
        self.background = background

    def of(self, encoding: Encoding) -> tf.Tensor:
        if self.background is None:
            raise ValueError("LikelihoodRatio is not fitted; call `fit(model, x)` first.")
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
    def from_config(cls, config: dict):
        config = dict(config)
        background, is_given = config.pop("background"), config.pop("is_given")
        score = cls(**config)
        score.background = background and keras.saving.deserialize_keras_object(background)
        score.is_given = is_given
        return score


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class BackgroundModel(DensityModel):
    """A density model that is adapted to and trained on inputs in which random entries are replaced.

    Args:
      distribution: As for `DensityModel`.
      mutation_rate: The probability that an entry is replaced; see `mutate`.
      **kwargs: Passed to `keras.Model`.
    """

    def __init__(self, distribution: tfp.distributions.TransformedDistribution, mutation_rate: float = 0.2, **kwargs):
        super().__init__(distribution, **kwargs)
        self.mutation_rate = mutation_rate

    def adapt(self, x, y=None):
        """As `DensityModel.adapt`, with random entries of x replaced."""
        super().adapt(self._mutated(checks.inputs(x, self, training=True)), y)

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        return super().train_step((self._mutated(x), y, sample_weight))

    def _mutated(self, x):
        return mutate(tf.convert_to_tensor(x), self.mutation_rate, self.quantization_levels)

    def get_config(self):
        return super().get_config() | {"mutation_rate": self.mutation_rate}


def mutate(x, rate: float, quantization_levels: int | None) -> tf.Tensor:
    """Replaces random entries of x.

    Args:
      x: `(n, ...)`.
      rate: The probability that an entry is replaced.
      quantization_levels: New entries are uniform integers 0 .. quantization_levels-1. If None, they are the same
        entries of other rows.
    """
    if quantization_levels is None:
        other = keras.ops.take_along_axis(x, tf.argsort(tf.random.uniform(tf.shape(x)), axis=0), axis=0)
    else:
        other = tf.cast(tf.random.uniform(tf.shape(x), 0, quantization_levels, tf.int32), x.dtype)
    return tf.where(tf.random.uniform(tf.shape(x)) < rate, other, x)
