"""Out-of-distribution scores of single inputs, from one pass through a model. Higher means more out-of-distribution."""

import zlib

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.hybrid import HybridModel
from tfp_hybrid.inference import Forward, forward_batches


class Score(keras.layers.Layer):
    """A number for each input that is higher the less the input is like the training data.

    A Keras layer, so that what it learns is saved and loaded with whatever holds it (such as a `Rejector`).

    To write one: set `title`, and write `of(forward)`. A score that learns something from held-out in-distribution
    inputs sets `needs_fit = True`, keeps it in weights, and writes `learn`.

    Where a score is not a number, because the density or the latent of an input overflows, it is +inf.

    Args:
      **kwargs: of `keras.layers.Layer`.
    """

    title = ""
    needs_fit = False

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")  # whatever the model's precision
        super().__init__(**kwargs)
        if self.needs_fit:
            self.fitted_to = self.add_weight((), _minus_one, "int64", trainable=False, name="fitted_to")
        self.built = True

    def of(self, forward: Forward) -> tf.Tensor:
        """The scores of a batch, `(n,)`. Only TensorFlow operations."""
        raise NotImplementedError(f"{type(self).__name__}.of")

    def learn(self, model, x, batch_size):
        """Sets the weights from held-out in-distribution inputs x."""

    def fit(self, model: HybridModel, x, batch_size: int = 256) -> "Score":
        """Learns from held-out in-distribution inputs what the score needs to know; most need nothing.

        Args:
          model: the trained model.
          x: `(n, *event_shape)`, an array, or a `tf.data.Dataset` of batches: inputs that training has not seen.
          batch_size: rows at a time of an array.

        Returns:
          The score itself.
        """
        check_model(model)
        arguments.check_batch_size(batch_size)
        self.learn(model, x, batch_size)
        if self.needs_fit:
            self.fitted_to.assign(fingerprint(model))
        return self

    def score(self, model: HybridModel, x, batch_size: int = 256) -> np.ndarray:
        """The scores of many inputs, `(n,)`, from one pass; with one batch in memory at a time.

        Args:
          model: the model that the score was fitted to.
          x: `(n, *event_shape)`, an array, or a `tf.data.Dataset` of batches.
          batch_size: rows at a time of an array.

        Raises:
          ValueError: if the score is not fitted, or was to another model; if it does not apply to the model's head;
            if x is empty or no input of the model.
        """
        return run([self], model, x, batch_size)[0]

    def check_applies(self, model):
        """Raises ValueError if this is no score for models such as `model`: for its inputs, or its head."""
        check_model(model)
        shape, dtype = model.distribution.event_shape, model.distribution.dtype
        width = model.distribution.distribution.event_shape.num_elements()
        origin = Forward(model, tf.zeros((1, *shape), dtype), tf.zeros((1, width), dtype), tf.zeros((1,), dtype))
        if np.isnan(self.of(origin)).any():
            raise ValueError(f"{type(self).__name__} is not a number for the head {type(model.head).__name__}.")

    def check_fitted(self, model):
        """Raises ValueError unless this score can be used with `model` as it is now."""
        check_model(model)
        if not self.needs_fit:
            return
        name = type(self).__name__
        if int(self.fitted_to.numpy()) == -1:
            raise ValueError(
                f"{name} is not fitted; wanted `fit(model, x)` with held-out in-distribution inputs first."
            )
        if int(self.fitted_to.numpy()) != fingerprint(model):
            raise ValueError(
                f"{name} was fitted to another model than `model`, or `model` was trained since; wanted the same "
                "weights. Fit it again."
            )


def run(scores, model: HybridModel, x, batch_size: int = 256) -> np.ndarray:
    """Several scores from one pass, `(len(scores), n)`; as `Score.score`."""
    for score in scores:
        score.check_fitted(model)
        score.check_applies(model)
    arguments.check_batch_size(batch_size)
    columns = [[evaluate(s, forward) for s in scores] for forward in forward_batches(model, x, batch_size)]
    return np.concatenate(columns, axis=1)


def evaluate(score: Score, forward: Forward) -> tf.Tensor:
    """`score.of(forward)`, with +inf for NaN."""
    value = score.of(forward)
    return tf.where(tf.math.is_nan(value), tf.constant(np.inf, value.dtype), value)


def check_model(model):
    """Raises ValueError unless `model` is a `HybridModel`."""
    if not isinstance(model, HybridModel):
        raise ValueError(f"model is a {type(model).__name__}; wanted a HybridModel.")


def model_config(model) -> dict:
    """The config of a model inside of another, for inference: without its optimizer."""
    return {key: value for key, value in keras.saving.serialize_keras_object(model).items() if key != "compile_config"}


def fingerprint(*layers) -> int:
    """A checksum of all weights: equal for layers that were saved and loaded, another one after training."""
    crc = 0
    for layer in layers:
        for weight in layer.weights:
            crc = zlib.crc32(np.ascontiguousarray(weight.numpy()).tobytes(), crc)
    return crc


def _minus_one(shape, dtype=None):
    return -tf.ones(shape, dtype)


_register = keras.saving.register_keras_serializable(package="tfp_hybrid")


@_register
class NegativeLogProb(Score):
    """-log p(x) in nats: how unlikely the input is.

    References:
      Bishop 1994, "Novelty detection and neural network validation"; Nalisnick et al. 2019, section 3.1.
    """

    title = "-log p(x)"

    def of(self, forward):
        return -forward.log_prob


@_register
class Typicality(Score):
    """|-log p(x) - H| in nats: how far the input's surprise is from the usual one, in either direction.

    H, the entropy of p(x), is the mean of -log p(x) over the held-out inputs that `fit` gets. Inputs of too *high*
    a density (a blank image, say) score high, too. For whole batches: `drift.typicality_test`.

    References:
      Nalisnick, Matsukawa, Teh and Lakshminarayanan 2019, "Detecting Out-of-Distribution Inputs to Deep Generative
      Models Using Typicality", eq. 5.
    """

    title = "typicality"
    needs_fit = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.entropy = self.add_weight((), "zeros", "float64", trainable=False, autocast=False, name="entropy")

    def learn(self, model, x, batch_size):
        log_prob = np.concatenate([batch.log_prob for batch in forward_batches(model, x, batch_size)])
        if not np.isfinite(log_prob).all():
            raise ValueError(
                f"x has {np.sum(~np.isfinite(log_prob))} inputs whose log p(x) is not finite; wanted held-out "
                "in-distribution inputs."
            )
        self.entropy.assign(-log_prob.mean(dtype="float64"))

    def of(self, forward):
        return tf.abs(-forward.log_prob - tf.cast(self.entropy, forward.log_prob.dtype))


@_register
class PredictiveEntropy(Score):
    """Entropy of p(y|x) in nats: how unsure the prediction is. Knows nothing of p(x)."""

    title = "entropy of p(y|x)"

    def of(self, forward):
        return _of_response(forward, "entropy", "it has no closed form for this head")


@_register
class MaxProbability(Score):
    """1 - max_y p(y|x), for classifiers; for k labels, the probability of the most probable combination.

    References:
      Hendrycks and Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples".
    """

    title = "1 - max p(y|x)"

    def of(self, forward):
        if not forward.model.head.classifies:
            raise ValueError(f"MaxProbability wants a classifier; the head is {type(forward.model.head).__name__}.")
        return -tf.math.expm1(forward.p_y.log_prob(forward.p_y.mode()))


@_register
class PredictiveVariance(Score):
    """Variance of p(y|x), for regression; summed over the entries of a vector response."""

    title = "variance of p(y|x)"

    def of(self, forward):
        if forward.model.head.classifies:
            raise ValueError(f"PredictiveVariance wants a regressor; the head is {type(forward.model.head).__name__}.")
        variance = _of_response(forward, "variance", "this head has none in closed form")
        axes = list(range(1, variance.shape.rank))
        return tf.reduce_sum(variance, axes)


@_register
class JointNegativeLogProb(Score):
    """-log p(x, y-hat) in nats: -log p(x) - log p(y-hat|x) at the most probable response y-hat.

    References:
      Nalisnick et al. 2019, section 2.3, eq. 4: what a hybrid model is for.
    """

    title = "-log p(x, y-hat)"

    def of(self, forward):
        mode = _of_response(forward, "mode", "this head has none in closed form")
        return -forward.log_prob - tf.cast(forward.p_y.log_prob(mode), forward.log_prob.dtype)


@_register
class LatentNorm(Score):
    """||z||, the distance of the latent from the origin: -log p(x) without its Jacobian, if p_z is standard normal."""

    title = "||z||"

    def of(self, forward):
        return tf.norm(forward.z, axis=-1)


def _of_response(forward, method, otherwise):
    try:
        return tf.convert_to_tensor(getattr(forward.p_y, method)())
    except NotImplementedError:
        raise ValueError(f"The {method} of p(y|x) is not known: {otherwise}.") from None
