"""From a flow to a density: p(x) as a `tfd.TransformedDistribution`."""

import tensorflow as tf
import tensorflow_probability as tfp

tfb = tfp.bijectors
tfd = tfp.distributions


def flow_distribution(flow: tfb.Bijector, latent: tfd.Distribution | None = None):
    """The density of `x = flow.forward(z)`, z drawn from `latent`.

        log p(x) = log p_z(f(x)) + log|det df/dx|,   f = flow.inverse          (eq. 3 of the paper)

    Args:
      flow: a bijector from z to x: ours, or any of TFP's.
      latent: distribution of z. By default a factorized standard normal. A richer one (the paper's footnote
        4) is any TFP distribution of the same event shape, such as another `flow_distribution`: the GLM stays
        attached to this flow's z.

    Returns:
      A `tfd.TransformedDistribution` with x's event shape.

    Raises:
      ValueError: if `latent`'s event does not fit the flow, or if `latent` is missing and the flow does not say
        what its latent's shape is.

    References:
      Nalisnick et al. 2019, "Hybrid Models with Deep and Invertible Features", section 2.2.
    """
    if not isinstance(flow, tfb.Bijector):
        raise ValueError(f"flow_distribution: `flow` is {flow!r}; wanted a `tfb.Bijector`.")
    shape = getattr(flow, "latent_shape", None)
    if latent is None:
        if shape is None:
            raise ValueError(
                f"flow_distribution: `latent` is missing, and `flow` ({type(flow).__name__}) does not say what "
                "its latent's shape is; pass e.g. "
                "latent=tfd.MultivariateNormalDiag(tf.zeros(d)) for vectors of size d."
            )
        dtype = flow.trainable_variables[0].dtype if flow.trainable_variables else tf.float32
        latent = tfd.Independent(tfd.Normal(tf.zeros(shape, dtype), tf.ones((), dtype)), shape.rank, name="latent")
    elif shape is not None and not latent.event_shape.is_compatible_with(shape):
        raise ValueError(
            f"flow_distribution: `latent` has event shape {tuple(latent.event_shape)}; wanted "
            f"{tuple(shape)}, the latent shape of `flow`."
        )
    return tfd.TransformedDistribution(latent, flow)
