"""`ClassMixture` against stock TFP, numerical integration, and Bayes' rule in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid.latents import ClassMixture

tfd = tfp.distributions
RNG = np.random.default_rng(0)
SETTINGS = [("shared", 1), ("shared", 3), ("own", 1), ("own", 2)]


def mixture_of(scales="shared", components=1, classes=3, shape=(2,), **options):
    keras.utils.set_random_seed(0)
    mixture = ClassMixture(classes, shape, components, scales=scales, dtype=tf.float64, **options)
    for weight in (mixture.log_scales, mixture.class_logits, mixture.component_logits):
        weight.assign(RNG.normal(size=weight.shape) / 2)
    return mixture


def stock(mixture):
    """The same mixture as one of TFP: of all components at once."""
    count, size = mixture.means.shape
    scales = np.broadcast_to(np.exp(mixture.log_scales.numpy()), (count, size))
    weights = tf.nn.softmax(mixture.class_logits.value)[:, tf.newaxis] * tf.nn.softmax(mixture.component_logits.value)
    components = tfd.MultivariateNormalDiag(mixture.means.value, scales)
    return tfd.MixtureSameFamily(tfd.Categorical(probs=tf.reshape(weights, [-1])), components)


@pytest.mark.parametrize("scales, components", SETTINGS)
def test_log_prob_is_that_of_tfp(scales, components):
    mixture = mixture_of(scales, components)
    z = RNG.normal(size=(5, 7, 2)) * 4
    np.testing.assert_allclose(mixture.log_prob(z), stock(mixture).log_prob(z), rtol=1e-10)
    np.testing.assert_allclose(mixture.mean(), stock(mixture).mean(), rtol=1e-10)


@pytest.mark.parametrize("scales, components", SETTINGS)
def test_classes_follow_bayes_rule(scales, components):
    mixture = mixture_of(scales, components)
    z = RNG.normal(size=(50, 2)) * 3
    joint = np.stack(
        [
            mixture.given(np.full(50, k)).log_prob(z) + np.log(tf.nn.softmax(mixture.class_logits.value)[k])
            for k in range(3)
        ]
    )
    wanted = np.exp(joint) / np.exp(joint).sum(0)
    p_y = hy.heads.ClassPosterior(mixture)(z)
    np.testing.assert_allclose(p_y.probs_parameter(), wanted.T, rtol=0, atol=1e-6)


def test_p_x_of_a_flow_integrates_to_one():
    keras.utils.set_random_seed(0)
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    for weight in flow.trainable_variables:
        weight.assign_add(tf.random.stateless_normal(weight.shape, (0, 1)) * 0.1)
    p_x = hy.flow_distribution(flow, ClassMixture(3, flow.latent_shape, separation=2.0))
    edge = np.linspace(-12, 12, 481)
    grid = np.stack(np.meshgrid(edge, edge), -1).reshape(-1, 2).astype("float32")
    total = np.exp(p_x.log_prob(grid)).sum() * (edge[1] - edge[0]) ** 2
    assert total == pytest.approx(1, abs=1e-3)


def test_a_shared_covariance_is_a_softmax_head():
    mixture = mixture_of("shared")
    head = hy.heads.Categorical(3, dtype="float64")
    head.build((None, 2))
    variance = np.exp(2 * mixture.log_scales.numpy()[0])
    means = mixture.means.numpy()
    head.kernel.assign((means / variance).T)
    head.bias.assign(mixture.class_logits.numpy() - 0.5 * (means**2 / variance).sum(1))
    z = RNG.normal(size=(50, 2)) * 3
    found, wanted = (one(z).probs_parameter() for one in (hy.heads.ClassPosterior(mixture), head))
    np.testing.assert_allclose(found, wanted, rtol=1e-8)


def test_samples_are_of_the_mixture():
    mixture = mixture_of("own", 2)
    z = mixture.sample(100_000, seed=(0, 1)).numpy()
    np.testing.assert_allclose(z.mean(0), mixture.mean(), atol=0.05)
    np.testing.assert_allclose(np.cov(z.T), stock(mixture).covariance(), rtol=0.03, atol=0.05)
    of_one = mixture.given(2).sample(20_000, seed=(0, 1)).numpy()
    np.testing.assert_allclose(of_one.mean(0), mixture.given([2]).distribution.mean()[0], atol=0.1)


@pytest.mark.parametrize("scales", ["shared", "own"])
def test_every_weight_gets_a_gradient_under_xla_too(scales):
    mixture, z = mixture_of(scales, 2), tf.constant(RNG.normal(size=(9, 2)))
    weights = [weight.value for weight in mixture.keras_weights()]

    def gradients():
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(mixture.joint_log_probs(z)[:, 0]) + tf.reduce_mean(mixture.log_prob(z))
        return value, tape.gradient(value, weights)

    found = gradients()
    for gradient in found[1]:
        assert np.abs(gradient).max() > 1e-6
    for jit_compile in (False, True):
        compiled = tf.function(gradients, jit_compile=jit_compile, autograph=False)()
        for one, other in zip(tf.nest.flatten(compiled), tf.nest.flatten(found), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10)


def test_shapes_and_initial_means():
    mixture = ClassMixture(10, (4, 4, 2), separation=3.0)
    means = mixture.means.numpy()
    np.testing.assert_allclose(means @ means.T, 9 * np.eye(10), atol=1e-4)
    assert mixture.event_shape == (4, 4, 2) and mixture.batch_shape == ()
    z = mixture.sample(5, seed=(0, 0))
    assert z.shape == (5, 4, 4, 2) and mixture.log_prob(z).shape == (5,) and mixture.class_log_probs(z).shape == (5, 10)
    assert mixture.given([1, 2]).sample(seed=(0, 0)).shape == (2, 4, 4, 2)
    fixed = ClassMixture(2, (3,), train_means=False)
    assert not fixed.means.trainable and fixed.log_scales.trainable
    assert ClassMixture(30, (2,)).means.shape == (30, 2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((1, (2,)), "num_classes is 1; wanted a whole number, at least 2"),
        ((2, ()), r"`shape` is \(\); wanted"),
        ((2, (2,), 0), "components is 0"),
        ((2, "ab"), "`shape` is 'ab'; wanted"),
        ((2, (-2,)), r"`shape` is \(-2,\); wanted"),
        ((2, (0,)), r"`shape` is \(0,\); wanted"),
        ((2, (2,), 1, -1.0), "separation is -1.0; wanted"),
        ((2, (2,), 1, True), "separation is True; wanted"),
        ((2, (2,), 1, 1.0, "own", True, "foo"), "`dtype` is 'foo'; wanted"),
        ((2, (2,), 1, 1.0, "none"), "`scales` is 'none'; wanted one of shared, own"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClassMixture(*arguments)
