"""`StudentT`, a latent distribution with heavier tails than the normal one."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.latents.checks import checked_dtype, checked_shape

tfb = tfp.bijectors
tfd = tfp.distributions

_LEAST_DF = 0.5  # of a trained one; draws of fewer degrees of freedom overflow float32


def StudentT(
    shape: tuple[int, ...],
    df: float | Sequence[float] = 4.0,
    train_df: bool = True,
    dtype: tf.DType = tf.float32,
    name: str = "student_t",
) -> tfd.Independent:
    """Builds a factorized Student t distribution of z, with degrees of freedom of its own for each entry.

        p(z) = prod_i t(z_i; df_i),      t(z; df) proportional to (1 + z^2 / df)^(-(df + 1) / 2)

    Far out, log p(z) falls by df + 1 nats while log z grows by one, where that of a normal falls like -z^2 / 2. Maps
    that are Lipschitz in both directions keep such a tail, so x has the tails of z: df is the tail index, 1 of a Cauchy
    distribution, and the normal distribution is the limit of large df. Location and scale are 0 and 1, since the
    flow has them (`bijectors.ActNorm`).

    It is `tfd.Independent` of TFP's Student t. `latent.distribution.df` are the degrees of freedom, which models train
    and save as weights: 0.5 + softplus(weight), so that there is always a density and draws are finite.

    Args:
      shape: The shape of z, such as `flow.latent_shape`.
      df: The degrees of freedom, above 0.5, at which training begins: a number, or an array of the shape of z.
      train_df: Whether df is trained.
      dtype: The dtype of z.
      name: The name of the distribution.

    Raises:
      ValueError: For arguments that are not as above.

    Example:

    >>> from tfp_hybrid import latents
    >>> flow = bijectors.RealNVP((2,))
    >>> density = DensityModel(flow_distribution(flow, latents.StudentT(flow.latent_shape)))

    References:
      Jaini, Kobyzev, Yu and Brubaker 2020, "Tails of Lipschitz Triangular Flows" (theorem 4).
      Laszkiewicz, Lederer and Fischer 2022, "Marginal Tail-Adaptive Normalizing Flows" (degrees of freedom by entry).
    """
    shape, dtype = checked_shape(shape, "StudentT"), checked_dtype(dtype, "StudentT")
    df = _checked_df(df, shape)
    if train_df:
        df = tfp.util.TransformedVariable(df, tfb.Softplus(low=tf.constant(_LEAST_DF, dtype)), dtype=dtype, name="df")
    zero, one = tf.zeros((), dtype), tf.ones((), dtype)
    return tfd.Independent(tfd.StudentT(df, zero, one), shape.rank, name=name)


def _checked_df(df, shape):
    try:
        found = np.broadcast_to(np.asarray(df, float), shape.as_list())
        if (found > _LEAST_DF).all() and np.isfinite(found).all():
            return found
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f"StudentT: `df` is {df!r}; wanted a finite number above {_LEAST_DF}, or an array of them of shape {shape}."
    )
