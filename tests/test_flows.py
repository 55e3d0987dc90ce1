import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import mvn_log_prob, normal, randomize

from tfp_hybrid import flow_distribution
from tfp_hybrid.bijectors import ActNorm, FusedChain, Glow, InvertibleLinear, RealNVP

tfb, tfd = tfp.bijectors, tfp.distributions


def test_linear_flow_is_a_gaussian_in_closed_form():
    linear, norm = InvertibleLinear((3,), "float64"), ActNorm((3,), "float64")
    p_x = flow_distribution(FusedChain([norm, linear], (3,)))
    randomize(p_x.trainable_variables, scale=0.5)
    inverse = np.linalg.inv(linear.matrix().numpy()) * np.exp(norm.log_scale.numpy())
    x = normal(7, 3, dtype="float64")
    np.testing.assert_allclose(p_x.log_prob(x), mvn_log_prob(x, norm.loc.numpy(), inverse.T @ inverse), rtol=1e-9)
    assert p_x.dtype == tf.float64


@pytest.mark.parametrize(
    "flow", [RealNVP((3,), couplings=2), Glow((4, 4, 1), levels=2, steps=1, hidden_units=4, quantization_levels=None)]
)
def test_shapes(flow):
    p_x = flow_distribution(flow)
    assert p_x.bijector is flow and p_x.distribution.event_shape == flow.latent_shape
    assert p_x.event_shape == flow.event_shape and p_x.batch_shape == () and p_x.dtype == tf.float32
    x = p_x.sample((2, 5), seed=1)
    assert x.shape == (2, 5, *flow.event_shape) and p_x.log_prob(x).shape == (2, 5)


def test_other_latent():
    latent = tfd.Independent(tfd.StudentT(3.0, tf.zeros(2), 1.0), 1)
    flow = RealNVP((2,), couplings=2, hidden_units=(4,))
    randomize(flow.trainable_variables)
    x = normal(5, 2)
    z, log_det = flow.inverse_and_log_det(x)
    np.testing.assert_allclose(flow_distribution(flow, latent).log_prob(x), latent.log_prob(z) + log_det, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((tf.identity,), r"`flow` is <function.*; wanted a `tfb.Bijector`"),
        ((tfb.Exp(),), r"`latent` is missing, and `flow` \(_?Exp\).*MultivariateNormalDiag"),
        (
            (RealNVP((3,), couplings=2), tfd.MultivariateNormalDiag(tf.zeros(2))),
            r"`latent` has event shape \(2,\); wanted \(3,\)",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"(?s)flow_distribution: {message}"):
        flow_distribution(*arguments)
