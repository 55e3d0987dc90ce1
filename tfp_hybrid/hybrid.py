"""HybridModel: log p(y|x) + lambda log p(x) as a Keras model."""

import functools
import math
import numbers
import warnings

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import arguments, checks, feeding, metrics
from tfp_hybrid.bijectors import ActNorm, inverse_and_log_det
from tfp_hybrid.callbacks import State, StopOnNonFinite
from tfp_hybrid.flows import adapt_distribution, is_adapted, log_prob_in_one_pass
from tfp_hybrid.heads import Head
from tfp_hybrid.inference import forward_batches
from tfp_hybrid.interop import ModuleLayer
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
        _check_arguments(distribution, head)
        _check_generative_weight(generative_weight)
        _check_weighting(weighting)
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
        self._generative_weight, self._weighting, self._feature_names = generative_weight, weighting, None
        self._asked_if_savable = False
        self._bits = checks.integer_levels(distribution) is not None
        self.nll_tracker = metrics.NegativeLogLikelihood()
        self.head_metric = head.metric()
        self.log_prob_tracker = metrics.LogProb()
        if self._bits:
            self.bits_tracker = metrics.BitsPerDim()
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
    def generative_weight(self):
        """lambda, on log p(x) in nats. A new value holds from the next step on (which is traced anew for it)."""
        return self._generative_weight

    @generative_weight.setter
    def generative_weight(self, weight):
        _check_generative_weight(weight)
        self._generative_weight = weight
        self._trace_steps_anew()

    @property
    def weighting(self) -> str:
        """ "density" or "jacobian"; likewise."""
        return self._weighting

    @weighting.setter
    def weighting(self, weighting):
        _check_weighting(weighting)
        self._weighting = weighting
        self._trace_steps_anew()

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the entries of x, if it is a vector and they are known; saved with the model.

        `fit` takes them from a DataFrame. From then on the columns of any DataFrame are matched by name.
        """
        return self._feature_names

    @feature_names.setter
    def feature_names(self, names):
        size = self.distribution.event_shape.num_elements()
        names = None if names is None else [names] if isinstance(names, str) else list(names)
        if names is not None:
            good = all(isinstance(name, str) for name in names) and len(set(names)) == len(names) == size
            if not good or self.distribution.event_shape.rank != 1:
                shape = tuple(self.distribution.event_shape)
                raise ValueError(
                    f"feature_names is {names!r}; wanted a different name for each of the entries of x, {shape}."
                )
        self._feature_names = None if names is None else tuple(names)

    @property
    def loss(self):
        """What is minimized, in words. (Keras' wrappers for scikit-learn want a compiled model to have a loss.)"""
        return "-(log p(y|x) + lambda log p(x))"

    @loss.setter
    def loss(self, given):  # by `compile`, which keeps it elsewhere, too
        pass

    @property
    def joint(self) -> tfd.JointDistributionNamed:
        """p(x, y) = p(x) p(y|x), over `{"x": ..., "y": ...}`."""
        return tfd.JointDistributionNamed(
            {"x": self.distribution, "y": lambda x: self.head(self._features(self.flow.inverse(x)))}
        )

    def __call__(self, x, *args, **kwargs):
        found = super().__call__(checks.tensor(x, self), *args, **kwargs)
        return _warn_of_nan(found) if tf.executing_eagerly() else found

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
        z, log_det = self._invert(checks.tensor(x, self), training)
        return z, log_prob_in_one_pass(self.distribution.distribution, z, training) + log_det

    def features_and_log_prob(self, x):
        """z flattened, what the head sees, `(n, d)`, and log p(x) in nats, `(n,)`; compiled at the first call."""
        return self.one_pass(checks.tensor(x, self))

    @functools.cached_property
    def one_pass(self):
        """`features_and_log_prob` as a `tf.function`, of inputs that have been checked."""

        def features_and_log_prob(x):
            z, log_prob = self.latent_and_log_prob(x)
            return self._features(z), tf.broadcast_to(log_prob, tf.shape(x)[:1])

        return tf.function(features_and_log_prob, reduce_retracing=True)

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
        """n draws from p(x, y): `{"x": (n, *event_shape), "y": (n, ...)}`.

        Args:
          n: how many.
          seed: a whole number >= 0, or a pair of them, as TFP's stateless seeds are: equal seeds give equal draws. None
            follows `keras.utils.set_random_seed`, and gives others at each call.
        """
        arguments.check_count(n, "n", least=0)
        if isinstance(seed, numbers.Integral):
            arguments.check_count(seed, "seed", least=0)
            # Two words of 32 bits; TFP would mix a plain number with how many draws there were before.
            seed = np.random.SeedSequence(int(seed)).generate_state(2).view(np.int32)
        return self.joint.sample(n, seed=seed)

    def adapt(self, x, y=None):
        """Initializes data-dependent weights before any training: ActNorm's from x, a Normal head's from y.

        Args:
          x: a batch of inputs, `(n, *event_shape)`.
          y: their responses, or None to leave the head as it is.
        """
        feed = feeding.Feed(self, labelled=False, training=True)
        x, _, _ = feed.rows(x)
        self._take_names(feed.names)
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

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
    ):
        """As `keras.Model.fit`; checks the data first, and adapts the flow to it if nobody has.

        `sample_weight` and `class_weight` weigh a row's whole objective, log p(x) included. Arrays are checked row by
        row before any work is done. Of a data set the first batch is checked before (a Normal head takes the scale of y
        from it), and each other one when its turn comes: one that the model cannot be trained on raises an error with
        its number, and the weights stay as the batches before have left them.

        The columns of a DataFrame give the model its `feature_names`, if it has none; otherwise they are matched by
        name.

        If the loss or a weight becomes NaN or infinite, training stops with an error, and weights and optimizer go back
        to what they were after the last good epoch, or before training if there is none; checkpoints written before
        (`keras.callbacks.ModelCheckpoint`) stay as they are. A model that cannot be saved warns before it is trained.

        Raises:
          ValueError: for data, weights or batch sizes that the model cannot be trained on.
          FloatingPointError: if the loss becomes NaN or infinite.
        """
        self._assert_compile_called("fit")
        self._check_loss()
        for count, argument in ((batch_size, "batch_size"), (validation_batch_size, "validation_batch_size")):
            arguments.check_batch_size(count, argument)
        feed = feeding.Feed(self, training=True, class_weight=class_weight)
        val_batch_size, val_data = validation_batch_size or batch_size, None
        if feeding.is_array(x):
            if validation_split and validation_data is None:
                rows, held_out = feed.split_rows(x, y, sample_weight, validation_split)
                val_data = feeding.in_batches(held_out, val_batch_size)
            else:
                rows = feed.rows(x, y, sample_weight)
            x_batch, y_batch, _ = rows
            data = feeding.in_batches(rows, batch_size, shuffle)
        else:
            feeding.check_alone(y, sample_weight, validation_split)
            batch, x = feeding.first_batch(x)
            x_batch, y_batch, _ = feed.rows(*batch)
            data = feed.stream(x)
        val_feed = feeding.Feed(self, suffix="_val", names=feed.names)
        if validation_data is not None:
            val_data = val_feed.validation_data(validation_data, val_batch_size)
        self._take_names(feed.names)
        if not is_adapted(self.distribution):
            self.adapt(x_batch[:: max(1, len(x_batch) // 1024)])
        if not self.head.is_adapted():
            self.head.adapt(y_batch)
        self._warn_if_not_savable()
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*(callbacks if isinstance(callbacks, (list, tuple)) else [callbacks] if callbacks else ())]
            callbacks.insert(0, StopOnNonFinite())
        else:
            callbacks.append(StopOnNonFinite())
        metrics.set_directions(callbacks, self)
        with feed.errors(), val_feed.errors():
            return super().fit(
                data,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_data=val_data,
                shuffle=False,  # done
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                validation_freq=validation_freq,
            )

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
        **kwargs,
    ):
        """As `keras.Model.evaluate`; checks the data first, as `fit` does."""
        options = dict(verbose=verbose, steps=steps, callbacks=callbacks, return_dict=return_dict)
        if kwargs.get("_use_cached_eval_dataset"):  # from `fit`, which has checked it
            return super().evaluate(x, y, batch_size, sample_weight=sample_weight, **options, **kwargs)
        self._assert_compile_called("evaluate")
        self._check_loss()
        arguments.check_batch_size(batch_size)
        feed = feeding.Feed(self)
        data = feed.data(x, y, sample_weight, batch_size)
        with feed.errors():
            return super().evaluate(data, **options, **kwargs)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """E[y|x]: class probabilities `(n, K)`, or `(n, ...)`. As `keras.Model.predict`; checks the inputs first.

        An input so far out that its latent overflows, whose log p(x) is -inf, has no prediction: it gets NaN, and a
        warning says so. (Others whose log p(x) overflows are predicted without a word: p(y|x) knows nothing of p(x).)
        """
        arguments.check_batch_size(batch_size)
        feed = feeding.Feed(self, labelled=False)
        data = feed.data(x, batch_size=batch_size)
        with feed.errors():
            return _warn_of_nan(super().predict(data, None, verbose, steps, callbacks))

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """As `keras.Model.train_on_batch`; checks the batch first.

        Raises:
          ValueError: for a batch that the model cannot be trained on.
          FloatingPointError: if the loss is NaN or infinite; weights and optimizer are then as they were before.
        """
        self._assert_compile_called("train_on_batch")
        self._check_loss()
        feed = feeding.Feed(self, training=True, class_weight=class_weight)
        batch = feed.rows(x, y, sample_weight)
        self._take_names(feed.names)
        before = State(self)
        logs = super().train_on_batch(*batch, return_dict=True)
        if not math.isfinite(logs["loss"]):
            before.restore()
            raise FloatingPointError(f"The loss became {logs['loss']}; weights and optimizer are as before this batch.")
        return logs if return_dict else self._flatten_metrics_in_order(logs)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """As `keras.Model.test_on_batch`; checks the batch first."""
        self._assert_compile_called("test_on_batch")
        self._check_loss()
        return super().test_on_batch(*feeding.Feed(self).rows(x, y, sample_weight), return_dict=return_dict)

    def predict_on_batch(self, x):
        """As `keras.Model.predict_on_batch`; checks the batch first, and warns as `predict` does."""
        return _warn_of_nan(super().predict_on_batch(checks.inputs(x, self)))

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss, y_pred = self._loss_and_prediction(x, y, sample_weight, training=True)
            scaled_loss = self.optimizer.scale_loss(loss)
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
            "feature_names": self.feature_names and list(self.feature_names),
            "trainable": self.trainable,
            "density_trainable": [weight.trainable for weight in self.density.weights],
        }

    @classmethod
    def from_config(cls, config):
        check_config(config)
        config = dict(config)
        trainable, frozen = config.pop("trainable"), config.pop("density_trainable")
        feature_names = config.pop("feature_names", None)
        config["distribution"] = deserialize(config["distribution"])
        config["head"] = keras.saving.deserialize_keras_object(config["head"])
        config["generative_weight"] = deserialize(config["generative_weight"])
        model = cls(**config)
        model.feature_names = feature_names
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
        penalty = sum((tf.cast(part, rows.dtype) for part in self.losses), tf.zeros((), rows.dtype))
        total, count = tf.reduce_sum(rows), tf.cast(tf.shape(x)[0], rows.dtype)
        self._loss_tracker.update_state(tf.math.divide_no_nan(total, count) + penalty, sample_weight=count)
        return self._share_of_global_mean(total, count) + penalty / self._replicas, self.head.mean(p_y)

    def _logs(self, x, y, y_pred, sample_weight, training):
        self.head_metric.update_state(self.head.prepare_labels(y), y_pred)
        logs = self.compute_metrics(x, y, y_pred, sample_weight)
        hidden = ("log_prob_x", "bits_per_dim") if training and self._discriminative else ()
        return {name: value for name, value in logs.items() if name not in hidden}

    def _share_of_global_mean(self, total, count):
        """This replica's part of the mean over the rows of the global batch; the parts of all replicas add up to it.

        A replica that the last batch leaves without rows has the part 0, where a mean of its own would be NaN.
        """
        if self._replicas > 1:
            count = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, count)
        return total / count

    @property
    def _replicas(self):
        return self.distribute_strategy.num_replicas_in_sync

    @property
    def _discriminative(self):
        return self.weighting == "density" and not callable(self.generative_weight) and self.generative_weight == 0

    def _trace_steps_anew(self):
        for function, make in (
            (self.train_function, self.make_train_function),
            (self.test_function, self.make_test_function),
        ):
            if function is not None:
                make(force=True)

    def _take_names(self, names):
        if self.feature_names is None and names is not None:
            self.feature_names = names

    def _warn_if_not_savable(self):
        """Once, before the first training: afterwards it would be lost."""
        if not self._asked_if_savable:
            self._asked_if_savable = True
            try:
                check_savable(self)
            except (TypeError, NotImplementedError, ValueError) as error:
                reason = " ".join(str(error).split("Example:")[0].split())
                warnings.warn(f"`save` will not work: {reason} (`save_weights` keeps the weights.)", stacklevel=3)

    def _check_loss(self):
        if self._compile_loss is not None:
            raise ValueError("HybridModel has its own loss, log p(y|x) + lambda log p(x); compile it without `loss`.")


def _check_arguments(distribution, head):
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


def _warn_of_nan(predictions):
    """`predictions`, with a warning if some are NaN."""
    for part in tf.nest.flatten(predictions):
        values = part if isinstance(part, (np.ndarray, tf.Tensor)) else np.zeros(0)
        if values.ndim and values.dtype in (np.float16, np.float32, np.float64):
            values = np.asarray(values)
            rows = np.flatnonzero(np.isnan(values.reshape(len(values), -1)).any(axis=1)) if values.size else ()
            if len(rows):
                warnings.warn(
                    f"{len(rows)} of {len(values)} inputs, the first in row {rows[0]}, are so far out that their "
                    "latent overflows (log p(x) is -inf): their prediction is NaN.",
                    stacklevel=3,
                )
    return predictions


def _check_generative_weight(weight):
    if callable(weight):
        return
    if not isinstance(weight, (int, float, np.number)) or not (0 <= weight < math.inf):
        raise ValueError(
            f"HybridModel: `generative_weight` is {weight!r}; wanted lambda >= 0, finite, or a callable of the step."
        )


def _check_weighting(weighting):
    if weighting not in WEIGHTINGS:
        raise ValueError(f"HybridModel: `weighting` is {weighting!r}; wanted one of {WEIGHTINGS}.")
