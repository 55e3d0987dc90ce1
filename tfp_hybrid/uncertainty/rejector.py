"""`Rejector`: a model that abstains."""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.fingerprint import fingerprint
from tfp_hybrid.models import Encoding, HybridModel, checks, data_sets, feeding, served, side_inputs
from tfp_hybrid.models.sources import source
from tfp_hybrid.serialization import FORMAT, check_format, check_savable
from tfp_hybrid.trusted import check_config
from tfp_hybrid.uncertainty.risk_coverage import check_losses
from tfp_hybrid.uncertainty.scores import Score, default_score
from tfp_hybrid.uncertainty.scores.base import check_head, evaluate, model_config, split


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Rejector(keras.Model):
    """A hybrid model with a score and a threshold, which abstains on inputs whose score is above the threshold.

    It is a Keras model: `predict` takes arrays and data sets, `save` writes the hybrid model, the score and the
    threshold to one file, and `export` writes a SavedModel for serving. (The hybrid model of a loaded rejector is not
    compiled; compile it to continue training.)

    Args:
      model: The trained `HybridModel`.
      score: A `Score`; `default_score(model)` by default. One that is not fitted yet is fitted by `fit_threshold`.
      **kwargs: Passed to `keras.Model`.

    Call arguments:
      x: `(n, *event_shape)`. Returns a dictionary: "prediction", the model's E[y|x]; "score", `(n,)`; and "abstain",
        bool `(n,)`, which is True for all inputs until a threshold is chosen.

    Raises:
      ValueError: If `model` has no head, or if `score` is not a `Score` or does not apply to the model. All methods
        that predict or write a file raise it if the model was trained, or the score fitted, after the threshold was
        chosen. (Inside a `tf.function`, weights cannot be compared; call `check_fitted` before.)

    Attributes:
      reference: The sorted scores of the inputs that the threshold was chosen on; empty before that.

    Example:

    >>> model = HybridModel(flow_distribution(bijectors.RealNVP((2,))), heads.Categorical(3))
    >>> held_out = np.random.default_rng(0).normal(size=(1000, 2)).astype("float32")
    >>> rejector = Rejector(model).fit_threshold(held_out, coverage=0.95)
    >>> far = np.array([[0.5, 0.5], [9.0, 9.0]], "float32")
    >>> rejector.predict(far, verbose=0)["abstain"]
    array([False,  True])
    """

    def __init__(self, model: HybridModel, score: Score | None = None, **kwargs):
        check_head(model)
        score = default_score(model) if score is None else score
        if not isinstance(score, Score):
            raise ValueError(f"Rejector: `score` is {score!r}; wanted a Score, such as NegativeLogProb().")
        score.check_applies(model)
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.model, self.score = model, score
        self.threshold = self.add_weight((), _nan, "float64", trainable=False, autocast=False, name="threshold")
        self.fitted_to = self.add_weight((), "zeros", "int64", trainable=False, name="fitted_to")
        self.reference = np.empty(0)
        self.built = True

    def __repr__(self):
        threshold = float(self.threshold.numpy())
        state = "no threshold" if math.isnan(threshold) else f"threshold={threshold:.6g}"
        return f"Rejector({self.model!r}, {self.score!r}, {state})"

    def build(self, input_shape):
        """Does nothing: all weights exist from the start."""

    def __call__(self, x, *args, **kwargs):
        if tf.executing_eagerly() and not isinstance(x, keras.KerasTensor):
            self.score.check_fitted(self.model)
            self._check_if_fitted()
        x = checks.tensor(x, self.model)
        return super().__call__(x, *args, **kwargs)

    def call(self, x) -> dict[str, tf.Tensor]:
        encoding = self.model.encode_checked(side_inputs.tensors(x))
        return {"prediction": self.model.head.mean(encoding.p_y), **self._judgement(encoding)}

    def _judgement(self, encoding: Encoding) -> dict[str, tf.Tensor]:
        scores = tf.ensure_shape(evaluate(self.score, encoding), (None,))  # arrays of a score have no static shape
        # Before a threshold is chosen it is NaN, and all inputs are rejected. It is one of such scores.
        abstain = tf.logical_not(scores <= tf.cast(self.threshold, scores.dtype))
        return {"score": scores, "abstain": abstain}

    def _served(self, encoding: Encoding) -> dict[str, tf.Tensor]:
        """What an exported rejector answers."""
        found = served.answers(encoding) | self._judgement(encoding)
        size = len(self.reference)
        higher = size - count_at_most(self.reference, found["score"])
        return found | {"percentile": tf.cast(higher, tf.float32) * (100 / size)}

    def fit_threshold(
        self,
        x,
        y=None,
        *,
        quantile: float | None = None,
        coverage: float | None = None,
        risk: float | None = None,
        loss: Callable | None = None,
        batch_size: int = 256,
    ) -> "Rejector":
        """Chooses the threshold on held-out inputs, by one of three rules.

        A score that is not fitted yet is fitted first, to every second row of x; the threshold is chosen on the others.

        Args:
          x: Inputs `(n, *event_shape)` that were not used in training, like those to come.
          y: The labels of x, for `risk`.
          quantile: Abstain above this quantile of the scores of x, which keeps this fraction of x.
          coverage: Keep a *new* input of the same distribution with at least this probability, whatever the
            distribution of the scores (split conformal prediction; the probability includes the draw of x).
          risk: Keep as many inputs as possible such that the mean loss of the kept rows of x is at most this. It holds
            on x itself, so leave a margin for new inputs.
          loss: For `risk`, a function of y and E[y|x], both `(n, ...)`, that returns losses >= 0, `(n,)`. By default, 1
            for a wrong class, and the squared error for numbers.
          batch_size: The number of rows in a batch.

        Returns:
          The rejector itself.

        Raises:
          ValueError: If not exactly one rule is given, if it cannot be met, or if the score is not fitted to the model.

        References:
          Lei, G'Sell, Rinaldo, Tibshirani and Wasserman 2018, "Distribution-Free Predictive Inference for Regression",
          section 2.2 (coverage).
        """
        rules = {"quantile": quantile, "coverage": coverage, "risk": risk}
        given = {name: value for name, value in rules.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"fit_threshold got {given or 'no rule'}; wanted exactly one of {', '.join(rules)}.")
        ((rule, value),) = given.items()
        if not 0 <= value <= (math.inf if rule == "risk" else 1):
            raise ValueError(f"{rule} is {value}; wanted {'at least 0' if rule == 'risk' else 'between 0 and 1'}.")
        if rule == "risk":
            if not data_sets.is_array(x):
                raise ValueError(f"x is a {type(x).__name__}; wanted an array, since `risk` needs a label of each row.")
            checks.check_labels(y, self.model.head, side_inputs.count(x))
        if not self.score.is_fitted:
            part, x = split(x, 2)
            y = None if y is None else np.asarray(y)[1::2]
            self.score.fit(self.model, part, batch_size)
        answers = self._answers(x, batch_size)
        reference = np.sort(answers["score"].astype(float))
        if rule == "risk":
            losses = (loss or self._row_losses)(np.asarray(y), answers["prediction"])
            threshold = _threshold_of_risk(answers["score"], losses, value)
        else:
            rank = len(reference) * value if rule == "quantile" else (len(reference) + 1) * value
            rank = math.ceil(round(rank, 9))
            if rank > len(reference):
                highest = len(reference) / (len(reference) + 1)
                raise ValueError(
                    f"coverage is {value}; the {len(reference)} rows of x can guarantee at most {highest:.6g}. Use "
                    "more rows, or a lower coverage."
                )
            threshold = reference[rank - 1] if rank else -np.inf
        if threshold == np.inf:
            raise ValueError(f"{rule} is {value}, which keeps inputs of infinite score; wanted a lower value.")
        self.threshold.assign(threshold)
        self.fitted_to.assign(fingerprint(self.model, self.score))
        self.reference = reference
        return self

    def percentile(self, scores) -> np.ndarray:
        """Returns the percentage of the reference inputs whose score is higher, for each of `scores`.

        It is 0 for a score that is higher than those of all reference inputs.

        Raises:
          ValueError: If there is no threshold yet, or if the model or the score changed since it was chosen.
        """
        self.check_fitted()
        at_most = np.searchsorted(self.reference, checks.reals(scores, "scores"), side="right")
        return 100 * (1 - at_most / len(self.reference))

    def check_fitted(self):
        """Raises ValueError if there is no threshold yet, or if the model or the score changed since it was chosen."""
        if math.isnan(float(self.threshold.numpy())):
            raise ValueError("The rejector has no threshold yet; call `fit_threshold` first.")
        if int(self.fitted_to.numpy()) != fingerprint(self.model, self.score):
            raise ValueError(
                "The model was trained, or its score fitted, since the threshold was chosen; call `fit_threshold` "
                "again."
            )

    def _check_if_fitted(self):
        if not math.isnan(float(self.threshold.numpy())):
            self.check_fitted()

    def predict(
        self,
        x,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: list | None = None,
    ) -> dict[str, np.ndarray]:
        """As `keras.Model.predict`; returns a dictionary of "prediction", "score" and "abstain", from one pass.

        Raises:
          ValueError: If there is no threshold yet, if the model or the score changed since it was chosen, or if the
            model cannot take the inputs (each batch of a data set is checked).
        """
        self.check_fitted()
        return self._answers(x, batch_size, verbose, steps, callbacks)

    def predict_on_batch(self, x) -> dict[str, np.ndarray]:
        """As `predict`, for one batch."""
        self.check_fitted()
        return super().predict_on_batch(checks.inputs(x, self.model))

    def predict_step(self, data) -> dict[str, tf.Tensor]:
        """As `keras.Model.predict_step`."""
        # Not by `__call__`: its check was done once for all batches, and `fit_threshold` predicts without a threshold.
        return self.call(keras.utils.unpack_x_y_sample_weight(data)[0])

    def _answers(self, x, batch_size, verbose=0, steps=None, callbacks=None):
        self.score.check_fitted(self.model)
        arguments.check_batch_size(batch_size)
        feed = feeding.Feed(self.model, inputs_only=True)
        data = source(feed, x, batch_size=batch_size)
        with feed.errors():
            return super().predict(data.batches(), None, verbose, steps, callbacks)

    def _row_losses(self, y, prediction):
        head = self.model.head
        y = head.prepare_labels(y).numpy()
        if head.classifies:
            classes = prediction.argmax(-1) if prediction.ndim > y.ndim else prediction > 0.5
            return (classes != y).reshape(len(y), -1).any(-1).astype(float)
        return ((prediction - y) ** 2).reshape(len(y), -1).sum(-1).astype(float)

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs):
        """As `DensityModel.export`, with "score", "percentile" and "abstain" among the answers.

        The endpoint "serve" of a SavedModel has what the rejector returns when it is called.

        Raises:
          ValueError: If there is no threshold, or if it is no longer valid; and as `DensityModel.export`.
        """
        self.check_fitted()
        about = {"score": self.score.title, "threshold": float(self.threshold.numpy())}
        served.export(self, self.model, self._served, about, filepath, format, verbose, input_signature, **kwargs)

    def fit(self, *args, **kwargs):
        """Raises ValueError: the hybrid model is trained, not the rejector."""
        raise ValueError("A Rejector is not trained; call `rejector.model.fit`, and then `fit_threshold` again.")

    def evaluate(self, *args, **kwargs):
        """Raises ValueError: a rejector has no loss."""
        raise ValueError("A Rejector has no loss; call `rejector.model.evaluate`, or `predict` and your own metrics.")

    def get_config(self) -> dict:
        return {
            "format": FORMAT,
            "name": self.name,
            "model": model_config(self.model),
            "score": keras.saving.serialize_keras_object(self.score),
        }

    @classmethod
    def from_config(cls, config: dict):
        config = check_format(config)
        check_config(config)
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("model", "score")}
        return cls(**config | parts)

    def save(self, filepath, *args, **kwargs):
        """As `keras.Model.save`; raises ValueError if the threshold is no longer valid."""
        self._check_if_fitted()
        check_savable(self, filepath)
        super().save(filepath, *args, **kwargs)

    def save_own_variables(self, store: dict):
        """As `keras.Model.save_own_variables`; also stores the reference scores."""
        store["threshold"], store["fitted_to"] = self.threshold.numpy(), self.fitted_to.numpy()
        store["reference"] = self.reference

    def load_own_variables(self, store: dict):
        """As `keras.Model.load_own_variables`; also loads the reference scores."""
        self.threshold.assign(np.asarray(store["threshold"]))
        self.fitted_to.assign(np.asarray(store["fitted_to"]))
        self.reference = np.asarray(store["reference"])


def _threshold_of_risk(scores, losses, risk):
    """Returns the highest score such that the inputs at or below it have at most this mean loss."""
    losses = check_losses(scores, losses)
    order = np.argsort(scores, kind="stable")
    scores, kept = scores[order], np.arange(1, len(scores) + 1)
    last_of_equals = np.r_[scores[1:] != scores[:-1], True]
    risks, candidates = (np.cumsum(losses[order]) / kept)[last_of_equals], scores[last_of_equals]
    possible = risks <= risk
    if not possible.any():
        raise ValueError(f"risk is {risk}; wanted at least {risks.min():.6g}, the lowest of any threshold on x.")
    return candidates[possible][-1]


def count_at_most(ordered: np.ndarray, values: tf.Tensor) -> tf.Tensor:
    """Returns how many of the ordered numbers are at most each of `values`, `(n,)`, int32.

    It is `tf.searchsorted(ordered, values, "right")` as a bisection of plain operations, which every format knows.
    """
    size, count = len(ordered), tf.zeros_like(values, tf.int32)
    ordered = tf.constant(ordered, values.dtype)
    for step in reversed([2**i for i in range(size.bit_length())]):
        more = count + step
        reached = (more <= size) & (tf.gather(ordered, tf.minimum(more, size) - 1) <= values)
        count = tf.where(reached, more, count)
    return count


def _nan(shape, dtype=None):
    return tf.fill(shape, tf.constant(np.nan, dtype))
