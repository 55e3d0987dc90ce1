"""`Consistency`: changed copies of an input have the same class."""

import inspect
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.bijectors.noise import fresh_seed
from tfp_hybrid.penalties.base import Batch, Penalty
from tfp_hybrid.serialization import deserialize, serialize


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Consistency(Penalty):
    """-log p(y | strong(augment(x))) where y is known, or sure, for heads that classify.

    With it, a training step sees augment(x) in place of x: in eq. 5, and as the input whose class is wanted. If a row
    has no label, y is the most probable class of augment(x), where its probability is above a threshold; other such
    rows add nothing. So few labels spread over the rows that look alike but for what `augment` and `strong` change, at
    first over those most like the labelled ones. It costs a second pass through the flow, without its log-det.

    Args:
      augment: What changes inputs as their class allows: a Keras layer, such as `keras.layers.RandomTranslation`; or a
        function `(x, seed)` of a batch and a random seed of shape `(2,)`, such as `recipes.RandomAffine`. To save the
        model, a function must be registered with Keras.
      strong: What changes them further; None for `augment` once more.
      threshold: The probability above which a class is taken for the label, in [0, 1).
      weight: The weight > 0 in the objective.
      **kwargs: The arguments of a Keras layer.

    Raises:
      ValueError: For arguments that are not as above. Later, from `HybridModel`: if its head does not classify, or if
        it has a frozen encoder, which does not see augmented inputs.

    References:
      Sohn et al. 2020, "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", eq. 4.
    """

    def __init__(
        self,
        augment: Callable,
        strong: Callable | None = None,
        threshold: float = 0.95,
        weight: float = 1.0,
        **kwargs,
    ):
        _check_augmentation(augment, "augment")
        if strong is not None:
            _check_augmentation(strong, "strong")
        arguments.check_number(threshold, "threshold", 0)
        if threshold >= 1:
            raise ValueError(f"threshold is {threshold!r}; wanted a probability below 1.")
        super().__init__(weight, **kwargs)
        self.augment, self.strong, self.threshold = augment, strong, float(threshold)
        self.supports_jit = all(getattr(one, "supports_jit", True) for one in (augment, strong))
        self.random_state = self.add_weight(
            (2,), _new_state, "int64", trainable=False, aggregation="only_first_replica", name="random_state"
        )
        self.built = True

    def check(self, model: keras.Model):
        if not model.head.classifies:
            raise ValueError(
                f"Consistency: the head is {type(model.head).__name__}; wanted one of classes, such as "
                "`heads.Categorical`."
            )
        if model.has_frozen_encoder:
            raise ValueError(
                "Consistency: the model has a frozen encoder, which does not see augmented inputs; wanted "
                "`train_encoder=True`, or no encoder."
            )

    def inputs(self, x) -> tf.Tensor:
        return self._changed(self.augment, x)

    def rows(self, batch: Batch) -> tf.Tensor:
        features = batch.features_of(self._changed(self.strong or self.augment, batch.x))
        if batch.known is None:
            return -batch.head.training_log_prob(features, batch.y)
        y, sure = _most_probable(batch)
        known = tf.reshape(batch.known, [-1] + [1] * (y.shape.rank - 1))
        nll = -batch.head.training_log_prob(features, tf.where(known, batch.y, tf.cast(y, batch.y.dtype)))
        return tf.where(batch.known | (sure > self.threshold), nll, 0)

    def _changed(self, augment, x):
        if isinstance(augment, keras.layers.Layer):
            return tf.ensure_shape(augment(x, training=True), x.shape)
        return tf.ensure_shape(augment(x, fresh_seed(self.random_state.value)), x.shape)

    def get_config(self) -> dict:
        config = super().get_config() | {"augment": serialize(self.augment, "augment"), "threshold": self.threshold}
        return config if self.strong is None else config | {"strong": serialize(self.strong, "strong")}

    @classmethod
    def from_config(cls, config: dict):
        parts = {name: deserialize(config[name]) for name in ("augment", "strong") if name in config}
        return cls(**config | parts)


def _most_probable(batch):
    """The most probable class of each row, shaped as a label, and its probability, `(n,)`."""
    mean = tf.stop_gradient(batch.mean)
    if batch.head.integer_labels:
        return tf.argmax(mean, -1), tf.reduce_max(mean, -1)
    # Bernoulli, of one label or several: of all of them together.
    of_each = tf.reshape(tf.maximum(mean, 1 - mean), [tf.shape(mean)[0], -1])
    return tf.round(mean), tf.reduce_prod(of_each, -1)


def _new_state(shape, dtype):
    return tf.constant([np.random.randint(2**31), 0], dtype)


def _check_augmentation(augment, argument):
    wanted = "wanted a Keras layer, or a function `(x, seed)`"
    if not callable(augment):
        raise ValueError(f"{argument} is {augment!r}; {wanted}.")
    if not isinstance(augment, keras.layers.Layer):
        try:
            inspect.signature(augment).bind(None, None)
        except TypeError as error:
            raise ValueError(f"{argument} is {augment!r}; {wanted} ({error}).") from None
