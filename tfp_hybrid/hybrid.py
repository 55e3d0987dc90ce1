"""HybridModel: log p(y|x) + lambda log p(x) as a Keras model."""

import inspect
import math
import warnings

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import checks
from tfp_hybrid.bijectors import ActNorm
from tfp_hybrid.bijectors.base import inverse_and_log_det
from tfp_hybrid.callbacks import StopOnNonFinite
from tfp_hybrid.flows import adapt_distribution, is_adapted, log_prob_in_one_pass
from tfp_hybrid.heads import Head
from tfp_hybrid.inference import forward_batches
from tfp_hybrid.interop import ModuleLayer
from tfp_hybrid.pipeline import batches
from tfp_hybrid.serialization import check_savable, deserialize, serialize
from tfp_hybrid.trusted import check_config

tfd = tfp.distributions
WEIGHTINGS = ("density", "jacobian")


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class HybridModel(keras.Model):
    """A deep invertible generalized linear model: p(x) by a flow, p(y|x) by a GLM on its latent z = f(x).

    Trained on the mean over the batch of

        -[ log p(y | x) + lambda * log p(x) ]                                  (eq. 5 of the paper)

    plus the regularization losses of the layers; with one pass through the flow a step. Every value is in nats.

    Args:
      distribution: p(x), a `tfd.TransformedDistribution`: from `flow_distribution`, or any of TFP's. Its base
        distribution is p_z, the inverse of its bijector f. (Keras' `training` reaches our bijectors; TFP has no such
        notion, so that dropout inside a stock one stays off.)
      head: the GLM, a layer of `tfp_hybrid.heads`.
      generative_weight: lambda, on log p(x) in nats: a number >= 0, or a schedule, a callable of the optimizer's
        step (such as a `keras.optimizers.schedules.LearningRateSchedule`). 0 is the paper's discriminative
        baseline: then training does not compute log p(x). The paper's lambda per dimension is `lambda / D` here.
      weighting: "density", eq. 5, or "jacobian", the paper's variant in which only the Jacobian is down-weighted:
        log p(y|x) + log p_z(f(x)) + lambda log|det df/dx|. With a Gaussian latent of variance 1/lambda it has the
        gradients of eq. 5 with a standard normal one.
      **kwargs: of `keras.Model`.

    Call arguments:
      x: `(n, *event_shape)`. Returns the predictive mean E[y|x]: class probabilities `(n, K)`, or `(n, ...)`.

    Raises:
      ValueError: if `distribution` is not transformed, has a batch shape or an unknown event shape, if `head` is
        no `Head`, or if `generative_weight` is negative or not finite.

    Example:

    >>> p_x = flow_distribution(bijectors.RealNVP((2,)))
    >>> model = HybridModel(p_x, heads.Categorical(3), generative_weight=0.1)
    >>> model.compile(keras.optimizers.Adam(1e-3))

    References:
      Nalisnick, Matsukawa, Teh, Gorur and Lakshminarayanan 2019, "Hybrid Models with Deep and Invertible
      Features", ICML.
    """

    def __init__(self, distribution, head, generative_weight=1.0, weighting="density", **kwargs):
        _check_arguments(distribution, head, generative_weight, weighting)
        # Inputs keep their precision under a mixed precision policy; the conditioners apply it themselves.
        super().__init__(autocast=False, **kwargs)
        event_shape = distribution.event_shape
        # TFP's networks may build on their first call. After it, all weights exist.
        distribution.log_prob(tf.zeros((1, *event_shape), distribution.dtype))
        self.density = ModuleLayer(distribution, name="density")
        self.head = head
        if not head.built:
            head.build((None, distribution.distribution.event_shape.num_elements()))
            head.built = True
        self.generative_weight = generative_weight
        self.weighting = weighting
        self._bits = checks.integer_levels(distribution) is not None
        self.nll_tracker = keras.metrics.Mean(name="nll")
        self.head_metric = head.metric()
        self.log_prob_tracker = keras.metrics.Mean(name="log_prob_x")
        if self._bits:
            self.bits_tracker = keras.metrics.Mean(name="bits_per_dim")
        # One call, so that Keras knows the input's shape; nothing is left to build.
        self(tf.zeros((1, *event_shape), distribution.dtype))

    def build(self, input_shape):
        """Nothing: all weights exist from the start."""

    @property
    def distribution(self) -> tfd.TransformedDistribution:
        """p(x)."""
        return self.density.module

    @property
    def flow(self):
        """The flow, a `tfb.Bijector` from z to x."""
        return self.distribution.bijector

    @property
    def joint(self) -> tfd.JointDistributionNamed:
        """p(x, y) = p(x) p(y|x), over `{"x": ..., "y": ...}`."""
        return tfd.JointDistributionNamed(
            {"x": self.distribution, "y": lambda x: self.head(self._features(self.flow.inverse(x)))}
        )

    def call(self, x, training=False):
        return self.head.mean(self.head(self._features(self._invert(x, training)[0])))

    def latent_and_log_prob(self, x, training=False):
        """z = f(x) and log p(x), in one pass.

        Args:
          x: `(n, *event_shape)`.
          training: passed to the flow.

        Returns:
          z, `(n, *latent_shape)`, and log p(x) in nats, `(n,)`.
        """
        z, log_det = self._invert(x, training)
        return z, log_prob_in_one_pass(self.distribution.distribution, z, training) + log_det

    def features_and_log_prob(self, x):
        """z flattened, what the head sees, `(n, d)`, and log p(x) in nats, `(n,)`; compiled at the first call."""
        if not hasattr(self, "_compiled_features_and_log_prob"):

            def features_and_log_prob(x):
                z, log_prob = self.latent_and_log_prob(x)
                return self._features(z), tf.broadcast_to(log_prob, tf.shape(x)[:1])

            self._compiled_features_and_log_prob = tf.function(features_and_log_prob, reduce_retracing=True)
        return self._compiled_features_and_log_prob(x)

    def log_prob(self, x, batch_size: int = 256) -> np.ndarray:
        """log p(x) in nats, `(n,)`, in batches; -inf where it overflows. x: an array, or a data set of batches."""
        return np.concatenate([part.log_prob for part in forward_batches(self, x, batch_size)])

    def predict_distribution(self, x, batch_size: int = 256):
        """p(y|x) and log p(x), from one pass.

        Args:
          x: `(n, *event_shape)`, an array; or a `tf.data.Dataset` of batches of inputs or (inputs, ...).
          batch_size: rows at a time.

        Returns:
          A `tfd.Distribution` with batch shape `(n,)`, and log p(x) in nats, a numpy array `(n,)`; -inf for inputs so
          far out that it overflows.
        """
        z, log_prob = zip(*((part.z, part.log_prob) for part in forward_batches(self, x, batch_size)), strict=True)
        return self.head(tf.concat(z, 0)), np.concatenate(log_prob)

    def sample(self, n: int = 1, seed=None) -> dict[str, tf.Tensor]:
        """n draws from p(x, y): `{"x": (n, *event_shape), "y": (n, ...)}`."""
        return self.joint.sample(n, seed=seed)

    def adapt(self, x, y=None):
        """Initializes data-dependent weights before any training: ActNorm's from x, a Normal head's from y.

        Args:
          x: a batch of inputs, `(n, *event_shape)`.
          y: their responses, or None to leave the head as it is.
        """
        checks.check_inputs(x, self.distribution)
        adapt_distribution(self.distribution, self._in_flow_dtype(x))
        parts = self.distribution.submodules
        if not all(part.is_adapted() for part in parts if isinstance(part, ActNorm)):
            warnings.warn(
                "An ActNorm inside a stock bijector other than `tfb.Chain` was not initialized from data; put it "
                "outside, or standardize the data.",
                stacklevel=2,
            )
        if y is not None:
            checks.check_labels(y, self.head, len(x))
            self.head.adapt(y)

    def fit(self, *args, **kwargs):
        """As `keras.Model.fit`; checks the data first, and adapts the flow to it if nobody has.

        `sample_weight` and `class_weight` weigh a row's whole objective, log p(x) included. Arrays are checked row by
        row, data sets by their first batch (a Normal head takes the scale of y from it). Training stops with an error
        at the first loss or weight that is not finite; checkpoints written before (`keras.callbacks.ModelCheckpoint`)
        stay as they are.

        Raises:
          ValueError: for data that the model cannot be trained on.
          FloatingPointError: if the loss becomes NaN or infinite.
        """
        bound = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs)
        arguments = bound.arguments
        if isinstance(arguments.get("y"), (list, tuple)):
            arguments["y"] = np.asarray(arguments["y"])
        self._assert_compile_called("fit")
        self._check_loss()
        (x_batch, y_batch), arguments["x"] = checks.check_data(arguments.get("x"), arguments.get("y"), self)
        if arguments.get("validation_data") is not None:
            x_val, y_val, weight_val = keras.utils.unpack_x_y_sample_weight(arguments["validation_data"])
            _, x_val = checks.check_data(x_val, y_val, self, "_val")
            if y_val is None:  # a generator gets back the item that was looked at
                arguments["validation_data"] = x_val
            elif checks.is_array(x_val):
                size = arguments.get("validation_batch_size") or arguments.get("batch_size")
                arguments["validation_data"] = _batches_of(x_val, y_val, weight_val, size)
        if checks.is_array(arguments["x"]) and not arguments.get("validation_split"):
            options = arguments.pop("batch_size", None), arguments.pop("shuffle", True)
            arguments["x"] = _batches_of(x_batch, y_batch, arguments.pop("sample_weight", None), *options)
            arguments["shuffle"] = False  # done
            del arguments["y"]
        some = slice(None, None, max(1, len(x_batch) // 1024))
        if not is_adapted(self.distribution):
            self.adapt(x_batch[some])
        if not self.head.is_adapted():
            self.head.adapt(y_batch)
        guard = StopOnNonFinite()
        callbacks = arguments.get("callbacks") or []
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(guard)
        else:
            arguments["callbacks"] = [guard, *(callbacks if isinstance(callbacks, list) else [callbacks])]
        return super().fit(*bound.args[1:], **bound.kwargs)

    def evaluate(self, *args, **kwargs):
        bound = inspect.signature(keras.Model.evaluate).bind(self, *args, **kwargs)
        if not bound.kwargs.get("_use_cached_eval_dataset"):
            self._check_loss()
            arguments = bound.arguments
            _, arguments["x"] = checks.check_data(arguments.get("x"), arguments.get("y"), self)
            if checks.is_array(arguments["x"]):
                columns = (arguments["x"], arguments.pop("y"), arguments.pop("sample_weight", None))
                arguments["x"] = _batches_of(*columns, arguments.pop("batch_size", None))
        return super().evaluate(*bound.args[1:], **bound.kwargs)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        if isinstance(x, np.ndarray) and len(x):
            x, batch_size = batches((x,), batch_size), None
        return super().predict(x, batch_size, verbose, steps, callbacks)

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss, y_pred = self._loss_and_prediction(x, y, sample_weight, training=True)
            scaled_loss = self.optimizer.scale_loss(
                loss / tf.cast(self.distribute_strategy.num_replicas_in_sync, loss.dtype)
            )
        weights = self.trainable_weights
        self.optimizer.apply(tape.gradient(scaled_loss, weights), weights)
        return self._logs(x, y, y_pred, sample_weight, training=True)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        _, y_pred = self._loss_and_prediction(x, y, sample_weight, training=False)
        return self._logs(x, y, y_pred, sample_weight, training=False)

    def stablehlo(self, x, y) -> str:
        """StableHLO of the XLA-compiled training step on batches shaped as x and y.

        Its arguments are x, y, and then the variables; its results are the loss and the updated variables.
        """
        self._assert_compile_called("stablehlo")
        x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
        self.optimizer.build(self.trainable_variables)
        self._logs(x, y, self(x), None, training=False)  # builds the metrics
        self.reset_metrics()

        @tf.function(jit_compile=True, autograph=False)
        def step(x, y):
            return self.train_step((x, y))["loss"]

        return step.experimental_get_compiler_ir(x, y)("stablehlo")

    def save(self, filepath, *args, **kwargs):
        check_savable(self, filepath)
        super().save(filepath, *args, **kwargs)

    def get_config(self):
        weight = self.generative_weight
        return {
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "distribution": serialize(self.distribution, "distribution"),
            "head": keras.saving.serialize_keras_object(self.head),
            "generative_weight": serialize(weight, "generative_weight") if callable(weight) else float(weight),
            "weighting": self.weighting,
            "trainable": self.trainable,
            "density_trainable": [weight.trainable for weight in self.density.weights],
        }

    @classmethod
    def from_config(cls, config):
        check_config(config)
        config = dict(config)
        trainable, frozen = config.pop("trainable"), config.pop("density_trainable")
        config["distribution"] = deserialize(config["distribution"])
        config["head"] = keras.saving.deserialize_keras_object(config["head"])
        config["generative_weight"] = deserialize(config["generative_weight"])
        model = cls(**config)
        for weight, weight_trainable in zip(model.density.weights, frozen, strict=True):
            weight.trainable = weight_trainable
        if not trainable:
            model.trainable = False
        return model

    def compile_from_config(self, config):
        check_config(config)
        super().compile_from_config(config)

    def _invert(self, x, training):
        event_ndims = self.distribution.event_shape.rank
        return inverse_and_log_det(self.flow, self._in_flow_dtype(x), event_ndims, training)

    def _in_flow_dtype(self, x):
        """Integers stay as they are for the dequantization; everything else gets the flow's dtype."""
        x = tf.convert_to_tensor(x)
        return x if self._bits else tf.cast(x, self.distribution.dtype)

    def _features(self, z):
        """z with its event flattened: what the head sees."""
        rank = self.distribution.distribution.event_shape.rank
        if rank == 1:
            return z
        size = self.distribution.distribution.event_shape.num_elements()
        return tf.reshape(z, tf.concat([tf.shape(z)[: tf.rank(z) - rank], [size]], 0))

    def _loss_and_prediction(self, x, y, sample_weight, training):
        z, log_det = self._invert(x, training)
        p_y = self.head(self._features(z))
        nll = -p_y.log_prob(self.head.prepare_labels(y))
        self.nll_tracker.update_state(nll)
        weight = self.generative_weight
        rows = nll
        if not (training and self._discriminative):
            log_prior = tf.cast(log_prob_in_one_pass(self.distribution.distribution, z, training), nll.dtype)
            log_det = tf.cast(log_det, nll.dtype)
            log_prob = log_prior + log_det
            self.log_prob_tracker.update_state(log_prob)
            if self._bits:
                nats_per_bit_dim = math.log(2) * self.distribution.event_shape.num_elements()
                self.bits_tracker.update_state(-log_prob / nats_per_bit_dim)
            if callable(weight):
                weight = tf.cast(weight(self.optimizer.iterations), nll.dtype)
            down_weighted, full = (log_prob, 0.0) if self.weighting == "density" else (log_det, log_prior)
            rows = rows - weight * down_weighted - full
        if sample_weight is not None:
            rows *= tf.reshape(tf.cast(sample_weight, rows.dtype), [-1])
        loss = tf.reduce_mean(rows)
        for penalty in self.losses:
            loss += tf.cast(penalty, loss.dtype)
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(x)[0])
        return loss, self.head.mean(p_y)

    def _logs(self, x, y, y_pred, sample_weight, training):
        self.head_metric.update_state(self.head.prepare_labels(y), y_pred)
        logs = self.compute_metrics(x, y, y_pred, sample_weight)
        hidden = ("log_prob_x", "bits_per_dim") if training and self._discriminative else ()
        return {name: value for name, value in logs.items() if name not in hidden}

    @property
    def _discriminative(self):
        return self.weighting == "density" and not callable(self.generative_weight) and self.generative_weight == 0

    def _check_loss(self):
        if self._compile_loss is not None:
            raise ValueError("HybridModel has its own loss, log p(y|x) + lambda log p(x); compile it without `loss`.")


def _check_arguments(distribution, head, generative_weight, weighting):
    if not isinstance(distribution, tfd.Distribution) or not hasattr(distribution, "bijector"):
        raise ValueError(
            f"HybridModel: `distribution` is {distribution!r}; wanted a `tfd.TransformedDistribution`, such as "
            "`flow_distribution(flow)`."
        )
    if not distribution.event_shape.is_fully_defined() or distribution.event_shape.rank == 0:
        raise ValueError(
            f"HybridModel: `distribution` has event shape {distribution.event_shape}; wanted a known one of rank 1 "
            "or more."
        )
    if distribution.batch_shape.rank:
        raise ValueError(
            f"HybridModel: `distribution` has batch shape {distribution.batch_shape}; wanted none. Make its axes "
            "part of the event with `tfd.Independent`, or `tfd.MultivariateNormalDiag` as the base distribution."
        )
    if not isinstance(head, Head):
        raise ValueError(f"HybridModel: `head` is {head!r}; wanted a layer of `tfp_hybrid.heads`.")
    if not callable(generative_weight):
        if not isinstance(generative_weight, (int, float, np.number)) or not (0 <= generative_weight < math.inf):
            raise ValueError(
                f"HybridModel: `generative_weight` is {generative_weight!r}; wanted lambda >= 0, finite, or a "
                "callable of the step."
            )
    if weighting not in WEIGHTINGS:
        raise ValueError(f"HybridModel: `weighting` is {weighting!r}; wanted one of {WEIGHTINGS}.")


def _batches_of(x, y, sample_weight, batch_size, shuffle=False):
    columns = [np.asarray(column) for column in (x, y, sample_weight) if column is not None]
    if len(columns[-1]) != len(columns[0]):
        raise ValueError(f"sample_weight has {len(columns[-1])} rows and x has {len(columns[0])}; wanted as many.")
    return batches(tuple(columns), batch_size, shuffle)
