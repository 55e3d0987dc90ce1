"""`MaskedAutoregressive`, whose entries each depend on those before, and a builder of flows of it."""

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tfp_hybrid import _compat, networks
from tfp_hybrid.arguments import as_shape
from tfp_hybrid.bijectors import conditions
from tfp_hybrid.bijectors.act_norm import ActNorm
from tfp_hybrid.bijectors.base import FusedBijector
from tfp_hybrid.bijectors.chain import FusedChain
from tfp_hybrid.bijectors.multi_scale import check_builder
from tfp_hybrid.bijectors.preprocessing import integer_preprocessing
from tfp_hybrid.bijectors.steps import Steps
from tfp_hybrid.bijectors.transformers import Affine, RationalQuadraticSpline, Transformer
from tfp_hybrid.made import MADE


class MaskedAutoregressive(FusedBijector):
    """The parameters of each entry's scalar bijector are a function of the entries before it.

        z_i = transformer.inverse(x_i; conditioner(x)_i),     conditioner(x)_i a function of x_1 .. x_i-1

    The density takes one pass of the conditioner, a draw d of them (MAF). `tfb.Invert` of it draws in one pass, and
    takes d for the density of anything else than its own draws (IAF).

    Args:
      event_shape: `(d,)`.
      transformer: A `transformers.Transformer`.
      reverse: Whether each entry depends on those after it instead.
      hidden_units: The sizes of the hidden layers of the conditioner, a `MADE`.
      conditioner: A function `(entries, size, reverse=..., condition_size=...) -> keras layer` in place of it, or a
        built layer, `(n, d + k) -> (n, units)`, as `MADE` builds it.
      dtype: The dtype of the values, and of the conditioner unless the global policy is mixed precision.
      name: The prefix of the names of the ops.
      condition_shape: `(k,)`, for p(x | c): the shape of the condition c, which the parameters of all entries are
        functions of; None for no condition.

    Raises:
      ValueError: If the event is no vector, if `transformer` is not a `Transformer`, or if the output of the
        conditioner does not have the required shape.

    References:
      Papamakarios, Pavlakou and Murray 2017, "Masked Autoregressive Flow for Density Estimation"; Kingma, Salimans,
      Jozefowicz, Chen, Sutskever and Welling 2016, "Improved Variational Inference with Inverse Autoregressive Flow".

    Example:

    >>> flow = bijectors.MaskedAutoregressive((4,), bijectors.transformers.Affine())
    >>> z, log_det = flow.inverse_and_log_det(tf.ones((3, 4)))
    """

    def __init__(
        self,
        event_shape: tuple[int],
        transformer: Transformer,
        reverse: bool = False,
        hidden_units: Sequence[int] = (64, 64),
        conditioner: Callable | keras.layers.Layer | None = None,
        dtype: str = "float32",
        name: str = "masked_autoregressive",
        condition_shape: int | tuple[int] | None = None,
    ):
        parameters = dict(locals())
        condition_shape = conditions.checked_shape(condition_shape, event_shape, "MaskedAutoregressive")
        super().__init__(event_shape, condition_shape=condition_shape, parameters=parameters, name=name)
        if self.event_shape.rank != 1 or not self.event_shape.num_elements():
            raise ValueError(f"MaskedAutoregressive: `event_shape` is {event_shape}; wanted (d,).")
        if not isinstance(transformer, Transformer):
            raise ValueError(
                f"MaskedAutoregressive: `transformer` is {transformer!r}; wanted a "
                "`bijectors.transformers.Transformer`."
            )
        self.transformer, self.reverse, (size,) = transformer, bool(reverse), tuple(self.event_shape)
        entries, of_condition = transformer.entries(size), sum(condition_shape or ())
        if conditioner is None:
            conditioner = functools.partial(MADE, hidden_units=tuple(hidden_units), dtype=networks.policy_for(dtype))
        if not isinstance(conditioner, keras.layers.Layer):
            given = {"condition_size": of_condition} if of_condition else {}
            conditioner = conditioner(entries, size, reverse=self.reverse, **given)
        seen = (1, size + of_condition)
        found = tuple(conditioner(tf.zeros(seen, dtype)).shape)
        if found != (1, len(entries)):
            raise ValueError(f"MaskedAutoregressive: `conditioner` maps {seen} to {found}; wanted {(1, len(entries))}.")
        self.conditioner = self.add_network(conditioner)
        _compat.set_parameter(self, "conditioner", self.conditioner)

    def _forward_and_log_det(self, z, training=False, condition=None):
        # After i passes, the first i entries of x are right, and so are the parameters of the next one.
        x = z
        for _ in range(self.event_shape[0]):
            x, log_det = self.transformer.forward(z, self._raw_parameters(x, training, condition), 1)
        return x, log_det

    def _inverse_and_log_det(self, x, training=False, condition=None):
        return self.transformer.inverse(x, self._raw_parameters(x, training, condition), 1)

    def _raw_parameters(self, x, training, condition):
        seen = conditions.append(x, condition, 1)
        raw = tf.cast(self.conditioner(tf.reshape(seen, (-1, seen.shape[-1])), training=training), x.dtype)
        return tf.reshape(raw, tf.concat([tf.shape(x)[:-1], raw.shape[-1:]], 0))


def AutoregressiveFlow(
    event_shape: int | tuple[int],
    *,
    steps: int = 5,
    bins: int | None = None,
    bound: float = 4.0,
    hidden_units: int | Sequence[int] = (64, 64),
    quantization_levels: int | None = None,
    recompute: bool = False,
    condition_shape: int | tuple[int] | None = None,
    dtype: str = "float32",
    name: str = "autoregressive_flow",
) -> FusedChain:
    """Builds a masked autoregressive flow for vectors: affine, or of splines.

    A step is an ActNorm and a `MaskedAutoregressive`; the order of the entries is reversed from step to step. The
    density takes one pass, a draw d of each step. `tfb.Invert` of a flow is an inverse autoregressive one.

    Args:
      event_shape: `(d,)`.
      steps: The number of steps.
      bins: The number of pieces of splines; None for affine steps.
      bound: The end of the interval on which splines are not the identity.
      hidden_units: The sizes of the hidden layers of each conditioner, a `MADE`.
      quantization_levels: As for `RealNVP`.
      recompute: Whether to save memory in training by recomputing activations instead of storing them; see `Steps`.
      condition_shape: As for `MaskedAutoregressive`.
      dtype: The dtype of the weights and values; the networks may compute in fewer bits under a mixed precision policy.
      name: The prefix of the names of the ops.

    Returns:
      A bijector from z to x.

    Raises:
      ValueError: If the event is no vector, or if `steps` or `bins` is too small.

    References:
      Papamakarios, Pavlakou and Murray 2017, "Masked Autoregressive Flow for Density Estimation"; Durkan, Bekasov,
      Murray and Papamakarios 2019, "Neural Spline Flows", section 3.1 (splines).
    """
    shape = as_shape(event_shape, "AutoregressiveFlow: `event_shape`")
    if len(shape) != 1:
        raise ValueError(f"AutoregressiveFlow: `event_shape` is {shape}; wanted (d,), the shape of a vector.")
    check_builder("AutoregressiveFlow", "steps", steps, None)
    hidden_units = as_shape(hidden_units, "AutoregressiveFlow: `hidden_units`")
    transformer = Affine() if bins is None else RationalQuadraticSpline(bins, bound)

    def step(reverse):
        options = dict(dtype=dtype, condition_shape=condition_shape)
        return [ActNorm(shape, dtype), MaskedAutoregressive(shape, transformer, reverse, hidden_units, **options)]

    def pair():
        return FusedChain(step(False) + step(True), shape, name="pair")

    flow = [Steps(pair, steps // 2, shape, recompute)] if steps > 1 else []
    flow += step(False) if steps % 2 else []
    if quantization_levels is not None:
        flow = integer_preprocessing(shape, quantization_levels, dtype=dtype) + flow
    return FusedChain(flow, shape, name=name)
