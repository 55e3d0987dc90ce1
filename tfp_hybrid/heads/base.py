"""`Head`, the base class of the GLM heads: a linear predictor on z, and the distribution of the response given it."""

import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import _compat
from tfp_hybrid.execution import graph_function
from tfp_hybrid.heads.posterior import Posterior

tfd = tfp.distributions


class Head(keras.layers.Layer):
    """A generalized linear model on the latent z, as a Keras layer whose output is a `tfd.Distribution`.

        E[y | z] = g^-1(beta^T z + b)                                          (eq. 2 of the paper)

    With a `posterior` of beta and b, as `bayes.fit` finds it, p(y | z) is the average over them, and `kernel` and
    `bias` are not used. `head.posterior = None` takes it away. Training makes it stale, and then it is not used.

    To write a head, pass `event_shape` and `predictors` to this constructor and write `distribution(eta)`; where
    needed, also write `mean`, `metric` and `check_labels`. A head whose responses are classes sets `classifies` and
    `num_classes`. A head that can be calibrated sets `can_widen`, and overrides `widen` unless its linear predictors
    are logits. A head that sets one of the arguments itself rejects it with `refuse`. A head whose log p(y | eta) is
    not concave, or whose expected information is known, overrides `information`. A head whose average over a posterior
    has a closed form overrides `integrated`.

    Args:
      event_shape: The shape of one response y: `()` or `(k,)`.
      predictors: The number of linear predictors for each entry of y.
      kernel_initializer: The initializer of beta. It defaults to zeros, since the fit of a GLM is convex.
      kernel_regularizer: The regularizer of beta, added to the mean loss, as everywhere in Keras. A Gaussian prior of
        standard deviation s on beta, with N training rows, is `keras.regularizers.L2(1 / (2 * N * s**2))`.
      posterior: A `Posterior` of beta and b, or None.
      **kwargs: Passed to `keras.layers.Layer`. Under a mixed precision policy, `dtype` defaults to the dtype of the
        policy's variables.

    Call arguments:
      z: `(..., d)`. Returns a `tfd.Distribution` with batch shape `(...)` and event shape `event_shape`.

    Raises:
      ValueError: If `event_shape` has more than one axis, or an axis without entries.

    Attributes:
      integer_labels: Whether labels are cast to int32.
      classifies: Whether responses are classes.
      num_classes: The number of classes, if each row has one of them; None for other responses.
      one_hot: Whether labels of classes are one-hot rows.
      weight_stddev: The standard deviation that the head itself gives its kernel; 0 but for `Categorical`.
      can_widen: Whether `widen` applies to this head.
      has_independent_predictors: Whether `information` is a diagonal matrix.
      trains_posterior: Whether training trains the posterior, too, so that it never is stale.
      has_kernel: Whether there are a kernel and a bias, of which a posterior can be.
      location_predictor: Which of the linear predictors of an entry of y is that of its mean; None if none alone is.

    References:
      Nalisnick et al. 2019, "Hybrid Models with Deep and Invertible Features", section 3.
    """

    integer_labels = False
    classifies = False
    num_classes: int | None = None
    one_hot = False
    weight_stddev = 0.0
    can_widen = False
    has_independent_predictors = False
    trains_posterior = False
    has_kernel = True
    location_predictor = 0

    def __init__(
        self,
        event_shape: int | tuple[int, ...] = (),
        predictors: int = 1,
        kernel_initializer: str | dict | keras.initializers.Initializer = "zeros",
        kernel_regularizer: str | dict | keras.regularizers.Regularizer | None = None,
        posterior: Posterior | dict | None = None,
        **kwargs,
    ):
        kwargs.setdefault("dtype", keras.config.dtype_policy().variable_dtype)
        super().__init__(**kwargs)
        self.event_shape = tuple(int(size) for size in np.ravel(event_shape))
        if len(self.event_shape) > 1 or any(size < 1 for size in self.event_shape):
            raise ValueError(f"{type(self).__name__}: `event_shape` is {event_shape!r}; wanted () or (k,) with k >= 1.")
        self.predictors = predictors
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        saved = isinstance(posterior, dict)
        self.posterior = keras.saving.deserialize_keras_object(posterior) if saved else posterior

    def __setattr__(self, name, value):
        if name == "posterior":
            if not isinstance(value, Posterior | None):
                raise ValueError(f"{type(self).__name__}: `posterior` is {value!r}; wanted a `Posterior` or None.")
            if value is not None and self.built:
                size = self.kernel.shape[0] + 1, self.kernel.shape[1]
                if value.mean.shape != size:
                    raise ValueError(f"`posterior` is one of {tuple(value.mean.shape)} coefficients; wanted {size}.")
            _compat.replace_sublayer(self, name, value)
        else:
            super().__setattr__(name, value)

    @classmethod
    def refuse(cls, kwargs: dict, argument: str, reason: str):
        """Raises ValueError if the constructor's `kwargs` contain an argument that this head sets itself."""
        if argument in kwargs:
            raise ValueError(f"{cls.__name__}: `{argument}` is {kwargs[argument]!r}; wanted none, since {reason}.")

    def build(self, latent_shape):
        units = int(np.prod(self.event_shape)) * self.predictors
        self.kernel = self.add_weight(
            shape=(latent_shape[-1], units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            name="kernel",
        )
        self.bias = self.add_weight(shape=(units,), initializer="zeros", name="bias")

    @property
    def side_inputs(self) -> dict[str, tf.TensorSpec]:
        """What this head sees of a row beside its latent, by name; nothing, but for subclasses of `SideInputHead`."""
        return {}

    def side_columns(self, given: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        """The columns, each `(n,)`, that follow z in what the head sees, from checked side inputs by name."""
        return []

    def example_side_inputs(self) -> dict[str, tf.Tensor]:
        """Side inputs of one row that `side_columns` takes, to find out shapes."""
        specs = self.side_inputs.items()
        return {name: tf.constant([""]) if one.dtype == tf.string else tf.ones(1, one.dtype) for name, one in specs}

    def check_side_inputs(self, given: dict[str, np.ndarray], argument: str = "x") -> dict[str, np.ndarray]:
        """Checks side inputs and converts them to the dtypes in which a step takes them.

        Raises:
          ValueError: If one is not as the head wants it; `argument` begins the message.
        """
        return {}

    def check_training_inputs(self, given: dict[str, np.ndarray], argument: str = "x"):
        """Raises ValueError if checked side inputs of many training rows say nothing that the head could learn from."""

    def compute_output_shape(self, *args, **shapes):
        """Returns the shape of E[y|z]."""
        (latent_shape,) = (*args, *shapes.values())  # Keras names it as a subclass's `build` does
        seen = latent_shape[-1] + len(self.side_columns(self.example_side_inputs()))
        mean = self.mean(self(tf.zeros((1, seen), self.variable_dtype)))
        return (latent_shape[0], *mean.shape[1:])

    def call(self, z) -> tfd.Distribution:
        return self.integrated(z, self.posterior) if self.is_integrated else self.at_point(z)

    @property
    def is_integrated(self) -> bool:
        """Whether p(y | z) is the average over a posterior: there is one, and the model was not trained since."""
        return self.posterior is not None and self.posterior.rows > 0 and not self.posterior.is_stale

    def at_point(self, z) -> tfd.Distribution:
        """Returns p(y | z) at `kernel` and `bias`, without a posterior."""
        return self.distribution(self.linear_predictor(z))

    def training_log_prob(self, z, y) -> tf.Tensor:
        """Returns what training maximizes for each row, `(n,)`: log p(y | z) at `kernel` and `bias`.

        Args:
          z: `(n, d)`.
          y: Responses, as `prepare_labels` returns them.
        """
        return self.at_point(z).log_prob(y)

    def unwrapped(self) -> "Head":
        """The head of the response itself: this one, or the innermost one of those around another."""
        return self

    def integrated(self, z, posterior: Posterior) -> tfd.Distribution:
        """Returns p(y | z), the average of p(y | eta) over a posterior."""
        eta, weights = posterior.nodes(z)
        given_eta = self.distribution(self.shaped(eta))
        logits = tf.broadcast_to(tf.constant(np.log(weights), eta.dtype), tf.shape(eta)[:-1])
        return tfd.MixtureSameFamily(tfd.Categorical(logits=logits), given_eta)

    def linear_predictor(self, z) -> tf.Tensor:
        """Computes `eta = beta^T z + b`: `(..., *event_shape)`, and one more axis if `predictors` > 1."""
        z = tf.cast(z, self.variable_dtype)
        return self.shaped(tf.tensordot(z, tf.convert_to_tensor(self.kernel), axes=1) + self.bias)

    def shaped(self, eta) -> tf.Tensor:
        """Linear predictors `(..., u)` with the axes that `distribution` takes."""
        shape = self.event_shape + ((self.predictors,) if self.predictors > 1 else ())
        return tf.reshape(eta, tf.concat([tf.shape(eta)[:-1], np.asarray(shape, np.int32)], 0))

    def information(self, eta, y) -> tf.Tensor:
        """The information of each row on its linear predictors, `(n, u, u)`, positive semidefinite.

        It is minus the Hessian of log p(y | eta) without its negative eigenvalues, which only a density that is not
        log-concave in eta has.

        Args:
          eta: `(n, u)`.
          y: Responses, as `prepare_labels` returns them.
        """
        with tf.GradientTape() as tape:
            tape.watch(eta)
            gradient = tfp.math.value_and_gradient(lambda eta: self.distribution(self.shaped(eta)).log_prob(y), eta)[1]
        information = -tape.batch_jacobian(gradient, eta)
        # Where log p(y | eta) is not finite there is no information, and `eigh` would raise an error of its own.
        values, vectors = tf.linalg.eigh(tf.where(tf.math.is_finite(information), information, 0))
        return tf.matmul(vectors * tf.maximum(values, 0)[:, tf.newaxis, :], vectors, transpose_b=True)

    @functools.cached_property
    def compiled_information(self) -> Callable:
        """`information`, compiled once for this head."""
        return graph_function(self.information)

    @functools.cached_property
    def compiled_slope(self) -> Callable:
        """log p(y | eta) `(n,)` and its gradient with respect to eta `(n, u)`, as a function of eta and y."""

        def function(eta, y):
            return tfp.math.value_and_gradient(lambda eta: self.distribution(self.shaped(eta)).log_prob(y), eta)

        return graph_function(function)

    def total_information(self, eta, y, weights) -> tf.Tensor:
        """The weighted sum of `information`, `(u, u)`."""
        return tf.einsum("n,nuv->uv", weights, self.information(eta, y))

    def distribution(self, eta) -> tfd.Distribution:
        """Returns p(y | eta)."""
        raise NotImplementedError(f"{type(self).__name__}.distribution")

    def mean(self, distribution: tfd.Distribution) -> tf.Tensor:
        """Returns E[y | x], the prediction that `predict` of a model returns."""
        return distribution.mean()

    def metric(self) -> keras.metrics.Metric:
        """Returns the metric of E[y | x] that training reports."""
        return keras.metrics.RootMeanSquaredError(name="rmse")

    def prepare_labels(self, y) -> tf.Tensor:
        """Converts y to the shape and dtype of the response; `(n, 1)` is accepted for `(n,)`.

        Raises:
          ValueError: If y has another shape.
        """
        y = tf.convert_to_tensor(y)
        if self.event_shape == () and y.shape.rank == 2 and y.shape[-1] == 1:
            y = tf.squeeze(y, -1)
        if y.shape.rank is not None and tuple(y.shape[1:]) != self.event_shape:
            raise ValueError(
                f"y has shape {tuple(y.shape)}; wanted {('n', *self.event_shape)} for the head {self.name!r}."
            )
        return tf.cast(y, tf.int32 if self.integer_labels else self.variable_dtype)

    def share(self, variables: list[keras.Variable]):
        """Receives the variables of p(x), which the model saves; a head that holds one does not save it again."""

    def adapt(self, y: np.ndarray):
        """Sets data-dependent weights from responses y; most heads have none."""

    def is_adapted(self) -> bool:
        """Returns False while a data-dependent weight still has its initial value."""
        return True

    def widen(self, factor: float):
        """Makes p(y|x) less confident, if `can_widen`: divides the linear predictor (the logits) by `factor`."""
        self.kernel.assign(self.kernel / factor)
        self.bias.assign(self.bias / factor)

    def check_labels(self, y: np.ndarray):
        """Raises ValueError for labels that the response cannot take."""
        if not np.issubdtype(y.dtype, np.number) and y.dtype != bool:
            remedy = " Encode K classes as integers 0 .. K-1: `names, y = np.unique(y, return_inverse=True)`."
            raise ValueError(f"y has dtype {y.dtype}; wanted numbers.{remedy if self.classifies else ''}")
        bad = ~np.isfinite(y.astype(float))
        if bad.any():
            raise ValueError(
                f"y holds {y[bad].ravel()[0]} at index {np.argwhere(bad)[0].tolist()}; wanted finite numbers."
            )

    def get_config(self) -> dict:
        config = super().get_config() | {
            "event_shape": self.event_shape,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
        if self.posterior is None:
            return config
        return config | {"posterior": keras.saving.serialize_keras_object(self.posterior)}
