"""`Positionwise`: one flow at every position of a map."""

import numbers

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.bijectors import conditions, description, one_pass
from tfp_hybrid.bijectors.base import FusedBijector, sum_rightmost

tfb = tfp.bijectors
_MAPS = 64  # the fewest to adapt to


class Positionwise(FusedBijector):
    """Applies the same flow to the vector at each position of a map, such as a map of features `(H, W, C)`.

        z[i, j] = bijector.inverse(x[i, j])
        log|det dz/dx| = sum_ij that of `bijector` at x[i, j]

    So the vectors are independent, p(x) = prod_ij p(x[i, j]), and `uncertainty.log_prob_map` tells where an input is
    unlikely. If the conditioners are `networks.PositionMLP`, the density depends on the position: p(x[i, j] | i, j).
    A condition of the bijector is one of the map, the same at each position.

    Args:
      event_shape: The shape of a map, `(H, W, C)`.
      bijector: A bijector from a vector `(k,)` to `(C,)`.
      name: The prefix of the names of the ops.

    Raises:
      ValueError: If `event_shape` is not `(H, W, C)`, or if `bijector` is not one of vectors `(C,)`. When it is called,
        if a conditioner is for another map.

    References:
      Gudovskiy, Ishizaka and Kozuka 2022, "CFLOW-AD: Real-Time Unsupervised Anomaly Detection with Localization via
      Conditional Normalizing Flows", section 3.

    Example:

    >>> import functools
    >>> from tfp_hybrid import networks
    >>> conditioner = functools.partial(networks.PositionMLP, positions=(7, 5))
    >>> flow = bijectors.Positionwise((7, 5, 32), bijectors.RealNVP((32,), conditioner=conditioner))
    >>> p_h = flow_distribution(flow)
    """

    def __init__(self, event_shape: tuple[int, int, int], bijector: tfb.Bijector, name: str = "positionwise"):
        parameters = dict(locals())
        if np.shape(event_shape) != (3,) or not all(
            isinstance(size, numbers.Integral) and size > 0 for size in event_shape
        ):
            raise ValueError(f"Positionwise: `event_shape` is {event_shape!r}; wanted (H, W, C).")
        *positions, channels = event_shape
        if not isinstance(bijector, tfb.Bijector):
            raise ValueError(f"Positionwise: `bijector` is {bijector!r}; wanted a `tfb.Bijector`.")
        of = getattr(bijector, "event_shape", (channels,))
        if tuple(of) != (channels,) or bijector.inverse_min_event_ndims > 1:
            raise ValueError(
                f"Positionwise: `bijector` has the event shape {tuple(of)}; wanted {(channels,)}, the vector at one "
                f"position of {tuple(event_shape)}."
            )
        self.bijector = bijector
        latent = bijector.inverse_event_shape((channels,))
        condition_shape = conditions.shape_of_all([bijector], "Positionwise")
        super().__init__(event_shape, (*positions, *latent), condition_shape, parameters=parameters, name=name)

    def _forward_and_log_det(self, z, training=False, condition=None):
        x, log_det = one_pass.forward_and_log_det(self.bijector, z, 1, training, _at_positions(condition))
        return x, self._summed(log_det, z)

    def _inverse_and_log_det(self, x, training=False, condition=None):
        z, log_det = self.inverse_and_log_det_at_positions(x, training, condition)
        return z, self._summed(log_det, x)

    def inverse_and_log_det_at_positions(
        self, x, training: bool = False, condition=None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes z, `batch_shape + latent_shape`, and the log-det of each position, `batch_shape + (H, W)`."""
        z, log_det = one_pass.inverse_and_log_det(self.bijector, x, 1, training, _at_positions(condition))
        return z, tf.broadcast_to(log_det, tf.shape(x)[:-1])

    def _summed(self, log_det, value):
        return sum_rightmost(tf.broadcast_to(log_det, tf.shape(value)[:-1]), 2)

    @property
    def rows_to_adapt(self) -> int:
        """How many maps hold as many vectors as the bijector needs, and at least 64, since neighbours are alike."""
        height, width, _ = self.event_shape
        return max(_MAPS, -(-one_pass.rows_to_adapt(self.bijector) // (height * width)))

    def adapt(self, x, condition=None) -> tf.Tensor:
        """Sets the data-dependent weights from the vectors at all positions, and returns `inverse(x)`."""
        return one_pass.adapt(self.bijector, tf.convert_to_tensor(x), _at_positions(condition))

    def is_adapted(self) -> bool:
        """Returns False if the bijector has not been adapted yet."""
        return one_pass.is_adapted(self.bijector)

    def describe(self) -> list[description.FlowStep]:
        """Lists this step, without weights, and those at a position; see the base class."""
        row = description.flow_step(self.name, self.event_shape, self.latent_shape, [])
        return [row, *description.steps_of(self.bijector, self.event_shape[-1:])]


def _at_positions(condition):
    """A condition of maps for the vectors at all positions."""
    return None if condition is None else tf.convert_to_tensor(condition)[..., tf.newaxis, tf.newaxis, :]
