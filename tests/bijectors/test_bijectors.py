"""What holds for every bijector. A new one is one more line in `CASES`."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import autodiff_log_det, normal, randomize

from tfp_hybrid.bijectors import (
    ActNorm,
    AffineCoupling,
    AutoregressiveFlow,
    Background,
    CircularSplineFlow,
    Coupling,
    Elementwise,
    FactorOut,
    FusedChain,
    Glow,
    IntegerFlow,
    InvertibleLinear,
    MaskedAutoregressive,
    NeuralSplineFlow,
    Positionwise,
    PrincipalComponents,
    RealNVP,
    Spline,
    SplineCoupling,
    Squeeze,
    Whitening,
    integer_preprocessing,
    transformers,
)
from tfp_hybrid.networks import PositionMLP
from tfp_hybrid.recipes import FlightTimes

tfb = tfp.bijectors


def preprocessing(dtype, logit):
    return FusedChain(integer_preprocessing((3,), 8, logit, dtype)[1:], (3,))


def stock_parts(dtype):
    parts = [tfb.Exp(), ActNorm((3,), dtype), tfb.Permute([2, 0, 1]), tfb.Invert(AffineCoupling((3,), dtype=dtype))]
    return FusedChain([*parts, tfb.Chain([tfb.Softplus(), InvertibleLinear((3,), dtype)])], (3,))


def factor_out(dtype):
    below = [ActNorm((2, 2, 1), dtype), tfb.Reshape(event_shape_out=(2, 2, 1), event_shape_in=(4,))]
    return FactorOut(FusedChain(below, (2, 2, 1)), (2, 2, 3))


def adapted(bijector, dtype):
    """To correlated rows with a mean, so that no weight keeps its initial value."""
    size = bijector.event_shape[-1]
    bijector.adapt(normal(200, *bijector.event_shape, dtype=dtype) @ normal(size, size, seed=3, dtype=dtype) + 2.0)
    return bijector


def whitening(shape):
    return lambda dtype: adapted(Whitening(shape, dtype=dtype), dtype)


def principal_components(dtype):
    inner = RealNVP((2,), couplings=2, hidden_units=(8,), dtype=dtype)
    return adapted(PrincipalComponents((4,), inner, dtype=dtype), dtype)


def positionwise(dtype):
    conditioner = functools.partial(PositionMLP, positions=(2, 3), encoding_size=4, hidden_units=(8,), dtype=dtype)
    inner = RealNVP((3,), couplings=2, conditioner=conditioner, dtype=dtype)
    return Positionwise((2, 3, 4), PrincipalComponents(4, inner, dtype=dtype))


def integer_flow(shape, **options):
    """Without the part that clips draws. The gradient passes the rounding, so the Jacobian is that of additive maps."""
    return lambda dtype: FusedChain(
        IntegerFlow(shape, steps=2, hidden_units=8, quantization_levels=64, dtype=dtype, **options).bijectors[1:], shape
    )


def flight_times(dtype):
    shift = np.array([0, 0, 0, 0, 30, 0, 10, 657], dtype)  # 1:10 in the morning, away from what no clock shows
    return FusedChain([FlightTimes(), tfb.Shift(shift), tfb.Scale(np.asarray(5.0, dtype))], (8,))


def glow(shape, levels, **kwargs):
    return lambda dtype: Glow(
        shape, levels=levels, steps=2, hidden_units=8, quantization_levels=None, dtype=dtype, **kwargs
    )


def real_nvp(shape, couplings, **kwargs):
    return lambda dtype: RealNVP(shape, couplings=couplings, dtype=dtype, **kwargs)


CASES = {
    "act_norm": lambda dtype: ActNorm((3,), dtype),
    "act_norm_image": lambda dtype: ActNorm((2, 3, 2), dtype),
    "invertible_linear": lambda dtype: InvertibleLinear((4,), dtype),
    "invertible_linear_image": lambda dtype: InvertibleLinear((2, 3, 3), dtype),
    "coupling": lambda dtype: AffineCoupling((5,), dtype=dtype),
    "coupling_swap": lambda dtype: AffineCoupling((5,), swap=True, dtype=dtype),
    "coupling_additive": lambda dtype: AffineCoupling((3,), additive=True, dtype=dtype),
    "coupling_channel": lambda dtype: AffineCoupling((2, 2, 3), dtype=dtype),
    "coupling_channel_swap": lambda dtype: AffineCoupling((2, 2, 3), swap=True, dtype=dtype),
    "coupling_checkerboard": lambda dtype: AffineCoupling((2, 3, 2), "checkerboard", dtype=dtype),
    "coupling_checkerboard_swap": lambda dtype: AffineCoupling((3, 2, 1), "checkerboard", True, dtype=dtype),
    "coupling_checkerboard_additive": lambda dtype: AffineCoupling((2, 2, 1), "checkerboard", False, True, dtype=dtype),
    "spline_coupling": lambda dtype: SplineCoupling((5,), dtype=dtype),
    "spline_coupling_swap": lambda dtype: SplineCoupling((5,), swap=True, bins=5, dtype=dtype),
    "spline_coupling_channel": lambda dtype: SplineCoupling((2, 2, 3), bins=4, dtype=dtype),
    "spline_coupling_checkerboard": lambda dtype: SplineCoupling((3, 2, 1), "checkerboard", True, 4, dtype=dtype),
    "bare_coupling": lambda dtype: Coupling((4,), transformers.Affine(1.0), swap=True, dtype=dtype),
    "coupling_rounded": lambda dtype: Coupling((3,), transformers.Rounded(0.5), dtype=dtype),
    "integer_flow": integer_flow((4,)),
    "integer_flow_image": integer_flow((2, 2, 2), levels=1),
    "spline": lambda dtype: Spline((3,), 5, 2.0, dtype),
    "spline_image": lambda dtype: Spline((2, 2, 1), 4, dtype=dtype),
    "elementwise": lambda dtype: Elementwise((3,), transformers.Affine(), dtype),
    "elementwise_image": lambda dtype: Elementwise((2, 2, 1), transformers.RationalQuadraticSpline(3), dtype),
    "elementwise_circular": lambda dtype: Elementwise((2,), transformers.CircularSpline(4), dtype),
    "circular_spline_flow": lambda dtype: CircularSplineFlow(3, steps=1, bins=4, hidden_units=8, dtype=dtype),
    "flight_times": flight_times,
    "background": lambda dtype: Background((3,)),
    "background, saturated": lambda dtype: Background((3,), saturated=2, quantization_levels=3),
    "squeeze": lambda dtype: Squeeze((4, 2, 3)),
    "whitening": whitening((4,)),
    "whitening_image": whitening((2, 3, 2)),
    "principal_components": principal_components,
    "positionwise": lambda dtype: adapted(positionwise(dtype), dtype),
    "positionwise_stock": lambda dtype: Positionwise((2, 1, 3), tfb.Chain([tfb.Scale(tf.constant(2.0, dtype))])),
    "factor_out": factor_out,
    "stock_parts": stock_parts,
    "preprocessing_scale": lambda dtype: preprocessing(dtype, False),
    "preprocessing_logit": lambda dtype: preprocessing(dtype, True),
    "real_nvp": real_nvp((3,), 3, hidden_units=(8,)),
    "real_nvp_image": real_nvp((4, 4, 1), 2, hidden_units=8),
    "real_nvp_wide_image": real_nvp((2, 4, 3), 3, levels=1, hidden_units=8, additive=True),
    "neural_spline_flow": lambda dtype: NeuralSplineFlow(3, steps=1, bins=3, hidden_units=8, dtype=dtype),
    "neural_spline_flow_image": lambda dtype: NeuralSplineFlow(
        (2, 2, 1), steps=1, levels=1, bins=3, hidden_units=4, dtype=dtype
    ),
    "autoregressive": lambda dtype: MaskedAutoregressive((4,), transformers.Affine(), False, (8,), dtype=dtype),
    "autoregressive_reverse": lambda dtype: MaskedAutoregressive(
        (3,), transformers.RationalQuadraticSpline(4, 3.0), True, (8, 8), dtype=dtype
    ),
    "autoregressive_flow": lambda dtype: AutoregressiveFlow(2, steps=3, hidden_units=8, dtype=dtype),
    "inverse_autoregressive_flow": lambda dtype: FusedChain(
        [tfb.Invert(AutoregressiveFlow(2, steps=1, bins=4, hidden_units=8, dtype=dtype))], (2,)
    ),
    "glow": glow((4, 4, 1), 2),
    "glow_color": glow((4, 8, 3), 1),
    "glow_wide": glow((2, 6, 2), 1, additive=True),
}
NO_WEIGHTS = (
    *("squeeze", "flight_times", "background", "background, saturated", "preprocessing_scale", "preprocessing_logit"),
    *("whitening", "whitening_image"),  # they are not trained
    "positionwise_stock",
)
TOLERANCES = {"float32": (1e-4, 1e-4), "float64": (1e-9, 1e-8)}
# Of their masks or transformers, graphs and XLA programs are those of the flows that hold them.
IN_FLOWS = (
    *("coupling_swap", "coupling_channel_swap", "coupling_checkerboard_swap", "spline_coupling_swap"),
    *("coupling_additive", "coupling_checkerboard_additive"),
)
_made = {}

every_case = pytest.mark.parametrize("name", CASES)
both_dtypes = pytest.mark.parametrize("dtype", TOLERANCES)
eagerly = pytest.mark.usefixtures("eagerly")


def make(name, dtype="float64"):
    """The case's bijector with random weights."""
    if (name, dtype) not in _made:
        _made[name, dtype] = CASES[name](dtype)
        randomize(_made[name, dtype].trainable_variables)
    return _made[name, dtype]


def latents(bijector, *batch_shape, dtype="float64"):
    return normal(*batch_shape, *bijector.latent_shape, dtype=dtype)


@eagerly
@every_case
@both_dtypes
def test_round_trip(name, dtype):
    bijector = make(name, dtype)
    z = latents(bijector, 5, dtype=dtype)
    x = tf.identity(bijector.forward(z))
    atol = TOLERANCES[dtype][0]
    np.testing.assert_allclose(bijector.inverse(x), z, rtol=0, atol=atol)
    np.testing.assert_allclose(bijector.forward(tf.identity(bijector.inverse(x))), x, rtol=atol, atol=atol)


@eagerly
@every_case
@both_dtypes
def test_log_det_is_that_of_the_jacobian(name, dtype):
    bijector = make(name, dtype)
    z = latents(bijector, dtype=dtype)
    x = tf.identity(bijector.forward(z))
    tolerance = dict(rtol=TOLERANCES[dtype][1], atol=TOLERANCES[dtype][1])
    forward, inverse = autodiff_log_det(bijector.forward, z), autodiff_log_det(bijector.inverse, x)
    np.testing.assert_allclose(bijector.forward_and_log_det(z)[1], forward, **tolerance)
    np.testing.assert_allclose(bijector.inverse_and_log_det(x)[1], inverse, **tolerance)
    np.testing.assert_allclose(bijector.forward_log_det_jacobian(tf.identity(z)), forward, **tolerance)
    np.testing.assert_allclose(bijector.inverse_log_det_jacobian(tf.identity(x)), inverse, **tolerance)


@eagerly
@pytest.mark.parametrize("name", [name for name in CASES if name not in NO_WEIGHTS])
def test_every_weight_gets_a_gradient(name):
    bijector = make(name)
    x = tf.identity(bijector.forward(latents(bijector, 4)))
    with tf.GradientTape() as tape:
        z, log_det = bijector.inverse_and_log_det(x)
        loss = tf.reduce_sum(z * normal(*z.shape, seed=2, dtype="float64")) + tf.reduce_sum(log_det)
    assert len(bijector.trainable_variables) > 0
    for variable, gradient in zip(
        bijector.trainable_variables, tape.gradient(loss, bijector.trainable_variables), strict=True
    ):
        assert gradient is not None and np.any(gradient), variable.name


@pytest.mark.integration
@pytest.mark.parametrize("name", [name for name in CASES if name not in IN_FLOWS])
def test_graph_and_xla_agree_with_eager(name):
    bijector = make(name)
    z = latents(bijector, 2)
    x = tf.identity(bijector.forward(z))

    def both(z, x):
        return bijector.forward_and_log_det(z), bijector.inverse_and_log_det(x)

    for options in ({}, {"jit_compile": True}):
        tf.nest.map_structure(
            lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9),
            tf.function(both, autograph=False, **options)(z, x),
            both(z, x),
        )


@eagerly
@every_case
@pytest.mark.parametrize("batch_shape", [(), (3,), (2, 3)])
def test_batch_is_event_by_event(name, batch_shape):
    bijector = make(name)
    z = latents(bijector, *batch_shape)
    x, log_det = bijector.forward_and_log_det(z)
    assert x.shape == (*batch_shape, *bijector.event_shape) and log_det.shape == batch_shape
    inverted, inverse_log_det = bijector.inverse_and_log_det(tf.identity(x))
    assert inverted.shape == z.shape and inverse_log_det.shape == batch_shape
    for index in np.ndindex(*batch_shape):
        one, one_log_det = bijector.forward_and_log_det(z[index])
        np.testing.assert_allclose(x[index], one, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(log_det[index], one_log_det, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(inverse_log_det[index], -one_log_det, rtol=1e-9, atol=1e-9)


@eagerly
@every_case
def test_more_event_ndims_sum_the_log_det(name):
    bijector = make(name)
    z = latents(bijector, 2, 3)
    wanted = [sum(autodiff_log_det(bijector.forward, z[i, j]) for j in range(3)) for i in range(2)]
    ndims = bijector.forward_min_event_ndims + 1
    x, log_det = bijector.forward_and_log_det(z, ndims)
    np.testing.assert_allclose(log_det, wanted, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(bijector.forward_log_det_jacobian(tf.identity(z), ndims), wanted, rtol=1e-8, atol=1e-8)
    ndims = bijector.inverse_min_event_ndims + 1
    np.testing.assert_allclose(-bijector.inverse_and_log_det(tf.identity(x), ndims)[1], wanted, rtol=1e-8, atol=1e-8)


@eagerly
@every_case
def test_shapes_of_the_public_api(name):
    bijector = make(name)
    z = latents(bijector)
    x = bijector.forward(z)
    assert x.dtype == z.dtype
    assert bijector.forward_min_event_ndims == z.shape.rank
    assert bijector.inverse_min_event_ndims == x.shape.rank
    for batch_shape in [(), (2, 3)]:
        latent_shape, event_shape = batch_shape + tuple(z.shape), batch_shape + tuple(x.shape)
        assert bijector.forward_event_shape(latent_shape) == event_shape
        assert bijector.inverse_event_shape(event_shape) == latent_shape
        np.testing.assert_array_equal(bijector.forward_event_shape_tensor(latent_shape), event_shape)
        np.testing.assert_array_equal(bijector.inverse_event_shape_tensor(event_shape), latent_shape)


@every_case
def test_wrong_event_shape_is_refused(name):
    bijector = make(name)
    wrong = tf.zeros((2, *bijector.event_shape[:-1], bijector.event_shape[-1] + 1), tf.float64)
    with pytest.raises(ValueError, match=r"x has shape .*; wanted a shape that ends in"):
        bijector.inverse(wrong)
    wrong = tf.zeros((2, *bijector.latent_shape[:-1], bijector.latent_shape[-1] + 1), tf.float64)
    with pytest.raises(ValueError, match=r"z has shape .*; wanted a shape that ends in"):
        bijector.forward(wrong)
