"""What a model takes: the x that its flow models, or inputs of an encoder whose features the flow models."""

import functools

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.execution import graph_function
from tfp_hybrid.fingerprint import fingerprint
from tfp_hybrid.models import condition, encoders, input_spec, served, side_inputs
from tfp_hybrid.models.checked_model import CheckedModel
from tfp_hybrid.models.input_spec import InputSpec

tfd = tfp.distributions
_UNKNOWN = -1  # no fingerprint
_ROWS_AT_ONCE = 64  # an encoder of images takes much memory for each


class EncodedModel(CheckedModel):
    """A checked model of x, or of the features h = encoder(x).

    A subclass has `distribution`, that of x or of h.

    `objective` is the loss of the model in words, with p(x) for the density.

    Args:
      distribution: The distribution that the model will have.
      encoder: A Keras model, or None. See `DensityModel`.
      train_encoder: Whether the encoder is trained, too.
      **kwargs: Passed to `keras.Model`.
    """

    objective = ""
    can_train_encoder = False

    def __init__(self, distribution, encoder=None, train_encoder=False, **kwargs):
        if encoder is not None:
            encoders.check_encoder(encoder, distribution, type(self).__name__)
        self._check_train_encoder(train_encoder, encoder)
        super().__init__(**kwargs)
        self.encoder, self._train_encoder = encoder, bool(train_encoder)
        self._feature_names = None
        if encoder is not None:
            # Of the weights with which the density was fitted.
            unknown = keras.initializers.Constant(_UNKNOWN)
            self.encoder_fingerprint = self.add_weight(
                (), unknown, "int64", trainable=False, name="encoder_fingerprint"
            )

    @property
    def train_encoder(self) -> bool:
        """Whether the encoder is trained together with flow and head. Compile the model again after a change."""
        return self._train_encoder

    @train_encoder.setter
    def train_encoder(self, train):
        self._check_train_encoder(train, self.encoder)
        self._train_encoder = bool(train)

    def _check_train_encoder(self, train, encoder):
        name = type(self).__name__
        if train and encoder is None:
            raise ValueError(f"{name}: `train_encoder` is {train!r}, but there is no `encoder`.")
        if train and not self.can_train_encoder:
            raise ValueError(
                f"{name}: `train_encoder` is {train!r}; wanted False: log p(features) has no maximum over encoders, "
                "since features that shrink to a point have any density. A HybridModel trains one, on log p(y|x)."
            )

    @property
    def has_frozen_encoder(self) -> bool:
        """Whether there is an encoder that is not trained."""
        return self.encoder is not None and not self.train_encoder

    @functools.cached_property
    def inputs_spec(self) -> InputSpec:
        """The shape and values of one input."""
        if self.encoder is None:
            return input_spec.of_distribution(self.distribution)
        return input_spec.of_encoder(self.encoder)

    @functools.cached_property
    def flow_inputs(self) -> dict[str, tf.TensorSpec]:
        """What the flow takes of a row beside x, by name: the "condition" c of p(x | c); nothing for most flows."""
        return condition.spec(self.distribution)

    @property
    def side_inputs(self) -> dict[str, tf.TensorSpec]:
        """What flow and head take of a row beside x, by name; with any, the model takes inputs as a dict."""
        return self.flow_inputs | ({} if self.head is None else self.head.side_inputs)

    def check_side_inputs(self, given: dict, argument: str = "x") -> dict[str, np.ndarray]:
        """Checks side inputs and converts them to the dtypes in which a step takes them.

        Raises:
          ValueError: If one is not as the flow or the head wants it; `argument` begins the message.
        """
        found = {name: condition.checked(given[name], spec, argument) for name, spec in self.flow_inputs.items()}
        return found if self.head is None else found | self.head.check_side_inputs(given, argument)

    def example_side_inputs(self) -> dict[str, tf.Tensor]:
        """Side inputs of one row, to find out shapes."""
        found = {name: tf.zeros((1, *spec.shape), spec.dtype) for name, spec in self.flow_inputs.items()}
        return found if self.head is None else found | self.head.example_side_inputs()

    @property
    def input_signature(self) -> list[keras.InputSpec]:
        """What an exported model takes: batches of any size; a dict with side inputs."""
        x = keras.InputSpec(shape=(None, *self.inputs_spec.shape), dtype=self.inputs_spec.dtype.name)
        side = {
            name: keras.InputSpec(shape=(None, *one.shape), dtype=one.dtype.name)
            for name, one in self.side_inputs.items()
        }
        return [{side_inputs.X: x} | side if side else x]

    @property
    def symbolic_batch(self) -> tuple:
        """`(x, y, None)` of no particular rows."""
        spec, head = self.inputs_spec, self.head
        x = keras.KerasTensor((None, *spec.shape), spec.dtype.name)
        if self.side_inputs:
            side = {
                name: keras.KerasTensor((None, *one.shape), one.dtype.name) for name, one in self.side_inputs.items()
            }
            x = {side_inputs.X: x} | side
        y = None
        if head is not None:
            y = keras.KerasTensor((None, *head.event_shape), "int32" if head.integer_labels else head.variable_dtype)
        return x, y, None

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """The names of the entries of x, if x is a vector and they are known; saved with the model.

        `fit` takes them from a DataFrame. From then on, the columns of any DataFrame are matched by name.
        """
        columns = self.inputs_spec.columns
        return columns.names if columns is not None else self._feature_names

    @feature_names.setter
    def feature_names(self, names):
        shape = self.inputs_spec.shape
        names = None if names is None else [names] if isinstance(names, str) else list(names)
        if names is not None:
            good = all(isinstance(name, str) for name in names) and (len(set(names)),) == (len(names),) == shape
            if not good:
                raise ValueError(
                    f"feature_names is {names!r}; wanted a different name for each of the entries of x, {shape}."
                )
        self._feature_names = None if names is None else tuple(names)

    @property
    def density_of(self) -> str:
        """What the density is of: "x", or "features" if there is an encoder."""
        return "x" if self.encoder is None else "features"

    @property
    def loss(self) -> str:
        """What is minimized, in words. (Keras' wrappers for scikit-learn want a compiled model to have a loss.)"""
        return self.objective.replace("p(x)", f"p({self.density_of})")

    @loss.setter
    def loss(self, given):  # by `compile`
        self._given_loss = given

    @property
    def trainable_variables(self):
        """As in Keras, without those of a frozen encoder."""
        return self._without_frozen(super().trainable_variables)

    @property
    def trainable_weights(self):
        """As in Keras, without those of a frozen encoder."""
        return self._without_frozen(super().trainable_weights)

    @property
    def non_trainable_variables(self):
        """As in Keras, with those of a frozen encoder."""
        trained = {id(variable) for variable in self.trainable_variables}
        return [variable for variable in self.variables if id(variable) not in trained]

    @property
    def non_trainable_weights(self):
        """As in Keras, with those of a frozen encoder."""
        trained = {id(weight) for weight in self.trainable_weights}
        return [weight for weight in self.weights if id(weight) not in trained]

    @property
    def changing_variables(self):
        """What training may change: all variables but those of a frozen encoder."""
        return self._without_frozen(self.variables)

    def _without_frozen(self, variables):
        # An encoder's own `trainable` stays as it is: the user may train it elsewhere.
        frozen = {id(one) for one in self.encoder.variables} if self.has_frozen_encoder else ()
        return [variable for variable in variables if id(variable) not in frozen]

    def flow_input(self, x, training: bool = False) -> tf.Tensor:
        """Returns what the flow sees of a batch x without side inputs: x itself, or its features."""
        if side_inputs.is_cached(x):
            return x[side_inputs.KEY]
        spec, dtype = self.inputs_spec, self.distribution.dtype
        if self.encoder is not None:
            x = self.encoder(tf.cast(x, spec.dtype), training=training and self.train_encoder)
        return x if spec.levels is not None else tf.cast(x, dtype)  # integers stay as they are for the dequantization

    def encode_frozen(self, x):
        """Returns a batch of a training step with its features in place of x, if the encoder is frozen."""
        if self.has_frozen_encoder and not side_inputs.is_cached(x):
            return side_inputs.with_main(x, side_inputs.as_cached(self.flow_input(side_inputs.main(x))))
        return x

    def features_in_batches(self, x, first_row: int = 0) -> np.ndarray:
        """Returns what the flow sees of checked rows: their features, checked, or the rows themselves.

        Args:
          x: `(n, *input_shape)`; or features that were computed before.
          first_row: The number of the first row in error messages.

        Raises:
          ValueError: If features are NaN or too large.
        """
        x = side_inputs.main(x)
        if side_inputs.is_cached(x):
            return x[side_inputs.KEY]
        if self.encoder is None:
            return self.flow_input(tf.convert_to_tensor(x))
        parts = []
        for start in range(0, len(x), _ROWS_AT_ONCE):
            parts.append(self._compiled_encoder(tf.convert_to_tensor(x[start : start + _ROWS_AT_ONCE])).numpy())
            encoders.check_features(parts[-1], first_row + start)
        return np.concatenate(parts)

    @functools.cached_property
    def _compiled_encoder(self):
        return graph_function(self.flow_input)

    def check_encoder(self):
        """Raises ValueError if a frozen encoder has other weights than those that the density was fitted with."""
        known = int(self.encoder_fingerprint.numpy()) if self.has_frozen_encoder else _UNKNOWN
        if known != _UNKNOWN and known != self.current_fingerprint():
            raise ValueError(
                f"encoder: the weights of {self.encoder.name!r} have changed since the density was fitted to its "
                "features, which would make log p(features) that of other features. Restore its weights, or make a "
                "new model with this encoder and fit it."
            )

    def current_fingerprint(self) -> int:
        """Returns the checksum of the encoder's weights as they are now."""
        return fingerprint(self.encoder, any_order=True)

    def remember_encoder(self):
        """Notes the weights of a frozen encoder, with which the density is being fitted."""
        if self.encoder is not None:
            self.encoder_fingerprint.assign(_UNKNOWN if self.train_encoder else self.current_fingerprint())

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs):
        """As `keras.Model.export`, with everything that the model knows about x as outputs.

        The signature `serving_default` of a SavedModel has "prediction", "uncertainty" (and with a posterior of the
        head "aleatoric" and "epistemic") and "log_prob_x" ("log_prob_features" if there is an encoder); a density has
        the last alone. `log_prob_y` takes labels that come late, and `images` PNG files, where inputs are images of
        bytes. `serve` returns what a call of the model does. All numbers but those of `serve` are finite, as
        `signature.json` in the folder explains. ONNX and LiteRT files have the outputs of `serving_default`.

        A model with side inputs takes each by its name, beside "x": ids as int64 or strings, as the levels of their
        group are, and numbers and the condition of a flow as float32. It has no `images`, and the other formats do not
        take it.

        Args:
          filepath: The folder of a SavedModel, which is written beside and renamed; or a file.
          format: "tf_saved_model", "onnx", "litert", or another format of Keras.
          verbose: Whether to print where the artifact is; None prints it.
          input_signature: A list with the spec of the input, a dict for a model with side inputs; batches of any size
            if None.
          **kwargs: "opset_version" for "onnx", and what Keras takes for its formats.

        Raises:
          ValueError: If the folder holds something else, or if the format lacks an operation of the model, or side
            inputs.
          ImportError: If the package that writes the format is not installed.
        """
        self.check_encoder()
        served.export(self, self, served.answers, {}, filepath, format, verbose, input_signature, **kwargs)

    def encoder_config(self) -> dict:
        """Returns the part of the model's configuration that describes its encoder; empty without one."""
        if self.encoder is None:
            return {}
        encoder = keras.saving.serialize_keras_object(self.encoder)
        return {"encoder": encoder, "train_encoder": self.train_encoder}
