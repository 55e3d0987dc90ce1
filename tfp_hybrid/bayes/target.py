"""`target_log_prob`: the exact posterior of the coefficients, up to a constant, for `tfp.mcmc`."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfp_hybrid.bayes.rows import check_model, encoded
from tfp_hybrid.models import HybridModel


def target_log_prob(
    model: HybridModel,
    x,
    y=None,
    sample_weight=None,
    prior: float | None = None,
    bias_prior: float = 0.01,
    batch_size: int | None = None,
) -> Callable:
    """Returns log p(y | x, B) + log p(B) + constant as a function of the coefficients B = (kernel, bias).

    The flow runs once, here; what is returned needs no more than the latents.

    Args:
      model: A trained `HybridModel`.
      x: The rows, `(n, *input_shape)`, or a data set of batches `(x, y)`.
      y: Their responses.
      sample_weight: The weight of each row, or None.
      prior: The precision > 0 of the prior on the kernel's entries. None takes both priors from the posterior of
        `bayes.fit`.
      bias_prior: The precision >= 0 of the prior on the bias's entries.
      batch_size: Rows of a batch of an array; 256 if None.

    Returns:
      A function of B, `(..., d + 1, u)`, that returns `(...)`, in nats. (A `Normal` head has its trained scale here.)

    Raises:
      ValueError: If there is neither `prior` nor a posterior, or for rows that the model cannot be trained on.
    """
    check_model(model)
    head = model.head
    if prior is None:
        if head.posterior is None:
            raise ValueError("prior is None, but the head has no posterior; wanted a precision > 0, or `bayes.fit`.")
        precisions = head.posterior.prior
    elif not 0 < prior < np.inf or not 0 <= bias_prior < np.inf:
        raise ValueError(f"prior is {prior!r} and bias_prior {bias_prior!r}; wanted precisions, > 0 and >= 0.")
    else:
        precisions = np.append(np.full(head.kernel.shape[0], float(prior)), bias_prior)
    rows = encoded(model, x, y, sample_weight, batch_size)
    dtype = head.variable_dtype
    phi, weights = tf.constant(rows.phi, dtype), tf.constant(rows.weights, dtype)
    y, precisions = tf.constant(rows.y), tf.constant(precisions[:, np.newaxis], dtype)

    def log_prob(coefficients):
        coefficients = tf.cast(coefficients, dtype)
        eta = head.shaped(tf.einsum("nf,...fu->...nu", phi, coefficients))
        likelihood = tf.reduce_sum(weights * head.distribution(eta).log_prob(y), -1)
        return likelihood - 0.5 * tf.reduce_sum(precisions * coefficients**2, [-2, -1])

    return log_prob
