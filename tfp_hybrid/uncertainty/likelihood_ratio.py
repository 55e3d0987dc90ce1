"""Density against that of a background model."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments, checks, feeding
from tfp_hybrid.hybrid import HybridModel
from tfp_hybrid.inference import forward
from tfp_hybrid.uncertainty.scores import Score, check_model, model_config


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class LikelihoodRatio(Score):
    """log p_0(x) - log p(x) in nats, with p_0 a background model: what is common to all inputs cancels.

    p_0 has the model's architecture, and `fit` trains it on perturbed inputs: each entry is replaced with probability
    `mutation_rate`, by any of its levels with equal probability (integers), or by the same entry of another row
    (other numbers). So p_0 knows the background, but little of what is specific to the data.

    Args:
      mutation_rate: probability that an entry is replaced.
      epochs, batch_size, learning_rate: of the background model's training, by Adam.
      background: a trained background model, a `HybridModel` of the same inputs; then `fit` trains none.
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
        feed = feeding.Feed(model, labelled=False, training=True)
        data = feeding.in_batches(feed.rows(x), self.batch_size, shuffle=True) if feeding.is_array(x) else x
        background = HybridModel.from_config(model.get_config())
        levels = checks.integer_levels(model.distribution)
        optimizer = keras.optimizers.Adam(self.learning_rate)
        weights = background.density.trainable_weights
        optimizer.build(weights)

        @tf.function(reduce_retracing=True)
        def step(rows):
            rows = mutate(rows, self.mutation_rate, levels)
            with tf.GradientTape() as tape:
                loss = -tf.reduce_mean(background.latent_and_log_prob(rows, training=True)[1])
            optimizer.apply(tape.gradient(loss, weights), weights)
            return loss

        for epoch in range(self.epochs):
            progress = keras.utils.Progbar(None, stateful_metrics=["-log p(x)"])
            for number, (rows,) in enumerate(feed.iterate(data)):
                if epoch == number == 0:
                    background.adapt(mutate(rows, self.mutation_rate, levels))
                loss = float(step(rows))
                if not np.isfinite(loss):
                    raise FloatingPointError(
                        f"LikelihoodRatio: the background model's loss became {loss}; lower `learning_rate`, which "
                        f"is {self.learning_rate}."
                    )
                progress.update(number + 1, [("-log p(x)", loss)])
            progress.update(number + 1, [("-log p(x)", loss)], finalize=True)
        self.background = background

    def of(self, of_model):
        if self.background is None:
            raise ValueError("LikelihoodRatio is not fitted; wanted `fit(model, x)` first.")
        return forward(self.background, of_model.x).log_prob - of_model.log_prob

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


def mutate(x, rate: float, levels: int | None) -> tf.Tensor:
    """x with random entries replaced: by uniform integers 0 .. levels-1, or by those of other rows (`levels` None)."""
    if levels is None:
        other = keras.ops.take_along_axis(x, tf.argsort(tf.random.uniform(tf.shape(x)), axis=0), axis=0)
    else:
        other = tf.cast(tf.random.uniform(tf.shape(x), 0, levels, tf.int32), x.dtype)
    return tf.where(tf.random.uniform(tf.shape(x)) < rate, other, x)
