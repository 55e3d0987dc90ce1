"""`PrincipalComponents`, a builder: a flow on the leading principal components, a Gaussian on the rest."""

import tensorflow_probability as tfp

from tfp_hybrid.arguments import as_shape
from tfp_hybrid.bijectors.chain import FusedChain
from tfp_hybrid.bijectors.factor_out import FactorOut
from tfp_hybrid.bijectors.whitening import Whitening

tfb = tfp.bijectors


def PrincipalComponents(
    event_shape: int | tuple[int, ...],
    flow: tfb.Bijector,
    *,
    min_scale: float = 1e-3,
    dtype: str = "float32",
    name: str = "principal_components",
    shrinkage: bool = False,
) -> FusedChain:
    """Builds a flow of vectors whose first k principal components, whitened, pass through `flow`.

        u = (x - mean) V diag(1 / s)                    (`Whitening`, set by `adapt`)
        z = [flow.inverse(u[:k]), u[k:]]                (`FactorOut`)
        log|det dz/dx| = -sum_i log s_i + that of `flow` at u[:k]

    All d entries count: with a standard normal latent, the d - k components of smallest variance are independent
    Gaussians with the variances of the data. (A density of the first k components alone would be blind to whatever
    differs in the others, and its values for different k could not be compared.)

    Args:
      event_shape: `(d,)`.
      flow: A bijector from z to the k whitened components, with `event_shape` `(k,)`, such as `RealNVP((k,))`; k <= d.
      min_scale: See `Whitening`.
      dtype: The dtype of the weights.
      name: The prefix of the names of the ops.
      shrinkage: See `Whitening`; needed if there are fewer rows than entries.

    Returns:
      A bijector from z, `(d,)`, to x, `(d,)`.

    Raises:
      ValueError: If the event is not a vector, or if `flow` is not one of at most d entries.

    Example:

    >>> flow = bijectors.PrincipalComponents((512,), bijectors.RealNVP((64,), couplings=2))
    >>> flow.latent_shape
    TensorShape([512])
    """
    shape = as_shape(event_shape, "PrincipalComponents: `event_shape`")
    if len(shape) != 1:
        raise ValueError(f"PrincipalComponents: `event_shape` is {shape}; wanted (d,), the shape of a vector.")
    inner = getattr(flow, "event_shape", None)
    if inner is None or len(inner) != 1 or inner[0] > shape[0]:
        raise ValueError(
            f"PrincipalComponents: `flow` is {flow!r}; wanted a bijector of this package with an event shape (k,), "
            f"k <= {shape[0]}."
        )
    whitening = Whitening(shape, min_scale, dtype, shrinkage=shrinkage)
    rest = [flow] if inner[0] == shape[0] else [FactorOut(flow, shape, kept=inner[0])]
    return FusedChain([whitening, *rest], shape, name=name)
