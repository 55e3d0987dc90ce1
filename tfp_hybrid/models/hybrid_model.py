"""HybridModel: log p(y|x) + lambda log p(x) as a Keras model."""

import math
import warnings
import weakref

import keras
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.heads import Head
from tfp_hybrid.models import labels, metrics, objective, side_inputs
from tfp_hybrid.models.density_model import DensityModel
from tfp_hybrid.models.over_noise import predictions
from tfp_hybrid.models.overflow import warn_of_nan
from tfp_hybrid.models.responses import Responses
from tfp_hybrid.penalties.base import Batch, check_penalties, penalty_config
from tfp_hybrid.serialization import deserialize, serialize, sharing


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class HybridModel(Responses, DensityModel):
    """A deep invertible generalized linear model: p(x) by a flow, p(y|x) by a GLM on its latent z = f(x).

    The loss is the mean over the batch of

        -[ log p(y | x) + lambda * log p(x) ]                                  (eq. 5 of the paper)

    in nats, plus the regularization losses of the layers. A step passes through the flow once.

    Args:
      distribution: p(x), as for `DensityModel`.
      head: The GLM, a layer of `tfp_hybrid.heads`.
      generative_weight: lambda, on log p(x) in nats: a number >= 0, or a schedule, a callable of the optimizer's
        step (such as a `keras.optimizers.schedules.LearningRateSchedule`). 0 is the paper's discriminative
        baseline: training does not compute log p(x). The paper's lambda per dimension is `lambda / D` here.
      weighting: "density", eq. 5, or "jacobian", the paper's variant in which only the Jacobian is down-weighted:
        log p(y|x) + log p_z(f(x)) + lambda log|det df/dx|. With a Gaussian latent of variance 1/lambda it has the
        gradients of eq. 5 with a standard normal latent.
      encoder: A Keras model whose outputs the flow models in place of x, as for `DensityModel`; frozen unless
        `train_encoder`.
      train_encoder: Whether the encoder is trained, too: on log p(y|x) alone. (The gradient of log p(features) stops at
        the features. Through the encoder it would have no maximum: features that shrink to a point have any density.)
      missing_label: The label of rows without one, such as -1, or NaN; None if all rows have one. They add
        lambda log p(x) alone to the sum of eq. 5. Metrics of p(y|x), those that `compile` was given included, are over
        the rows with a label (and weighted by `sample_weight` and `class_weight`, if `compile` was given them).
      penalties: A list of `tfp_hybrid.penalties`, which add to the objective of each row in training.
      **kwargs: Passed to `keras.Model`.

    Call arguments:
      x: `(n, *event_shape)`. Returns the predictive mean E[y|x]: class probabilities `(n, K)`, or `(n, ...)`.

    Raises:
      ValueError: As `DensityModel`; if `head` is not a `Head`, or if `generative_weight` is negative or not finite; or
        if `missing_label` is not a number, or a label; or if a penalty is not for such a model.

    Example:

    >>> p_x = flow_distribution(bijectors.RealNVP((2,)))
    >>> model = HybridModel(p_x, heads.Categorical(3), generative_weight=0.1)
    >>> model.compile(keras.optimizers.Adam(1e-3))

    References:
      Nalisnick, Matsukawa, Teh, Gorur and Lakshminarayanan 2019, "Hybrid Models with Deep and Invertible
      Features", ICML.
    """

    objective = "-(log p(y|x) + lambda log p(x))"
    can_train_encoder = True

    def __init__(
        self,
        distribution,
        head,
        generative_weight=1.0,
        weighting="density",
        encoder=None,
        train_encoder=False,
        missing_label=None,
        penalties=(),
        **kwargs,
    ):
        if not isinstance(head, Head):
            raise ValueError(f"HybridModel: `head` is {head!r}; wanted a layer of `tfp_hybrid.heads`.")
        objective.check_generative_weight(generative_weight)
        objective.check_weighting(weighting)
        labels.check_missing_label(missing_label, head)
        super().__init__(distribution, encoder, train_encoder=train_encoder, **kwargs)
        side_inputs.check_names(head, self.flow_inputs)
        self.head, self.missing_label = head, missing_label
        check_penalties(penalties, self)
        self.penalties = list(penalties)
        if not head.built:
            head.build((None, distribution.distribution.event_shape.num_elements()))
            head.built = True
        head.share(self.density.variables)
        self._generative_weight, self._weighting = generative_weight, weighting
        self._traced_for = {}  # the posterior of the head for which each step was traced
        self.nll_tracker = metrics.NegativeLogLikelihood()
        self.head_metric = head.metric()

    @property
    def generative_weight(self):
        """lambda, on log p(x) in nats. A new value holds from the next step on (which is traced anew for it)."""
        return self._generative_weight

    @generative_weight.setter
    def generative_weight(self, weight):
        objective.check_generative_weight(weight)
        self._generative_weight = weight
        self._trace_steps_anew()

    @property
    def weighting(self) -> str:
        """What lambda weighs: "density" or "jacobian". A new value holds from the next step on."""
        return self._weighting

    @weighting.setter
    def weighting(self, weighting):
        objective.check_weighting(weighting)
        self._weighting = weighting
        self._trace_steps_anew()

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss, the metrics of p(y|x), those of p(x), and those that `compile` was given."""
        of_head = (self.nll_tracker, self.head_metric)
        found = super().metrics
        first = [metric for metric in found if metric.name == "loss"] + list(of_head)
        return first + [metric for metric in found if all(metric is not one for one in first)]

    def compile(
        self, optimizer="rmsprop", loss=None, loss_weights=None, metrics=None, weighted_metrics=None, *args, **kwargs
    ):
        """As `keras.Model.compile`; with a `missing_label`, all metrics are weighted, rows without a label by zero."""
        if self.missing_label is not None:
            given = [
                part if isinstance(part, (list, tuple)) else [part] for part in (metrics, weighted_metrics) if part
            ]
            metrics, weighted_metrics = None, [one for part in given for one in part] or None
        super().compile(optimizer, loss, loss_weights, metrics, weighted_metrics, *args, **kwargs)

    def __call__(self, x, *args, **kwargs):
        found = super().__call__(x, *args, **kwargs)
        return warn_of_nan(found) if tf.executing_eagerly() else found

    def call(self, x, training=False):
        return self.head.mean(self._encoding(x, training).p_y)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None, draws=1):
        """E[y|x]: class probabilities `(n, K)`, or `(n, ...)`. As `keras.Model.predict`; checks the inputs first.

        A flow that adds noise u to x, such as a dequantization, gives p(y | x, u); p(y|x) is its mean over the flow's
        q(u | x), which one u estimates. With `draws` = k > 1, it is the mean over k draws of u, in k times the time,
        and takes arrays and `tf.data`, but no generators, no `steps` and no `callbacks`.

        An input so far out that its latent overflows, whose log p(x) is -inf, has no prediction: it gets NaN, and a
        warning says so. (Other inputs whose log p(x) overflows are predicted without a warning: p(y|x) does not depend
        on p(x).)
        """
        arguments.check_count(draws, "draws")
        if draws == 1:
            return warn_of_nan(super().predict(x, batch_size, verbose, steps, callbacks))
        for name, value in (("steps", steps), ("callbacks", callbacks)):
            if value:
                raise ValueError(f"predict: `{name}` is {value!r}; wanted none with `draws` = {draws}.")
        return warn_of_nan(predictions(self, x, batch_size, draws, verbose))

    def predict_on_batch(self, x):
        """As `keras.Model.predict_on_batch`; checks the batch first, and warns as `predict` does."""
        return warn_of_nan(super().predict_on_batch(x))

    def make_train_function(self, force=False):
        """As `keras.Model.make_train_function`; from now on, a posterior of `bayes.fit` is stale."""
        if self.head.is_integrated and not self.head.trains_posterior:
            self.head.posterior.make_stale()
            warnings.warn(
                "The model is trained after `bayes.fit`, so the posterior of its head is stale and not used any more; "
                "call `bayes.fit` again.",
                stacklevel=4,
            )
        return super().make_train_function(force)

    def make_test_function(self, force=False):
        """As `keras.Model.make_test_function`; traced anew for another posterior."""
        return super().make_test_function(force or self._has_new_posterior("test"))

    def make_predict_function(self, force=False):
        """As `keras.Model.make_predict_function`; traced anew for another posterior."""
        return super().make_predict_function(force or self._has_new_posterior("predict"))

    def _has_new_posterior(self, step):
        used = self.head.posterior if self.head.is_integrated else None
        former = self._traced_for.get(step, lambda: None)()
        # A reference, since Keras would take the posterior for a layer of the model.
        self._traced_for[step] = (lambda: None) if used is None else weakref.ref(used)
        return former is not used

    def _row_losses(self, x, y, training):
        penalties = self.penalties if training else ()
        for penalty in penalties:
            x = penalty.inputs(x)
        encoding = self._encoding(x, training)
        p_y = self.head.at_point(encoding.features) if training else encoding.p_y
        y_pred = self.head.mean(p_y)
        y, known = self._known_labels(y, y_pred)
        nll = -(self.head.training_log_prob(encoding.features, y) if training else p_y.log_prob(y))
        if known is not None:
            nll = tf.where(known, nll, 0)
        self.nll_tracker.update_state(nll, known)
        rows = nll
        for penalty in penalties:
            batch = Batch(x, encoding.features, y, known, self.head, self._training_features)
            rows = rows + penalty.weighted_rows(batch, rows)
        if not (training and self._discriminative):
            if training and self.train_encoder:
                fixed = side_inputs.with_main(x, side_inputs.as_cached(tf.stop_gradient(encoding.flow_input)))
                encoding = self._encoding(fixed, training)
            log_prob = tf.cast(self._track_log_prob(encoding), nll.dtype)
            weight = self.generative_weight
            if callable(weight):
                weight = tf.cast(weight(self.optimizer.iterations), nll.dtype)
            if self.weighting == "density":
                rows = rows - weight * log_prob
            else:
                log_p_z, log_det = (tf.cast(part, nll.dtype) for part in (encoding.log_p_z, encoding.log_det))
                rows = rows - weight * log_det - log_p_z
        return rows, y_pred

    def _training_features(self, x):
        return self._encoding(x, training=True).features

    def _known_labels(self, y, y_pred):
        """Labels, with any in place of missing ones, and which are known, `(n,)`; None if all are."""
        y = self.head.prepare_labels(y)
        if self.missing_label is None:
            return y, None
        known = labels.is_known(y)
        return labels.filled(y, known, y_pred), known

    def _logs(self, x, y, y_pred, sample_weight, training):
        y, known = self._known_labels(y, y_pred)
        self.head_metric.update_state(y, y_pred, known)
        if known is not None:
            weights = tf.ones_like(known, y_pred.dtype) if sample_weight is None else tf.reshape(sample_weight, [-1])
            sample_weight = tf.where(known, weights, 0)
            if y.shape.rank == y_pred.shape.rank == 1:
                # Keras' functions take the mean over the last axis, which would be that of the rows.
                y, y_pred = y[:, tf.newaxis], y_pred[:, tf.newaxis]
        logs = super()._logs(x, y, y_pred, sample_weight, training)
        hidden = (self.log_prob_tracker.name, "bits_per_dim") if training and self._discriminative else ()
        return {name: value for name, value in logs.items() if name not in hidden}

    def get_metrics_result(self):
        """As `keras.Model.get_metrics_result`; of rows of which none had a label, metrics of p(y|x) are NaN."""
        found = super().get_metrics_result()
        if self.missing_label is not None:
            none = tf.equal(self.nll_tracker.count, 0)
            for name in (self.nll_tracker.name, self.head_metric.name):
                found[name] = tf.where(none, tf.constant(math.nan, found[name].dtype), found[name])
        return found

    @property
    def _discriminative(self):
        return self.weighting == "density" and not callable(self.generative_weight) and self.generative_weight == 0

    @property
    def objective_settings(self) -> dict:
        weight = self.generative_weight
        name = type(weight).__name__ if callable(weight) else float(weight)
        penalties = [penalty.settings for penalty in self.penalties]
        return {"generative_weight": name, "weighting": self.weighting, "penalties": penalties}

    def _trace_steps_anew(self):
        for function, make in (
            (self.train_function, self.make_train_function),
            (self.test_function, self.make_test_function),
        ):
            if function is not None:
                make(force=True)

    def get_config(self):
        weight = self.generative_weight
        with sharing():
            config = super().get_config()
            head = keras.saving.serialize_keras_object(self.head)
        config |= {
            "head": head,
            "generative_weight": serialize(weight, "generative_weight") if callable(weight) else float(weight),
            "weighting": self.weighting,
        }
        if self.missing_label is not None:
            config["missing_label"] = float(self.missing_label)
        if self.penalties:
            config["penalties"] = [penalty_config(penalty) for penalty in self.penalties]
        return config

    @classmethod
    def _deserialized(cls, config):
        with sharing():
            arguments = super()._deserialized(config)
            arguments["head"] = keras.saving.deserialize_keras_object(config["head"])
        penalties = [keras.saving.deserialize_keras_object(one) for one in config.get("penalties", ())]
        return arguments | {"generative_weight": deserialize(config["generative_weight"]), "penalties": penalties}
