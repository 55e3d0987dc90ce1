"""Out-of-distribution scores of single inputs, from one pass through a model; higher is more out-of-distribution."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.bijectors import one_pass
from tfp_hybrid.fingerprint import fingerprint
from tfp_hybrid.models import DensityModel, Encoding, side_inputs
from tfp_hybrid.models.encoding import encode_batches

_ANY_SIZE = 32  # of an axis of any size


class Score(keras.layers.Layer):
    """A number for each input, which is higher the less the input resembles the training data.

    A score is a Keras layer, so that its weights are saved and loaded with the object that holds it (such as a
    `Rejector`). Where it is NaN, because the density or the latent of an input overflows, it is replaced by +inf.

    To write a score, set `title` and write `of(encoding)`. A score that learns from held-out in-distribution inputs
    also sets `needs_fit = True`, keeps what it learns in weights, or in arrays if their shapes depend on the inputs
    (`add_array`), and writes `learn`.

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
        self.arrays = {}
        if self.needs_fit:
            self.fitted_to = self.add_weight((), _minus_one, "int64", trainable=False, name="fitted_to")
        self.built = True

    def __repr__(self):
        state = f"fitted={self.is_fitted}" if self.needs_fit else ""
        return f"{type(self).__name__}({state})"

    @property
    def is_fitted(self) -> bool:
        """Whether the score needs no fit or was fitted."""
        return not self.needs_fit or int(self.fitted_to.numpy()) != -1

    def add_array(self, name: str) -> tf.Variable:
        """Returns a variable of numbers whose shape `learn` determines by assigning them; saved with the weights."""
        self.arrays[name] = tf.Variable(np.zeros(0, "float32"), False, name=name, shape=tf.TensorShape(None))
        return self.arrays[name]

    @property
    def learned(self) -> list:
        """All weights and arrays, those of scores inside included."""
        return [*self.weights, *self.arrays.values()]

    def applies(self, model: DensityModel) -> bool:
        """Returns whether this score applies to the inputs and the head of `model`."""
        try:
            self.check_applies(model)
        except ValueError:
            return False
        return True

    def save_own_variables(self, store):
        super().save_own_variables(store)
        for name, array in self.arrays.items():
            store[name] = array.numpy()

    def load_own_variables(self, store):
        super().load_own_variables({key: store[key] for key in store.keys() if key not in self.arrays})
        for name, array in self.arrays.items():
            array.assign(np.asarray(store[name]))

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
        if self.arrays and not self.is_fitted:  # nothing can be computed yet
            return
        p_x = model.distribution
        x, z = (tf.zeros((1, *of.event_shape), of.dtype) for of in (p_x, p_x.distribution))
        given = model.example_side_inputs()
        beside = dict(side=side_inputs.columns(model, given), condition=side_inputs.condition_in(given))
        levels = len(one_pass.level_sizes(p_x.bijector, p_x.event_shape))
        log_p_z, log_dets = tf.zeros((1,), p_x.dtype), tf.zeros((1, levels), p_x.dtype)
        if model.encoder is None:
            origin = Encoding(model, x, z, log_p_z, log_dets, **beside)
        else:
            taken = tf.zeros((1, *(size or _ANY_SIZE for size in model.inputs_spec.shape)), model.inputs_spec.dtype)
            origin = Encoding(model, taken, z, log_p_z, log_dets, x, **beside)
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
        if not self.is_fitted:
            raise ValueError(f"{name} is not fitted; call `fit(model, x)` with held-out in-distribution inputs first.")
        if int(self.fitted_to.numpy()) != fingerprint(model):
            raise ValueError(
                f"{name} was fitted to another model than `model`, or `model` was trained since; call `fit(model, x)` "
                "again."
            )


class Composite(Score):
    """A score of several scores, which are saved with it.

    Args:
      scores: `Score`s; None leaves them to `learn`.
      **kwargs: Passed to `Score`.
    """

    def __init__(self, scores: Sequence[Score] | None, **kwargs):
        super().__init__(**kwargs)
        if scores is not None and (not scores or not all(isinstance(score, Score) for score in scores)):
            raise ValueError(f"{type(self).__name__} got the scores {scores}; wanted at least one `Score`.")
        self.scores = scores and list(scores)

    @property
    def learned(self) -> list:
        """All weights and arrays, those of the scores inside included."""
        inside = [array for score in self.scores or () for array in score.learned]
        return [*super().learned, *inside]

    def check_applies(self, model: DensityModel):
        """Raises ValueError if one of the scores does not apply to the inputs or the head of `model`."""
        check_model(model)
        for score in self.scores or ():
            score.check_applies(model)

    def get_config(self) -> dict:
        scores = self.scores and [keras.saving.serialize_keras_object(score) for score in self.scores]
        return super().get_config() | {"scores": scores}

    @classmethod
    def from_config(cls, config: dict):
        name = "scores" if "scores" in config else "statistics"
        scores = config[name] and [keras.saving.deserialize_keras_object(score) for score in config[name]]
        return cls(**config | {name: scores})


def split(x, parts: int) -> tuple:
    """Returns every parts-th row of x, an array or a `tf.data.Dataset` of batches, and all others."""
    if not isinstance(x, tf.data.Dataset):
        if side_inputs.is_dict(x):
            x = {name: one if hasattr(one, "iloc") else np.asarray(one) for name, one in x.items()}
        else:
            x = x if hasattr(x, "iloc") else np.asarray(x)
        chosen = np.arange(side_inputs.count(x)) % parts == 0
        return side_inputs.take(x, chosen), side_inputs.take(x, ~chosen)
    rows = x.unbatch().enumerate()
    chosen = rows.filter(lambda i, *_: i % parts == 0)
    others = rows.filter(lambda i, *_: i % parts != 0)
    return tuple(part.map(lambda _, row: row).batch(256) for part in (chosen, others))


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


def level_of(levels: list, score: Score):
    """Returns the item of `levels` for `score.level`; raises ValueError if the flow has no such level."""
    if not -len(levels) <= score.level < len(levels):
        raise ValueError(
            f"{type(score).__name__}: `level` is {score.level}; wanted one of the flow's {len(levels)}, counted from 0."
        )
    return levels[score.level]


def check_model(model):
    """Raises ValueError unless `model` is a `DensityModel`, such as a `HybridModel`."""
    if not isinstance(model, DensityModel):
        raise ValueError(f"model is a {type(model).__name__}; wanted a HybridModel or a DensityModel.")


def check_classifier(model, name: str):
    """Raises ValueError unless `model` has a head for one label of several classes."""
    check_head(model)
    if model.head.num_classes is None:
        raise ValueError(f"{name}: the head is {type(model.head).__name__}; wanted a classifier.")


def classes_of(encoding: Encoding) -> tf.Tensor:
    """Returns the classes that a classifier predicts, `(n,)`."""
    mean = encoding.model.head.mean(encoding.p_y)
    return tf.argmax(mean, -1, tf.int32) if mean.shape.rank == 2 else tf.cast(mean > 0.5, tf.int32)


def check_head(model):
    """Raises ValueError unless `model` has a head for p(y|x), as a `HybridModel` does."""
    check_model(model)
    if model.head is None:
        raise ValueError("model is a DensityModel, which has no p(y|x); wanted a HybridModel.")


def model_config(model: keras.Model) -> dict:
    """Returns the config of a model inside another, for inference: without its optimizer."""
    return {key: value for key, value in keras.saving.serialize_keras_object(model).items() if key != "compile_config"}


def _minus_one(shape, dtype=None):
    return -tf.ones(shape, dtype)
