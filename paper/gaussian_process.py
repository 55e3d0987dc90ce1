"""A Gaussian process with a learned kernel, the baseline for the simulation."""

from collections.abc import Callable

import keras
import numpy as np
import rich.progress
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.commands import progress

tfb, tfd = tfp.bijectors, tfp.distributions


def fit(x, y, steps: int) -> tuple[Callable[..., tfd.Normal], dict[str, float]]:
    """Fits the amplitude and length scale of an exponentiated quadratic kernel and the noise by maximum likelihood.

    Args:
      x: Training inputs, `(n, d)`.
      y: Training responses, `(n,)`.
      steps: Number of Adam steps on the marginal likelihood.

    Returns:
      A function from inputs `(m, d)` to a `tfd.Normal` with batch shape `(m,)`, the posterior predictive distribution
      of the responses, including noise; and a dict of the learned parameters.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mean, stddev = y.mean(), y.std()
    parameters = {
        name: tfp.util.TransformedVariable(np.float64(value), tfb.Softplus(), name=name)
        for name, value in (("amplitude", 1.0), ("length_scale", 1.0), ("noise_variance", 0.1))
    }
    kernel = tfp.math.psd_kernels.ExponentiatedQuadratic(parameters["amplitude"], parameters["length_scale"])
    process = tfd.GaussianProcess(kernel, x, observation_noise_variance=parameters["noise_variance"])
    optimizer = keras.optimizers.Adam(0.05)
    variables = [keras.Variable(variable, shape=(), dtype="float64") for variable in process.trainable_variables]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = -process.log_prob((y - mean) / stddev)
        optimizer.apply(tape.gradient(loss, process.trainable_variables), variables)

    optimizer.build(variables)
    with progress.bar(rich.progress.TextColumn("")) as bar:
        for _ in bar.track(range(steps), description="Gaussian process"):
            step()

    def predict(new) -> tfd.Normal:
        posterior = tfd.GaussianProcessRegressionModel(
            kernel,
            np.asarray(new, np.float64),
            x,
            (y - mean) / stddev,
            observation_noise_variance=parameters["noise_variance"],
        )
        return tfd.Normal(mean + stddev * posterior.mean(), stddev * posterior.stddev())

    return predict, {name: float(tf.convert_to_tensor(parameter)) for name, parameter in parameters.items()}
