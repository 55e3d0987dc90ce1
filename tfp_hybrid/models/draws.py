"""Draws of distributions, with a condition or without one."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import arguments
from tfp_hybrid.flows import sample_given
from tfp_hybrid.models import condition

tfd = tfp.distributions


def draw(distribution: tfd.Distribution, n: int, seed):
    """Draws n events of a distribution that takes no condition, `(n, *event_shape)`, or a structure of such tensors.

    Args:
      distribution: Any TFP distribution.
      n: The number of draws, which may be 0.
      seed: As for `DensityModel.sample`.
    """
    arguments.check_count(n, "n", least=0)
    draws = distribution.sample(max(n, 1), seed=arguments.stateless_seed(seed))  # networks may take no empty batch
    return draws if n else tf.nest.map_structure(lambda one: one[:0], draws)


def draw_given(distribution: tfd.Distribution, n: int, seed, values) -> tf.Tensor:
    """Draws n events of p(x | c), `(n, *event_shape)`.

    Args:
      distribution, n, seed: As for `draw`.
      values: The condition, one for all draws or one for each; see `condition.of_draws`.
    """
    arguments.check_count(n, "n", least=0)
    given = condition.of_draws(values, n, condition.spec(distribution))
    if not n:
        given = condition.example(distribution)[condition.NAME]
    return sample_given(distribution, max(n, 1), arguments.stateless_seed(seed), given)[:n]
