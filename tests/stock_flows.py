"""p(x) in two dimensions from bijectors of TFP, with weights of either library."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.networks import ShiftAndLogScale

tfb, tfd = tfp.bijectors, tfp.distributions


@keras.saving.register_keras_serializable(package="tests")
class MaskedNetwork(keras.layers.Layer):
    """The first feature sets the second one's shift and log-scale; the first one's are constant."""

    def build(self, shape):
        self.constants = self.add_weight(shape=(2, 2), initializer="zeros", name="constants")
        self.kernel = self.add_weight(shape=(1, 2), initializer="zeros", name="kernel")

    def call(self, x):
        second = tf.tensordot(x[..., :1], tf.convert_to_tensor(self.kernel), 1)
        raw = tf.stack([tf.zeros_like(second), second], -2) + self.constants
        return raw[..., 0], raw[..., 1]


@keras.saving.register_keras_serializable(package="tests")
class CouplingNetwork(keras.layers.Layer):
    """What `tfb.RealNVP` calls, with a Keras 3 network."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.network = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2 * self.units)])
        self.network.build(shape)

    def __call__(self, x, units):
        return super().__call__(x)  # Keras layers take only tensors by position

    def call(self, x):
        return tf.split(self.network(x), 2, axis=-1)

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable(package="tests")
class SplineNetwork(keras.layers.Layer):
    """Rational quadratic splines on [-8, 8] whose parameters a network sets."""

    bins = 5

    def build(self, shape):
        self.network = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(3 * self.bins - 1)])
        self.network.build(shape)

    def __call__(self, x, units):
        return super().__call__(x)

    def call(self, x):
        widths, heights, slopes = tf.split(self.network(x)[..., None, :], [self.bins, self.bins, self.bins - 1], -1)
        return tfb.RationalQuadraticSpline(
            bin_widths=16 * tf.nn.softmax(widths),
            bin_heights=16 * tf.nn.softmax(heights),
            knot_slopes=tf.nn.softplus(slopes) + 0.1,
            range_min=-8.0,
        )


def base(scale=None):
    return tfd.MultivariateNormalDiag(tf.zeros(2), scale)


def maf_of_tfp():
    return tfb.MaskedAutoregressiveFlow(
        tfb.AutoregressiveNetwork(2, event_shape=[2], hidden_units=[8], activation="tanh")
    )


def real_nvp_with_closure():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    return tfb.RealNVP(num_masked=1, shift_and_log_scale_fn=lambda x, units, **kwargs: tf.split(network(x), 2, -1))


def real_nvp_with_adapter():
    network = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    return tfb.RealNVP(num_masked=1, shift_and_log_scale_fn=ShiftAndLogScale(network))


def linear():
    lower_upper, permutation = tf.linalg.lu(tf.constant([[2.0, 1.0], [0.5, 1.0]]))
    return tfb.Chain([tfb.Shift(tf.Variable([0.1, 0.2])), tfb.ScaleMatvecLU(tf.Variable(lower_upper), permutation)])


def trained_scale():
    scale = tfp.util.TransformedVariable(np.array([1.0, 2.0], "float32"), tfb.Softplus(), name="scale")
    return tfd.TransformedDistribution(base(scale), tfb.Shift(tf.Variable([0.5, 0.5], name="shift")))


STOCK_FLOWS = {
    "maf": lambda: tfd.TransformedDistribution(base(), maf_of_tfp()),
    "maf_keras": lambda: tfd.TransformedDistribution(base(), tfb.MaskedAutoregressiveFlow(MaskedNetwork())),
    "real_nvp": lambda: tfd.TransformedDistribution(base(), tfb.RealNVP(1, shift_and_log_scale_fn=CouplingNetwork(1))),
    "real_nvp_adapter": lambda: tfd.TransformedDistribution(base(), real_nvp_with_adapter()),
    "real_nvp_closure": lambda: tfd.TransformedDistribution(base(), real_nvp_with_closure()),
    "spline": lambda: tfd.TransformedDistribution(base(), tfb.RealNVP(1, bijector_fn=SplineNetwork())),
    "linear": lambda: tfd.TransformedDistribution(base(), linear()),
    "trained_scale": trained_scale,
}
