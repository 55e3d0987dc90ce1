"""Out-of-distribution scores of single inputs, from one pass through a model; higher is more out-of-distribution."""

import weakref
import zlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.models.encoding import encode_batches


class Score(keras.layers.Layer):
    """A number for each input, which is higher the less the input resembles the training data.

    A score is a Keras layer, so that its weights are saved and loaded with the object that holds it (such as a
    `Rejector`). Where it is NaN, because the density or the latent of an input overflows, it is replaced by +inf.

    To write a score, set `title` and write `of(encoding)`. A score that learns from held-out in-distribution inputs
    also sets `needs_fit = True`, keeps what it learns in weights, and writes `learn`.

    Args:
      **kwargs: Passed to `keras.layers.Layer`.

    Attributes:
      title: The name of the score in tables and plots.
      needs_fit: Whether the score must be fitted before use.
    """

    title = ""
    needs_fit = False

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")  # whatever the precision of the model
        super().__init__(**kwargs)
        if self.needs_fit:
            self.fitted_to = self.add_weight((), _minus_one, "int64", trainable=False, name="fitted_to")
        self.built = True

    def __repr__(self):
        state = f"fitted={int(self.fitted_to.numpy()) != -1}" if self.needs_fit else ""
        return f"{type(self).__name__}({state})"

    def of(self, encoding: Encoding) -> tf.Tensor:
        """Returns the scores of a batch, `(n,)`, by TensorFlow operations only."""
        raise NotImplementedError(f"{type(self).__name__}.of")

    def learn(self, model: DensityModel, x, batch_size: int):
        """Sets the weights from held-out in-distribution inputs x; most scores have none."""

    def fit(self, model: DensityModel, x, batch_size: int = 256) -> "Score":
        """Fits the score to held-out in-distribution inputs; most scores need no fit.

        Args:
          model: The trained model.
          x: Inputs that were not used in training: an array `(n, *event_shape)`, or a `tf.data.Dataset` of batches.
          batch_size: The number of rows in a batch of an array.

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
        """Returns the scores of inputs, `(n,)`, computed in batches.

        Args:
          model: The model that the score was fitted to.
          x: An array `(n, *event_shape)`, or a `tf.data.Dataset` of batches.
          batch_size: The number of rows in a batch of an array.

        Raises:
          ValueError: If the score is not fitted or was fitted to another model, if it does not apply to the model, or
            if the model cannot take x.
        """
        return run([self], model, x, batch_size)[0]

    def check_applies(self, model: DensityModel):
        """Raises ValueError if this score does not apply to the inputs or the head of `model`."""
        check_model(model)
        p_x, zero = model.distribution, tf.zeros((1,), model.distribution.dtype)
        x, z = (tf.zeros((1, *of.event_shape), of.dtype) for of in (p_x, p_x.distribution))
        origin = Encoding(model, x, z, zero, zero)
        if np.isnan(self.of(origin)).any():
            raise ValueError(
                f"{type(self).__name__} is NaN for the head {type(model.head).__name__}; wanted another score."
            )

    def check_fitted(self, model: DensityModel):
        """Raises ValueError unless the score needs no fit or was fitted to `model` with its current weights."""
        check_model(model)
        if not self.needs_fit:
            return
        name = type(self).__name__
        if int(self.fitted_to.numpy()) == -1:
            raise ValueError(f"{name} is not fitted; call `fit(model, x)` with held-out in-distribution inputs first.")
        if int(self.fitted_to.numpy()) != fingerprint(model):
            raise ValueError(
                f"{name} was fitted to another model than `model`, or `model` was trained since; call `fit(model, x)` "
                "again."
            )


def run(scores: Sequence[Score], model: DensityModel, x, batch_size: int = 256) -> np.ndarray:
    """Computes several scores in one pass, `(len(scores), n)`; see `Score.score`."""
    for score in scores:
        score.check_fitted(model)
        score.check_applies(model)
    arguments.check_batch_size(batch_size)
    columns = [[evaluate(s, encoding) for s in scores] for encoding in encode_batches(model, x, batch_size)]
    return np.concatenate(columns, axis=1)


def evaluate(score: Score, encoding: Encoding) -> tf.Tensor:
    """Returns `score.of(encoding)`, with +inf in place of NaN."""
    value = score.of(encoding)
    return tf.where(tf.math.is_nan(value), tf.constant(np.inf, value.dtype), value)


def check_model(model):
    """Raises ValueError unless `model` is a `DensityModel`, such as a `HybridModel`."""
    if not isinstance(model, DensityModel):
        raise ValueError(f"model is a {type(model).__name__}; wanted a HybridModel or a DensityModel.")


def check_head(model):
    """Raises ValueError unless `model` has a head for p(y|x), as a `HybridModel` does."""
    check_model(model)
    if model.head is None:
        raise ValueError("model is a DensityModel, which has no p(y|x); wanted a HybridModel.")


def model_config(model: keras.Model) -> dict:
    """Returns the config of a model inside another, for inference: without its optimizer."""
    return {key: value for key, value in keras.saving.serialize_keras_object(model).items() if key != "compile_config"}


def fingerprint(*layers: keras.layers.Layer) -> int:
    """Returns a checksum of all weights, which saving and loading keep, and training changes.

    It is computed again only for layers that have changed since the last call; on a GPU, always. (The values of the
    last call are kept, which takes the memory of another copy of the weights once they are trained further.)
    """
    crc = 0
    for layer in layers:
        crc = _checksum(layer, crc)
    return crc


_CHECKSUMS = weakref.WeakKeyDictionary()  # a layer: its values, their addresses, the checksums before and after


def _checksum(layer, crc):
    """Returns the CRC that continues `crc` with the weights of a layer.

    TensorFlow never changes a value that it has returned: an updated weight gets other memory as long as its old value
    is kept. So a weight at the same address has not changed.
    """
    values = [np.ascontiguousarray(tf.convert_to_tensor(weight.value)) for weight in _weights_in_order(layer)]
    addresses = [value.ctypes.data for value in values]
    before = _CHECKSUMS.get(layer)
    if before is not None and before[1:3] == (addresses, crc):
        return before[3]
    found = crc
    for value in values:
        found = zlib.crc32(value.tobytes(), found)
    _CHECKSUMS[layer] = values, addresses, crc, found
    return found


def _weights_in_order(layer):
    """Returns the weights of a layer, in an order that does not depend on what was frozen when it was built."""
    if not isinstance(layer, DensityModel):
        return layer.weights
    return [*layer.density.ordered_variables(), *(() if layer.head is None else layer.head.weights)]


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

    def of(self, encoding: Encoding) -> tf.Tensor:
        return -encoding.log_prob


@_register
class Typicality(Score):
    """|-log p(x) - H| in nats: how far -log p(x) is from its usual value, in either direction.

    H, the entropy of p(x), is the mean of -log p(x) over the held-out inputs passed to `fit`. Inputs with too *high* a
    density, such as a blank image, also have a high score. `drift.typicality_test` tests whole batches.

    References:
      Nalisnick, Matsukawa, Teh and Lakshminarayanan 2019, "Detecting Out-of-Distribution Inputs to Deep Generative
      Models Using Typicality", eq. 5.
    """

    title = "typicality"
    needs_fit = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.entropy = self.add_weight((), "zeros", "float64", trainable=False, autocast=False, name="entropy")

    def learn(self, model: DensityModel, x, batch_size: int):
        log_prob = np.concatenate([batch.log_prob for batch in encode_batches(model, x, batch_size)])
        if not np.isfinite(log_prob).all():
            raise ValueError(
                f"x has {np.sum(~np.isfinite(log_prob))} inputs whose log p(x) is not finite; wanted held-out "
                "in-distribution inputs."
            )
        self.entropy.assign(-log_prob.mean(dtype="float64"))

    def of(self, encoding: Encoding) -> tf.Tensor:
        return tf.abs(-encoding.log_prob - tf.cast(self.entropy, encoding.log_prob.dtype))


@_register
class PredictiveEntropy(Score):
    """The entropy of p(y|x) in nats: the uncertainty of the prediction, which does not depend on p(x)."""

    title = "entropy of p(y|x)"

    def of(self, encoding: Encoding) -> tf.Tensor:
        return _response_statistic(encoding, "entropy")


@_register
class MaxProbability(Score):
    """1 - max_y p(y|x), for classifiers; for k labels, the probability of the most probable combination.

    References:
      Hendrycks and Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples".
    """

    title = "1 - max p(y|x)"

    def of(self, encoding: Encoding) -> tf.Tensor:
        check_head(encoding.model)
        if not encoding.model.head.classifies:
            head = type(encoding.model.head).__name__
            raise ValueError(f"MaxProbability: the head is {head}; wanted a classifier.")
        return -tf.math.expm1(encoding.p_y.log_prob(encoding.p_y.mode()))


@_register
class PredictiveVariance(Score):
    """The variance of p(y|x), for regression; summed over the entries of a vector response."""

    title = "variance of p(y|x)"

    def of(self, encoding: Encoding) -> tf.Tensor:
        check_head(encoding.model)
        if encoding.model.head.classifies:
            raise ValueError(
                f"PredictiveVariance: the head is {type(encoding.model.head).__name__}; wanted a regressor."
            )
        variance = _response_statistic(encoding, "variance")
        axes = list(range(1, variance.shape.rank))
        return tf.reduce_sum(variance, axes)


@_register
class JointNegativeLogProb(Score):
    """-log p(x, y-hat) in nats: -log p(x) - log p(y-hat|x) at the most probable response y-hat.

    References:
      Nalisnick et al. 2019, section 2.3, eq. 4.
    """

    title = "-log p(x, y-hat)"

    def of(self, encoding: Encoding) -> tf.Tensor:
        mode = _response_statistic(encoding, "mode")
        return -encoding.log_prob - tf.cast(encoding.p_y.log_prob(mode), encoding.log_prob.dtype)


@_register
class LatentNorm(Score):
    """||z||, the distance of the latent from the origin.

    If p_z is standard normal, it ranks inputs as -log p(x) without the log-determinant.
    """

    title = "||z||"

    def of(self, encoding: Encoding) -> tf.Tensor:
        return tf.norm(encoding.features, axis=-1)


def _response_statistic(encoding, method):
    """Returns the entropy, variance or mode of p(y|x)."""
    check_head(encoding.model)
    try:
        return tf.convert_to_tensor(getattr(encoding.p_y, method)())
    except NotImplementedError:
        head = type(encoding.model.head).__name__
        raise ValueError(f"The {method} of p(y|x) is not known for the head {head}; wanted another score.") from None
