"""DensityModel: log p(x) as a Keras model."""

import functools
import math
import warnings

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import _compat
from tfp_hybrid.bijectors import ActNorm, one_pass
from tfp_hybrid.execution import graph_function, is_inlined, traced_plainly
from tfp_hybrid.flows import adapt_distribution, is_adapted, log_prob_in_one_pass, rows_to_adapt
from tfp_hybrid.interop import ModuleLayer
from tfp_hybrid.models import checks, condition, draws, feature_cache, feeding, labels, metrics, side_inputs
from tfp_hybrid.models.encoded_model import EncodedModel
from tfp_hybrid.models.encoding import Encoding, encode_batches
from tfp_hybrid.models.over_noise import log_probs
from tfp_hybrid.models.summary import print_flow
from tfp_hybrid.serialization import FORMAT, check_format, check_savable, deserialize, serialize
from tfp_hybrid.trusted import check_config

tfb = tfp.bijectors
tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class DensityModel(EncodedModel):
    """p(x) by a normalizing flow, trained by maximum likelihood.

    The loss is the mean over the batch of

        -log p(x) = -[ log p_z(f(x)) + log|det df/dx| ]                        (eq. 3 of the paper)

    in nats, plus the regularization losses of the layers. `fit(x)`, `evaluate(x)`, `predict(x)`, callbacks, `tf.data`,
    `save` and `export` work as for any Keras model; `predict` returns log p(x). `HybridModel` adds a head on z.

    Args:
      distribution: p(x), a `tfd.TransformedDistribution`, from `flow_distribution` or of TFP's own. Its base
        distribution is p_z, and the inverse of its bijector is f. (Keras' `training` argument reaches our bijectors.
        TFP bijectors take no such argument, so dropout inside them stays off.)
      encoder: A Keras model with one input and one output, such as a network of `keras.applications`, or None. With an
        encoder, the model is one of the density of its outputs, log p(features), but takes the encoder's inputs x
        everywhere, and is saved and exported with the encoder inside. The encoder is frozen: it runs in inference mode,
        and its weights stay as they are. If they have changed since the density was fitted, every method raises an
        error, except `encode` and a call of the model, which do not compare them, since they are for inner loops.
      **kwargs: Passed to `keras.Model`.

    Call arguments:
      x: `(n, *event_shape)`, or what the encoder takes. Returns log p(x) in nats, `(n,)`; -inf where it overflows. With
        an encoder, it is log p(features).

    Raises:
      ValueError: If `distribution` is not transformed, or has a batch shape or an unknown event shape; or if `encoder`
        is not a Keras model whose output fits `distribution`.

    Example:

    >>> density = DensityModel(flow_distribution(bijectors.RealNVP((2,))))
    >>> density.compile(keras.optimizers.Adam(1e-3))
    >>> history = density.fit(np.random.default_rng(0).normal(size=(64, 2)), verbose=0)
    >>> density.predict(np.zeros((3, 2)), verbose=0).shape
    (3,)

    References:
      Nalisnick, Matsukawa, Teh, Gorur and Lakshminarayanan 2019, "Hybrid Models with Deep and Invertible
      Features", section 2.2.
    """

    objective = "-log p(x)"
    head = missing_label = None

    def __init__(self, distribution, encoder=None, **kwargs):
        checks.check_distribution(distribution, type(self).__name__)
        # Inputs keep their precision under a mixed precision policy; the conditioners apply it themselves.
        super().__init__(distribution, encoder, autocast=False, **kwargs)
        with traced_plainly():  # the first call may build TFP's networks; after it, all weights exist
            log_prob_in_one_pass(distribution, **condition.example(distribution))
        self.density = ModuleLayer(distribution, name="density")
        self.density.build((None, *distribution.event_shape))
        self.log_prob_tracker = metrics.LogProb(f"log_prob_{self.density_of}")
        if self.quantization_levels is not None:
            self.bits_tracker = metrics.BitsPerDim()
        self.built = True  # not by `build`, after which Keras would let no subclass add a layer

    def __repr__(self):
        encoder = "" if self.encoder is None else f"log p(features), encoder={self.encoder.name!r}, "
        head = "" if self.head is None else f", head={type(self.head).__name__}"
        return f"<{type(self).__name__} {self.name!r}: {encoder}flow={self.flow!r}{head}>"

    def build(self, input_shape):
        """Does nothing: all weights exist from the start."""

    @property
    def distribution(self) -> tfd.TransformedDistribution:
        """p(x)."""
        return self.density.module

    @property
    def flow(self) -> tfb.Bijector:
        """The flow, a bijector from z to x."""
        return self.distribution.bijector

    @property
    def quantization_levels(self) -> int | None:
        """The number of integer levels of each entry of x, or None if x is continuous."""
        return checks.quantization_levels(self.distribution)

    def call(self, x, training=False):
        return self._encoding(x, training).log_prob

    def encode(self, x, training: bool = False) -> Encoding:
        """Passes one batch through the flow, once: x -> z, log p_z(z), log|det df/dx| and log p(x).

        Args:
          x: `(n, *input_shape)`, or a dict with side inputs. Checked first, unless it is traced or symbolic.
            `encode_batches` takes more inputs than memory holds activations for.
          training: Passed to the flow.

        Returns:
          An `Encoding`; gradients with respect to x flow through it.

        Raises:
          ValueError: If the model cannot take x.
        """
        return self.encode_checked(checks.tensor(x, self), training)

    def encode_checked(self, x, training: bool = False) -> Encoding:
        """Encodes a tensor without checking it, as a function of its own: what surrounds it does not change a bit."""
        return self._encoding(x, training, None if training or is_inlined() else self._compiled_pass)

    def _encoding(self, x, training, encode=None):
        given, x, side = side_inputs.condition_in(x), side_inputs.main(x), side_inputs.columns(self, x)
        return Encoding(self, x, *(encode or self._pass)(x, training, given), side=side, condition=given)

    def encode_batches(self, x, batch_size: int | None = None):
        """Yields an `Encoding` for each batch of x; see `encoding.encode_batches`."""
        return encode_batches(self, x, batch_size)

    @property
    def learned(self) -> list:
        """All weights, in an order that does not depend on what was frozen when they were made.

        An encoder is there by the checksum of its weights.
        """
        encoder = [] if self.encoder is None else [self.encoder_fingerprint]
        head = [] if self.head is None else self.head.weights
        return [*encoder, *self.density.ordered_variables(), *head]

    @functools.cached_property
    def _compiled_pass(self):
        return graph_function(self._pass)

    def _pass(self, x, training=False, given=None):
        """z, log p_z(z), the log-dets of the levels, and what the flow saw if there is an encoder."""
        distribution, h = self.distribution, self.flow_input(x, training)
        z, log_dets = one_pass.inverse_and_log_dets(self.flow, h, distribution.event_shape.rank, training, given)
        log_p_z = log_prob_in_one_pass(distribution.distribution, z, training, given)
        log_dets = tf.stack([tf.broadcast_to(part, tf.shape(log_p_z)) for part in log_dets], -1)
        return (z, log_p_z, log_dets, h)[: 3 if self.encoder is None else 4]

    def log_prob(self, x, batch_size: int | None = None, draws: int = 1) -> np.ndarray:
        """Returns log p(x) in nats, `(n,)`, computed in batches; -inf where it overflows.

        Args:
          x: An array `(n, *event_shape)`, or a `tf.data.Dataset` of batches of inputs or (inputs, ...).
          batch_size: Rows of a batch of an array; 256 if None.
          draws: k, for a flow that adds noise, such as a dequantization. With k > 1, it is the importance-weighted
            bound log 1/k sum p(x, noise) / q(noise), which in the mean rises to log P(x) with k.
        """
        return log_probs(self, x, batch_size, draws)

    def sample(self, n: int = 1, seed=None, condition=None):
        """Draws n inputs from p(x), or p(x | c), `(n, *event_shape)`; features, if there is an encoder.

        Args:
          n: The number of draws.
          seed: A whole number >= 0, or a pair of them, as TFP's stateless seeds: equal seeds give equal draws. None
            follows `keras.utils.set_random_seed`, and gives new draws at each call.
          condition: For a flow with a condition, that of all draws, or one for each, `(n, *condition_shape)`.
        """
        if condition is not None or self.flow_inputs:
            return draws.draw_given(self.distribution, n, seed, condition)
        return draws.draw(self.distribution, n, seed)

    def adapt(self, x, y=None):
        """Initializes data-dependent weights, such as ActNorm's, before any training.

        Args:
          x: A batch of inputs, `(n, *event_shape)`, or a dict with side inputs.
          y: Their responses, for a head that takes its scale from them; None leaves the head as it is.
        """
        feed = feeding.Feed(self, inputs_only=True, training=True)
        x, _, _ = feed.rows(x)
        if y is not None:
            feed.check_response()
            y = labels.known(labels.checked(y, self, side_inputs.count(x)))
        self._take_feature_names(feed.names)
        self.check_encoder()
        self._adapt_flow(x)
        self.remember_encoder()
        if y is not None and len(y):
            self.head.adapt(y)

    def _adapt_flow(self, x):
        """Adapts the flow to checked rows of x, or of cached features."""
        h = tf.convert_to_tensor(self.features_in_batches(x))
        adapt_distribution(self.distribution, h, side_inputs.condition_in(x))
        parts = self.distribution.submodules
        if not all(part.is_adapted() for part in parts if isinstance(part, ActNorm)):
            warnings.warn(
                "An ActNorm inside a stock bijector other than `tfb.Chain` was not initialized from data; put it "
                "outside, or standardize the data.",
                stacklevel=3,
            )

    def _adapt_if_new(self, x, y=None):
        """Adapts what has not been adapted, on as many of the rows of x as that needs."""
        if not is_adapted(self.distribution):
            self._adapt_flow(feature_cache.every(x, rows_to_adapt(self.distribution)))
        if self.head is not None and not self.head.is_adapted() and len(known := labels.known(y)):
            self.head.adapt(known)

    def _take_feature_names(self, names):
        """Sets `feature_names`, unless they are known."""
        if self.feature_names is None and names is not None:
            self.feature_names = names

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = self.encode_frozen(x)
        with tf.GradientTape() as tape:
            loss, y_pred = self._loss_and_prediction(x, y, sample_weight, training=True)
            scaled_loss = self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        gradients = tape.gradient(scaled_loss, weights)
        with _compat.gradients_freed_with_graph():
            self._apply(gradients, weights)
        return self._logs(x, y, y_pred, sample_weight, training=True)

    def _apply(self, gradients, weights):
        """Updates the weights; gradients are summed over replicas before they are clipped, as on one device."""
        if self.distribute_strategy.num_replicas_in_sync == 1:
            self.optimizer.apply(gradients, weights)
            return
        given = [gradient for gradient in gradients if gradient is not None]
        sums = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, given))
        _compat.take_summed_gradients(self.optimizer)
        self.optimizer.apply([None if one is None else next(sums) for one in gradients], weights)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        _, y_pred = self._loss_and_prediction(x, y, sample_weight, training=False)
        return self._logs(x, y, y_pred, sample_weight, training=False)

    def _row_losses(self, x, y, training: bool):
        """The loss of each row in nats, `(n,)`, and what `metrics` compare with y. Updates the metrics of its own."""
        encoding = self._encoding(x, training)
        return -self._track_log_prob(encoding), encoding.log_prob

    def _track_log_prob(self, encoding: Encoding) -> tf.Tensor:
        """log p(x), `(n,)`, NaN where it overflows; updates its metrics."""
        log_prob = encoding.log_p_z + encoding.log_det
        self.log_prob_tracker.update_state(log_prob)
        if self.quantization_levels is not None:
            nats_per_bit_dim = math.log(2) * self.distribution.event_shape.num_elements()
            self.bits_tracker.update_state(-log_prob / nats_per_bit_dim)
        return log_prob

    def summary(self, line_length=None, positions=None, print_fn=None, **kwargs):
        """As `keras.Model.summary`, and a table of the flow's steps with their shapes."""
        super().summary(line_length, positions, print_fn, **kwargs)
        print_flow(self, print_fn)

    def _loss_and_prediction(self, x, y, sample_weight, training):
        rows, y_pred = self._row_losses(x, y, training)
        if sample_weight is not None:
            rows *= tf.reshape(tf.cast(sample_weight, rows.dtype), [-1])
        penalty = sum((tf.cast(part, rows.dtype) for part in self.losses), tf.zeros((), rows.dtype))
        total, count = tf.reduce_sum(rows), tf.cast(tf.shape(rows)[0], rows.dtype)
        _compat.loss_tracker(self).update_state(tf.math.divide_no_nan(total, count) + penalty, sample_weight=count)
        replicas = self.distribute_strategy.num_replicas_in_sync
        return _share_of_global_mean(total, count, replicas) + penalty / replicas, y_pred

    def _logs(self, x, y, y_pred, sample_weight, training):
        return self.reducible(self.compute_metrics(x, y, y_pred, sample_weight))

    def save(self, filepath, *args, **kwargs):
        check_savable(self, filepath)
        self.check_encoder()
        super().save(filepath, *args, **kwargs)

    def get_config(self):
        return {
            "format": FORMAT,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "distribution": serialize(self.distribution, "distribution"),
            "feature_names": self.feature_names and list(self.feature_names),
            "trainable": self.trainable,
            "density_trainable": [variable.trainable for variable in self.density.ordered_variables()],
        } | self.encoder_config()

    @classmethod
    def from_config(cls, config):
        config = check_format(config)
        check_config(config)
        trainable, frozen = config.pop("trainable"), config.pop("density_trainable")
        feature_names = config.pop("feature_names", None)
        model = cls(**cls._deserialized(config))
        model.feature_names = feature_names
        if frozen is not None:  # None leaves what is trained as the constructors set it
            for variable, is_trainable in zip(model.density.ordered_variables(), frozen, strict=True):
                variable.trainable = is_trainable
        if not trainable:
            model.trainable = False
        return model

    @classmethod
    def _deserialized(cls, config: dict) -> dict:
        """The constructor's arguments from their configurations."""
        dtype = keras.dtype_policies.get(config["dtype"])
        if not isinstance(dtype, keras.DTypePolicy):
            raise ValueError(f"tfp_hybrid: the saved model has the dtype {config['dtype']!r}; wanted a dtype policy.")
        arguments = config | {"dtype": dtype, "distribution": deserialize(config["distribution"])}
        if "encoder" in config:
            arguments["encoder"] = keras.saving.deserialize_keras_object(config["encoder"])
        return arguments

    def compile_from_config(self, config):
        """As `keras.Model.compile_from_config`; raises ValueError for what a saved model may not name."""
        check_config(config)
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


def _share_of_global_mean(total, count, replicas):
    """This replica's part of the mean over the rows of the global batch; the parts of all replicas add up to it.

    If the last batch leaves a replica without rows, its part is 0, where a mean of its own would be NaN.
    """
    if replicas > 1:
        count = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, count)
    return total / count
