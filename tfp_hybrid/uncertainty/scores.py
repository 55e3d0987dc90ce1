"""Out-of-distribution scores of single inputs, from one pass through a model. Higher means more out-of-distribution."""

import weakref
import zlib

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.models.encoding import encode_batches


class Score(keras.layers.Layer):
    """A number for each input that is higher the less the input is like the training data.

    A Keras layer, so that what it learns is saved and loaded with whatever holds it (such as a `Rejector`).

    To write one: set `title`, and write `of(encoding)`. A score that learns something from held-out in-distribution
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

    def __repr__(self):
        state = f"fitted={int(self.fitted_to.numpy()) != -1}" if self.needs_fit else ""
        return f"{type(self).__name__}({state})"

    def of(self, encoding: Encoding) -> tf.Tensor:
        """The scores of a batch, `(n,)`. Only TensorFlow operations."""
        raise NotImplementedError(f"{type(self).__name__}.of")

    def learn(self, model, x, batch_size):
        """Sets the weights from held-out in-distribution inputs x."""

    def fit(self, model: DensityModel, x, batch_size: int = 256) -> "Score":
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

    def score(self, model: DensityModel, x, batch_size: int = 256) -> np.ndarray:
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
        p_x, zero = model.distribution, tf.zeros((1,), model.distribution.dtype)
        x, z = (tf.zeros((1, *of.event_shape), of.dtype) for of in (p_x, p_x.distribution))
        origin = Encoding(model, x, z, zero, zero)
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


def run(scores, model: DensityModel, x, batch_size: int = 256) -> np.ndarray:
    """Several scores from one pass, `(len(scores), n)`; as `Score.score`."""
    for score in scores:
        score.check_fitted(model)
        score.check_applies(model)
    arguments.check_batch_size(batch_size)
    columns = [[evaluate(s, encoding) for s in scores] for encoding in encode_batches(model, x, batch_size)]
    return np.concatenate(columns, axis=1)


def evaluate(score: Score, encoding: Encoding) -> tf.Tensor:
    """`score.of(encoding)`, with +inf for NaN."""
    value = score.of(encoding)
    return tf.where(tf.math.is_nan(value), tf.constant(np.inf, value.dtype), value)


def check_model(model):
    """Raises ValueError unless `model` is a `DensityModel`, such as a `HybridModel`."""
    if not isinstance(model, DensityModel):
        raise ValueError(f"model is a {type(model).__name__}; wanted a HybridModel or a DensityModel.")


def check_head(model):
    """Raises ValueError unless `model` has p(y|x), as a `HybridModel` has."""
    check_model(model)
    if model.head is None:
        raise ValueError("model is a DensityModel, which has no p(y|x); wanted a HybridModel.")


def model_config(model) -> dict:
    """The config of a model inside of another, for inference: without its optimizer."""
    return {key: value for key, value in keras.saving.serialize_keras_object(model).items() if key != "compile_config"}


def fingerprint(*layers) -> int:
    """A checksum of all weights: equal for layers that were saved and loaded, another one after training.

    It is computed anew only for a layer that has changed since it was last asked for.
    """
    crc = 0
    for layer in layers:
        crc = _checksum(layer, crc)
    return crc


_CHECKSUMS = weakref.WeakKeyDictionary()  # from a layer to its values, and the checksums before and after them


def _checksum(layer, crc):
    """The CRC of `crc` and a layer's weights.

    TensorFlow never alters a value that it has handed out: a weight that is updated gets other memory as long as its
    old value is kept. So a weight at the same address has not changed.
    """
    values = [np.ascontiguousarray(tf.convert_to_tensor(weight.value)) for weight in layer.weights]
    addresses = [value.ctypes.data for value in values]
    before = _CHECKSUMS.get(layer)
    if before is not None and before[1:3] == (addresses, crc):
        return before[3]
    found = crc
    for value in values:
        found = zlib.crc32(value.tobytes(), found)
    _CHECKSUMS[layer] = values, addresses, crc, found
    return found


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

    def of(self, encoding):
        return -encoding.log_prob


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
        log_prob = np.concatenate([batch.log_prob for batch in encode_batches(model, x, batch_size)])
        if not np.isfinite(log_prob).all():
            raise ValueError(
                f"x has {np.sum(~np.isfinite(log_prob))} inputs whose log p(x) is not finite; wanted held-out "
                "in-distribution inputs."
            )
        self.entropy.assign(-log_prob.mean(dtype="float64"))

    def of(self, encoding):
        return tf.abs(-encoding.log_prob - tf.cast(self.entropy, encoding.log_prob.dtype))


@_register
class PredictiveEntropy(Score):
    """Entropy of p(y|x) in nats: how unsure the prediction is. Knows nothing of p(x)."""

    title = "entropy of p(y|x)"

    def of(self, encoding):
        return _of_response(encoding, "entropy", "it has no closed form for this head")


@_register
class MaxProbability(Score):
    """1 - max_y p(y|x), for classifiers; for k labels, the probability of the most probable combination.

    References:
      Hendrycks and Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples".
    """

    title = "1 - max p(y|x)"

    def of(self, encoding):
        check_head(encoding.model)
        if not encoding.model.head.classifies:
            raise ValueError(f"MaxProbability wants a classifier; the head is {type(encoding.model.head).__name__}.")
        return -tf.math.expm1(encoding.p_y.log_prob(encoding.p_y.mode()))


@_register
class PredictiveVariance(Score):
    """Variance of p(y|x), for regression; summed over the entries of a vector response."""

    title = "variance of p(y|x)"

    def of(self, encoding):
        check_head(encoding.model)
        if encoding.model.head.classifies:
            raise ValueError(f"PredictiveVariance wants a regressor; the head is {type(encoding.model.head).__name__}.")
        variance = _of_response(encoding, "variance", "this head has none in closed form")
        axes = list(range(1, variance.shape.rank))
        return tf.reduce_sum(variance, axes)


@_register
class JointNegativeLogProb(Score):
    """-log p(x, y-hat) in nats: -log p(x) - log p(y-hat|x) at the most probable response y-hat.

    References:
      Nalisnick et al. 2019, section 2.3, eq. 4: what a hybrid model is for.
    """

    title = "-log p(x, y-hat)"

    def of(self, encoding):
        mode = _of_response(encoding, "mode", "this head has none in closed form")
        return -encoding.log_prob - tf.cast(encoding.p_y.log_prob(mode), encoding.log_prob.dtype)


@_register
class LatentNorm(Score):
    """||z||, the distance of the latent from the origin: -log p(x) without its Jacobian, if p_z is standard normal."""

    title = "||z||"

    def of(self, encoding):
        return tf.norm(encoding.features, axis=-1)


def _of_response(encoding, method, otherwise):
    check_head(encoding.model)
    try:
        return tf.convert_to_tensor(getattr(encoding.p_y, method)())
    except NotImplementedError:
        raise ValueError(f"The {method} of p(y|x) is not known: {otherwise}.") from None
