"""What an exported model answers: everything about x and y in finite numbers, by TensorFlow operations alone."""

import math
import re
from collections.abc import Callable

import keras
import tensorflow as tf

from tfp_hybrid.execution import traced_plainly
from tfp_hybrid.exporting import litert, onnx
from tfp_hybrid.exporting.saved_model import Endpoint, write_saved_model
from tfp_hybrid.heads import decomposition
from tfp_hybrid.models import side_inputs

MEANINGS = {
    "prediction": "E[y|x]: the probabilities of the classes, or a number",
    "uncertainty": "of p(y|x): the entropy in nats for classes, the standard deviation for numbers",
    "aleatoric": "the part that is noise of y: in nats for classes, a variance for numbers",
    "epistemic": "the part that is not knowing the head's coefficients: in nats for classes, a variance for numbers",
    "log_prob_x": "log p(x) in nats",
    "log_prob_features": "log p(features) in nats, of the encoder's features of x",
    "log_prob_y": "log p(y|x) in nats",
    "score": "out-of-distribution score; higher is more out-of-distribution",
    "percentile": "percentage of the held-out rows with a higher score; 0 is the least likely",
    "abstain": "whether the score is above the threshold, or the row is no input of the model",
    "x": "inputs",
    "y": "responses: numbers, or classes as integers",
    "image_bytes": "each a PNG file with 8 bits a channel, as {'b64': ...} in JSON",
}
LOWEST, HIGHEST = tf.float32.min, tf.float32.max
CONVENTION = (
    "All numbers are finite. -inf, and the prediction and log densities of a row that has none (it overflows, or has "
    f"values that `predict` refuses), are {LOWEST:.9g}; its uncertainty and score, and +inf, are {HIGHEST:.9g}."
)
_HIGH_IS_WORSE = ("uncertainty", "aleatoric", "epistemic", "score")
_LARGEST_BYTE = 256
_PNG_CHANNELS = (1, 2, 3, 4)
_SIDE = 32  # of an axis of any size, in a warm-up request


def answers(encoding) -> dict[str, tf.Tensor]:
    """Returns what a model knows about the inputs of one pass, by name as in `MEANINGS`; not yet finite."""
    model, head, found = encoding.model, encoding.model.head, {}
    if head is not None:
        found["prediction"] = head.mean(encoding.p_y)
        uncertainty = _uncertainty(head, encoding, found["prediction"])
        found |= {} if uncertainty is None else {"uncertainty": uncertainty}
        if head.is_integrated:
            parts = decomposition.of_latents([(head, encoding.features)])
            for name in ("aleatoric", "epistemic"):
                value = getattr(parts, name)
                found[name] = tf.reduce_sum(value, list(range(1, value.shape.rank)))
    return found | {f"log_prob_{model.density_of}": encoding.log_prob}


def _uncertainty(head, encoding, mean):
    """As in the tables of `tfp-hybrid score`; None if it has no closed form."""
    try:
        if mean.shape.rank == 2 and head.integer_labels:
            return encoding.p_y.entropy()
        return tf.ensure_shape(encoding.p_y.stddev(), (None, *head.event_shape))
    except NotImplementedError:
        return None


def are_inputs(x, model, side=()) -> tf.Tensor:
    """Returns which rows are something that `predict` would take, `(n,)`.

    Args:
      x: `(n, *input_shape)`.
      model: The `DensityModel`.
      side: What its flow and head see beside x, each `(n, ...)`: not finite for a number that is not, and for the log
        of an exposure that is not positive. Any id is an input.
    """
    spec = model.inputs_spec
    good = tf.math.is_finite(x)
    if spec.columns is not None:
        good |= tf.math.is_nan(x)  # holes
    if spec.levels is not None:
        good &= (x >= 0) & (x < spec.levels) & (x == tf.floor(x))
    good = tf.reduce_all(good, list(range(1, x.shape.rank)))
    for values in side:
        good &= tf.reduce_all(tf.math.is_finite(values), list(range(1, values.shape.rank)))
    return good


def _beside(encoding):
    return [*encoding.side, *([] if encoding.condition is None else [encoding.condition])]


def finite(found: dict[str, tf.Tensor], are_valid: tf.Tensor) -> dict[str, tf.Tensor]:
    """Makes answers finite float32 numbers, as `CONVENTION` says; booleans become True for a row that is not valid."""
    result = {}
    for name, value in found.items():
        valid = tf.reshape(are_valid, [-1] + [1] * (value.shape.rank - 1))
        if value.dtype == tf.bool:
            result[name] = value | ~valid
            continue
        worst = 0.0 if name == "percentile" else HIGHEST if name in _HIGH_IS_WORSE else LOWEST
        # By way of NaN: tf2onnx makes a sum of products of other choices, which is NaN if the one not chosen is.
        value = tf.where(valid, tf.cast(value, tf.float32), tf.constant(math.nan, tf.float32))
        value = tf.where(tf.math.is_nan(value), tf.constant(worst, tf.float32), value)
        result[name] = tf.clip_by_value(value, LOWEST, HIGHEST)
    return result


class Served(keras.Model):
    """A model whose outputs are what is served, for the formats that Keras writes.

    Args:
      model: The `DensityModel`.
      answer: A function of an `Encoding` that returns the answers.
    """

    def __init__(self, model, answer: Callable):
        super().__init__(autocast=False, name=model.name)
        self.model, self.answer = model, answer
        self.built = True

    def call(self, x):
        encoding = self._encoding(x)
        return finite(self.answer(encoding), are_inputs(encoding.x, self.model, _beside(encoding)))

    def log_prob_y(self, x, y) -> dict[str, tf.Tensor]:
        """log p(y|x) of responses that are known later, `(n,)`."""
        encoding = self._encoding(x)
        rows = tf.shape(encoding.x)[0], tf.shape(y)[0]
        tf.debugging.assert_equal(*rows, "x and y have different numbers of rows.")
        log_prob = tf.ensure_shape(encoding.p_y.log_prob(self.model.head.prepare_labels(y)), (None,))
        return finite({"log_prob_y": log_prob}, are_inputs(encoding.x, self.model, _beside(encoding)))

    def _encoding(self, x):
        x = tf.nest.map_structure(tf.convert_to_tensor, x)
        values = tf.cast(side_inputs.main(x), self.model.inputs_spec.dtype)
        return self.model.encode_checked(side_inputs.with_main(x, values))

    def images(self, image_bytes) -> dict[str, tf.Tensor]:
        """The answers about PNG files."""
        shape = self.model.inputs_spec.shape

        def decoded(data):
            return tf.ensure_shape(tf.io.decode_png(data), shape)

        return self.call(tf.map_fn(decoded, image_bytes, fn_output_signature=tf.TensorSpec(shape, tf.uint8)))


def export(
    exported: keras.Model,
    model,
    answer: Callable,
    about: dict,
    filepath,
    format: str = "tf_saved_model",
    verbose: bool | None = None,
    input_signature=None,
    **kwargs,
):
    """Writes a model in one of the formats of `keras.Model.export`; see `DensityModel.export`.

    Args:
      exported: The model whose `__call__` is the endpoint "serve".
      model: The `DensityModel` in it, or itself.
      answer: As for `Served`.
      about: More for `signature.json`.
      filepath: As for `keras.Model.export`, and the arguments after it.
    """
    if format != "tf_saved_model":
        side_inputs.check_none(model, f"export, with the format {format!r}")
    served, x = Served(model, answer), _specs(model, input_signature)
    if format == "tf_saved_model":
        if kwargs:
            raise ValueError(f"export: {sorted(kwargs)} do not belong to the format {format!r}.")
        about = {"model": type(exported).__name__, "numbers": CONVENTION} | _inputs(model) | about
        of_inputs = MEANINGS | _side_meanings(model)
        write_saved_model(filepath, exported, _endpoints(exported, served, x), of_inputs, MEANINGS, about)
    elif format == "onnx":
        onnx.write_onnx(filepath, served.call, x, MEANINGS, **kwargs)
    elif format == "litert":
        litert.write_litert(filepath, served, x, **kwargs)
    else:
        with traced_plainly():
            keras.Model.export(served, filepath, format, verbose=False, input_signature=[x], **kwargs)
    if verbose is None or verbose:
        print(f"Saved artifact at '{filepath}'.")


def _specs(model, input_signature):
    """The spec of inputs with the names that they have for a client; a dict of specs for a model with side inputs."""
    (given,) = input_signature or model.input_signature
    names = [side_inputs.X, *model.side_inputs]
    if not model.side_inputs:
        return tf.TensorSpec(given.shape, given.dtype, name=side_inputs.X)
    if not side_inputs.is_dict(given) or set(given) != set(names):
        raise ValueError(f"export: `input_signature` is {[given]}; wanted a list with a dict of {names}.")
    served_names = [*map(_served_name, names), "y"]
    if len(set(served_names)) < len(served_names):
        raise ValueError(
            f"export: the side inputs {names[1:]} would be {served_names[1:-1]} in a request; wanted names that differ "
            "from one another, and from 'x' and 'y', in letters of ASCII, digits and '_'."
        )
    return {name: tf.TensorSpec(given[name].shape, given[name].dtype, name=_served_name(name)) for name in names}


def _served_name(name):
    """The name of an input in a request, where TensorFlow takes few characters; "person id" becomes "person_id"."""
    name = re.sub("[^A-Za-z0-9_]", "_", name)
    return name if name[0] != "_" else f"input{name}"


def _side_meanings(model):
    """What each side input is, in words, by its name in a request."""
    found = {}
    for name, spec in model.side_inputs.items():
        if name in model.flow_inputs:
            found[_served_name(name)] = f"the c of p(x | c), numbers of shape {tuple(spec.shape)} for each row"
            continue
        of_ids = f"{name!r}, the id of the group of each row; an id that was not in training has the effect 0"
        found[_served_name(name)] = f"{name!r}, a number for each row" if spec.dtype.is_floating else of_ids
    return found


def _endpoints(exported, served, x):
    """The signatures of a SavedModel, with a request of each that it can answer."""
    model, head, spec = served.model, served.model.head, served.model.inputs_spec
    shape, x_spec = [size or _SIDE for size in spec.shape], side_inputs.main(x)
    row = tf.zeros([1, *shape], x_spec.dtype)
    if model.side_inputs:
        row = {side_inputs.X: row} | model.example_side_inputs()
    endpoints = {
        "serving_default": Endpoint(served.call, [x], [row]),
        "serve": Endpoint(exported.__call__, [x], [row]),
    }
    if head is not None:
        dtype = tf.int32 if head.integer_labels else tf.as_dtype(head.variable_dtype)
        y = tf.TensorSpec((x_spec.shape[0], *head.event_shape), dtype, name="y")
        endpoints["log_prob_y"] = Endpoint(served.log_prob_y, [x, y], [row, tf.zeros([1, *head.event_shape], dtype)])
    if _takes_images(model):
        image_bytes = tf.TensorSpec((x.shape[0],), tf.string, name="image_bytes")
        example = tf.io.encode_png(tf.zeros(shape, tf.uint8))[tf.newaxis]
        endpoints["images"] = Endpoint(served.images, [image_bytes], [example])
    return endpoints


def _takes_images(model) -> bool:
    """Whether inputs are images of bytes, and nothing beside."""
    spec = model.inputs_spec
    are_bytes = model.encoder is not None or (spec.levels is not None and spec.levels <= _LARGEST_BYTE)
    return not model.side_inputs and are_bytes and len(spec.shape) == 3 and spec.shape[-1] in _PNG_CHANNELS


def _inputs(model):
    """What the entries of x are, if they have names."""
    columns = model.inputs_spec.columns
    if columns is None:
        return {"feature_names": list(model.feature_names)} if model.feature_names else {}
    levels = [getattr(column.kind, "levels", None) for column in columns.columns]
    return {
        "columns": [
            {"name": column.name, "kind": column.kind.describe()} | ({"levels": list(map(str, found))} if found else {})
            for column, found in zip(columns.columns, levels, strict=True)
        ]
    }
