"""`Consistency`: changed copies of an input have the same class."""

import inspect
import json
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import arguments
from tfp_hybrid.bijectors.noise import fresh_seed
from tfp_hybrid.execution import graph_function
from tfp_hybrid.penalties.base import Batch, Penalty
from tfp_hybrid.serialization import deserialize, serialize

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Consistency(Penalty):
    """The divergence of p(y | strong(augment(x))) from what is known of y, for heads that classify.

        KL[ q(y) || p(y | strong(augment(x))) ]

    With it, a training step sees augment(x) in place of x: in eq. 5, and for q. If a row has a label, q is that label;
    otherwise q = p(y | augment(x))^(1/T), normalized, and without a gradient. With T < 1, q is surer than p(y|x), so
    that classes come to lie where there are few rows. It costs a second pass through the flow, without its log-det.

    With `mixing` = a > 0, p(y|x) is that of a mixture s x_i + (1 - s) x_j of the augmented copies of two rows of the
    batch, s ~ max(b, 1 - b), b ~ Beta(a, a), and the penalty is the mixture of their divergences,
    s KL[q_i || p] + (1 - s) KL[q_j || p]. So p(y|x) changes slowly between rows, too.

    Args:
      augment: What changes inputs as their class allows: a Keras layer without weights to train, such as
        `keras.layers.RandomTranslation`; or a function `(x, seed)` of a batch and a random seed of shape `(2,)`, such
        as `recipes.RandomAffine`. It runs in a graph, so it uses TensorFlow, and keeps the shape. Where the flow takes
        integers, a layer sees floats, and what it returns is rounded. To save the model, a function must be registered
        with Keras.
      strong: What changes them further; None for `augment` once more.
      temperature: T, in (0, 1].
      mixing: The parameter a >= 0; 0 mixes nothing.
      weight: The weight > 0 in the objective.
      **kwargs: The arguments of a Keras layer.

    Raises:
      ValueError: For arguments that are not as above. Later, from `HybridModel`: if its head does not classify, if it
        has a frozen encoder, which does not see augmented inputs, or if its inputs cannot be augmented so.

    References:
      Berthelot, Carlini, Goodfellow, Papernot, Oliver and Raffel 2019, "MixMatch: A Holistic Approach to
      Semi-Supervised Learning", eq. 7 (sharpening).
      Zhang, Cisse, Dauphin and Lopez-Paz 2018, "mixup: Beyond Empirical Risk Minimization" (mixing).
      Xie, Dai, Hovy, Luong and Le 2020, "Unsupervised Data Augmentation for Consistency Training", eq. 1.
    """

    def __init__(
        self,
        augment: Callable,
        strong: Callable | None = None,
        temperature: float = 0.5,
        mixing: float = 0.0,
        weight: float = 1.0,
        **kwargs,
    ):
        _check_augmentation(augment, "augment")
        if strong is not None:
            _check_augmentation(strong, "strong")
        arguments.check_number(temperature, "temperature", 0, open=True)
        if temperature > 1:
            raise ValueError(f"temperature is {temperature!r}; wanted at most 1.")
        arguments.check_number(mixing, "mixing", 0)
        super().__init__(weight, **kwargs)
        self.augment, self.strong, self.temperature, self.mixing = augment, strong, float(temperature), float(mixing)
        self.levels = None  # of integer inputs
        self.supports_jit = all(getattr(one, "supports_jit", True) for one in (augment, strong))
        self.random_state = self.add_weight(
            (2,), _new_state, "int64", trainable=False, aggregation="only_first_replica", name="random_state"
        )
        self.built = True

    @property
    def settings(self) -> dict:
        changes = {name: _named(getattr(self, name)) for name in ("augment", "strong")}
        return super().settings | {"temperature": self.temperature, "mixing": self.mixing} | changes

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
        spec = model.inputs_spec
        self.levels = spec.levels
        x = tf.TensorSpec((None, *spec.shape), spec.stored_dtype(spec.dtype))
        for argument in ("augment", "strong") if self.strong is not None else ("augment",):
            self._check_applies(argument, x)

    def _check_applies(self, argument, x):
        change = getattr(self, argument)
        try:
            graph_function(lambda x: self._applied(change, x, tf.zeros(2, tf.int64))).get_concrete_function(x)
        except Exception as error:  # whatever a user's function raises
            raise ValueError(
                f"Consistency: `{argument}` is {change!r}, which cannot change inputs of shape {('n', *x.shape[1:])} "
                f"and dtype {x.dtype.name} in a graph: {str(error).strip()}"
            ) from error
        if getattr(change, "trainable_variables", ()):
            raise ValueError(
                f"Consistency: `{argument}` is {change!r}, which has weights that training would make easy to "
                "see through; wanted a layer without, or with `trainable = False`."
            )

    def inputs(self, x) -> tf.Tensor:
        return self._changed(self.augment, x)

    def rows(self, batch: Batch) -> tf.Tensor:
        head, p_y = batch.head, batch.head.at_point(batch.features)
        copies = self._changed(self.augment if self.strong is None else self.strong, batch.x)
        wanted = tf.stop_gradient(_logits(p_y)) / self.temperature, batch.y, batch.known
        if not self.mixing:
            return _divergence(head, batch.features_of(copies), *wanted)
        share, partners = self._pairs(tf.shape(copies)[0])
        copies = tf.cast(copies, share.dtype)
        shares = tf.reshape(share, [-1] + [1] * (copies.shape.rank - 1))
        features = batch.features_of(shares * copies + (1 - shares) * tf.gather(copies, partners))
        of_partners = [None if part is None else tf.gather(part, partners) for part in wanted]
        own, others = _divergence(head, features, *wanted), _divergence(head, features, *of_partners)
        share = tf.cast(share, own.dtype)
        return share * own + (1 - share) * others

    def _pairs(self, rows):
        """The share s of each row, and which row its partner is."""
        of_share, of_order = tf.unstack(tf.random.split(fresh_seed(self.random_state.value)))
        share = tfd.Beta(self.mixing, self.mixing).sample(rows, seed=tf.cast(of_share, tf.int32))
        return tf.maximum(share, 1 - share), tf.argsort(tf.random.stateless_uniform([rows], of_order))

    def _changed(self, change, x):
        is_layer = isinstance(change, keras.layers.Layer)
        return self._applied(change, x, None if is_layer else fresh_seed(self.random_state.value))

    def _applied(self, change, x, seed):
        if isinstance(change, keras.layers.Layer):
            changed = change(x if x.dtype.is_floating else tf.cast(x, keras.config.floatx()), training=True)
        else:
            changed = change(x, seed)
        changed = tf.convert_to_tensor(changed)
        if self.levels is not None and changed.dtype.is_floating:
            changed = tf.clip_by_value(tf.round(changed), 0, self.levels - 1)
        return tf.ensure_shape(tf.cast(changed, x.dtype), x.shape)

    def get_config(self) -> dict:
        config = super().get_config() | {"temperature": self.temperature, "mixing": self.mixing}
        changes = {"augment": self.augment} | ({} if self.strong is None else {"strong": self.strong})
        return config | {name: serialize(change, name) for name, change in changes.items()}

    @classmethod
    def from_config(cls, config: dict):
        parts = {name: deserialize(config[name]) for name in ("augment", "strong") if name in config}
        return cls(**config | parts)


def _logits(p_y):
    return getattr(p_y, "distribution", p_y).logits_parameter()


def _divergence(head, features, logits, y, known):
    """KL[q || p(y | features)], where q is the label, or has the logits if the label is not known."""
    nll = -head.training_log_prob(features, y)
    if known is None:
        return nll
    p_y = head.at_point(features)
    q = getattr(p_y, "distribution", p_y).copy(logits=logits)
    q = tfd.Independent(q, p_y.reinterpreted_batch_ndims) if isinstance(p_y, tfd.Independent) else q
    return tf.where(known, nll, tfd.kl_divergence(q, p_y))


def _new_state(shape, dtype):
    return tf.constant([np.random.randint(2**31), 0], dtype)


_OF_ONE_OBJECT = ("name", "seed")  # which two layers of the same arguments do not share


def _named(change):
    """A description of a change, for `settings`."""
    if change is None:
        return None
    try:
        return _without(json.loads(json.dumps(serialize(change, "change"))))
    except TypeError:  # a function that is not registered
        return getattr(change, "__qualname__", type(change).__qualname__)


def _without(config):
    if isinstance(config, dict):
        return {key: _without(value) for key, value in config.items() if key not in _OF_ONE_OBJECT}
    return [_without(value) for value in config] if isinstance(config, list) else config


def _check_augmentation(augment, argument):
    wanted = "wanted a Keras layer, or a function `(x, seed)`"
    if not callable(augment) or (inspect.isclass(augment) and issubclass(augment, keras.layers.Layer)):
        raise ValueError(f"{argument} is {augment!r}; {wanted}.")
    if not isinstance(augment, keras.layers.Layer):
        try:
            inspect.signature(augment).bind(None, None)
        except TypeError as error:
            raise ValueError(f"{argument} is {augment!r}; {wanted} ({error}).") from None
