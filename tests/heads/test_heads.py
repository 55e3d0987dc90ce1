"""What holds for every head. A new one is one more line in `CASES`."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import normal

from tfp_hybrid import heads

tfd = tfp.distributions


def softmax(eta):
    return np.exp(eta - np.logaddexp.reduce(eta, -1, keepdims=True))


def softplus(eta):
    return np.logaddexp(0, eta)


def sigmoid(eta):
    return 1 / (1 + np.exp(-eta))


def family(name, **kwargs):
    return lambda **options: heads.ExponentialFamily(getattr(tfp.glm, name)(**kwargs), **options)


COUNTS = np.array([0, 1, 2, 3, 7, 0])
REALS = np.array([-2.0, 0.0, 0.3, 5.0, -0.1, 1.0])
POSITIVE = np.array([0.1, 1.0, 2.5, 0.4, 3.0, 1.5])
BITS = np.array([0, 1, 1, 0, 1, 0])
RATIOS = np.array([0, 1, 5, 3, 2, 4])

# Name: the head, responses, their log density given eta, their mean given eta, by formulas in numpy and scipy.
CASES = {
    "normal": (
        heads.Normal,
        REALS,
        lambda y, eta: scipy.stats.norm.logpdf(y, eta, 1.0),
        lambda eta: eta,
    ),
    "bernoulli": (
        heads.Bernoulli,
        BITS,
        lambda y, eta: scipy.stats.bernoulli.logpmf(y, sigmoid(eta)),
        sigmoid,
    ),
    "poisson": (
        family("Poisson"),
        COUNTS,
        lambda y, eta: scipy.stats.poisson.logpmf(y, np.exp(eta)),
        np.exp,
    ),
    "negative_binomial": (
        family("NegativeBinomial", total_count=np.float32(3)),
        COUNTS,
        lambda y, eta: scipy.stats.nbinom.logpmf(y, 3, 1 - sigmoid(eta - np.log(3))),
        np.exp,
    ),
    "gamma_exp": (
        family("GammaExp"),
        POSITIVE,
        lambda y, eta: scipy.stats.gamma.logpdf(y, 1.0, scale=np.exp(eta)),
        np.exp,
    ),
    "log_normal": (
        family("LogNormal"),
        POSITIVE,
        lambda y, eta: scipy.stats.lognorm.logpdf(y, np.sqrt(np.log(2)), scale=np.exp(eta) / np.sqrt(2)),
        np.exp,
    ),
    "binomial": (
        family("Binomial", total_count=np.float32(5)),
        RATIOS,
        lambda y, eta: scipy.stats.binom.logpmf(y, 5, sigmoid(eta)),
        lambda eta: 5 * sigmoid(eta),
    ),
    "probit": (
        family("BernoulliNormalCDF"),
        BITS,
        lambda y, eta: scipy.stats.bernoulli.logpmf(y, scipy.stats.norm.cdf(eta)),
        scipy.stats.norm.cdf,
    ),
}


def built(head, latent_size=3):
    """`head` with random weights, and z: beta^T z + b is then about standard normal."""
    head.build((None, latent_size))
    head.built = True
    rng = np.random.default_rng(2)
    head.kernel.assign(0.5 * rng.normal(size=head.kernel.shape))
    head.bias.assign(0.3 * rng.normal(size=head.bias.shape))
    z = normal(6, latent_size)
    return head, z, z.numpy() @ head.kernel.numpy() + head.bias.numpy()


@pytest.mark.parametrize("name", CASES)
def test_scalar_response(name):
    make, y, log_prob, mean = CASES[name]
    head, z, eta = built(make())
    p_y = head(z)
    assert p_y.batch_shape == (6,) and p_y.event_shape == ()
    np.testing.assert_allclose(p_y.log_prob(head.prepare_labels(y)), log_prob(y, eta[:, 0]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(p_y.log_prob(head.prepare_labels(y[:, None])), p_y.log_prob(head.prepare_labels(y)))
    np.testing.assert_allclose(head.mean(p_y), mean(eta[:, 0]), rtol=1e-4, atol=1e-5)
    head.check_labels(y)


@pytest.mark.parametrize("name", CASES)
def test_vector_response(name):
    make, y, log_prob, mean = CASES[name]
    y = np.stack([y, y[::-1]], -1)
    head, z, eta = built(make(event_shape=2))
    p_y = head(z)
    assert p_y.batch_shape == (6,) and p_y.event_shape == (2,)
    np.testing.assert_allclose(p_y.log_prob(head.prepare_labels(y)), log_prob(y, eta).sum(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.mean(p_y), mean(eta), rtol=1e-4, atol=1e-5)
    assert head(tf.reshape(z, (2, 3, 3))).batch_shape == (2, 3)


def test_categorical():
    head, z, eta = built(heads.Categorical(4))
    y = np.array([0, 3, 1, 2, 2, 0])
    p_y = head(z)
    np.testing.assert_allclose(head.mean(p_y), softmax(eta), rtol=1e-5)
    np.testing.assert_allclose(p_y.log_prob(head.prepare_labels(y)), np.log(softmax(eta))[range(6), y], rtol=1e-5)
    np.testing.assert_allclose(p_y.log_prob(head.prepare_labels(y[:, None])), p_y.log_prob(y))


def test_uncertain_weights_moderate_the_logits():
    head, z, eta = built(heads.Categorical(4, weight_stddev=0.7))
    eta = eta / np.sqrt(1 + np.pi / 8 * 0.49 * np.sum(z**2, -1, keepdims=True))
    np.testing.assert_allclose(head.mean(head(z)), softmax(eta), rtol=1e-5)
    far = head.mean(head(1e4 * z)).numpy()
    np.testing.assert_allclose(head.mean(head(1e8 * z)), far, rtol=1e-3)
    assert far.max() < 0.9, "no input is so far out that it is certain"


def test_uncertain_weights_average_the_softmax():
    """MacKay's approximation against 100,000 draws of the weights."""
    head, z, eta = built(heads.Categorical(3, weight_stddev=1.0))
    drawn = np.random.default_rng(0).normal(0, 1.0, (100_000, 3, 3))
    average = np.array([softmax(eta[i] + z[i].numpy() @ drawn).mean(0) for i in range(6)])
    np.testing.assert_allclose(head.mean(head(z)), average, atol=0.04)
    assert np.abs(softmax(eta) - average).max() > 0.06


def mixture_in_numpy(eta, components=3):
    logits, loc, scale = np.split(eta, 3, -1)
    offsets = np.arange(components)
    return softmax(logits), loc + offsets, softplus(scale + offsets) + 1e-3


def test_normal_mixture():
    head, z, eta = built(heads.NormalMixture(3))
    weights, means, stddevs = mixture_in_numpy(eta)
    p_y = head(z)
    assert p_y.batch_shape == (6,) and p_y.event_shape == ()
    wanted = np.log((weights * scipy.stats.norm.pdf(REALS[:, None], means, stddevs)).sum(-1))
    np.testing.assert_allclose(p_y.log_prob(head.prepare_labels(REALS)), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.mean(p_y), (weights * means).sum(-1), rtol=1e-4)


def test_a_widened_mixture_has_its_mean_and_twice_its_standard_deviation():
    head, z, _ = built(heads.NormalMixture(2))
    head.adapt(1000 + 50 * REALS)
    before = head(z)
    head.widen(2.0)
    np.testing.assert_allclose(head(z).mean(), before.mean(), rtol=1e-5)
    np.testing.assert_allclose(head(z).stddev(), 2 * before.stddev(), rtol=1e-4)


@pytest.mark.parametrize("event_shape", [(), (2,)])
def test_heteroscedastic_normal(event_shape):
    head, z, eta = built(heads.HeteroscedasticNormal(event_shape))
    eta = eta.reshape(6, *event_shape, 2)
    y = REALS if event_shape == () else np.stack([REALS, REALS[::-1]], -1)
    wanted = scipy.stats.norm.logpdf(y, eta[..., 0], softplus(eta[..., 1]) + 1e-3)
    p_y = head(z)
    np.testing.assert_allclose(p_y.log_prob(y), wanted if event_shape == () else wanted.sum(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.mean(p_y), eta[..., 0], rtol=1e-5)


@pytest.mark.parametrize(
    "make, event_shape",
    [(make, shape) for make in (heads.Normal, heads.HeteroscedasticNormal) for shape in ((), (2,))]
    + [(lambda event_shape: heads.NormalMixture(2), ())],
)
def test_adapted_response_is_a_change_of_units(make, event_shape):
    """With y = m + s v, log p(y) is log p(v) - log s for each entry, whatever the unit of y."""
    rng = np.random.default_rng(0)
    standard, z, _ = built(make(event_shape))
    head, _, _ = built(make(event_shape))
    y = 1000 + 50 * rng.normal(size=(6, *event_shape))
    assert not head.is_adapted()
    head.adapt(y)
    assert head.is_adapted()
    mean, stddev = y.mean(0), y.std(0)
    entries = 1 if event_shape == () else 2
    wanted = standard(z).log_prob((y - mean) / stddev) - np.sum(np.log(stddev) * np.ones(entries)) / (
        entries if np.ndim(stddev) == 0 else 1
    )
    np.testing.assert_allclose(head(z).log_prob(y), wanted, rtol=1e-3)
    np.testing.assert_allclose(head.mean(head(z)), mean + stddev * standard.mean(standard(z)), rtol=1e-4)


def test_dispersion_is_trained():
    head, z, _ = built(
        heads.ExponentialFamily(
            tfp.glm.NegativeBinomial(tfp.util.TransformedVariable(3.0, tfp.bijectors.Softplus(), name="total_count"))
        )
    )
    assert len(head.trainable_weights) == 3
    with tf.GradientTape() as tape:
        loss = -tf.reduce_sum(head(z).log_prob(COUNTS.astype("float32")))
    gradients = tape.gradient(loss, [weight.value for weight in head.trainable_weights])
    assert all(gradient is not None and np.any(gradient) for gradient in gradients)


ALL = {name: make for name, (make, *_) in CASES.items()} | {
    "categorical": lambda **options: heads.Categorical(4, **options),
    "moderated": lambda **options: heads.Categorical(4, weight_stddev=0.5, **options),
    "heteroscedastic": heads.HeteroscedasticNormal,
    "mixture": lambda **options: heads.NormalMixture(4, **options),
}
SCALAR = ("categorical", "moderated", "mixture")  # of one response only


@pytest.mark.parametrize("name", ALL)
def test_config_round_trip(name):
    options = {} if name in SCALAR else {"event_shape": 2}
    head = ALL[name](kernel_regularizer=keras.regularizers.L2(0.1), kernel_initializer="ones", name="h", **options)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert type(again) is type(head) and again.get_config() == head.get_config() and again.name == "h"
    z = normal(5, 3)
    np.testing.assert_allclose(again.mean(again(z)), head.mean(head(z)))
    assert again.event_shape == head.event_shape
    np.testing.assert_allclose(again.losses, [0.1 * np.sum(np.ones(again.kernel.shape))], rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_starts_without_an_opinion(name):
    head = ALL[name]()
    mean = head.mean(head(normal(5, 3))).numpy()
    np.testing.assert_array_equal(mean, mean[:1].repeat(5, 0))


BAD_LABELS = {
    "one-hot": (lambda: heads.Categorical(3), np.eye(3), r"shape \(3, 3\), as one-hot labels have.*argmax"),
    "float classes": (lambda: heads.Categorical(3), np.array([0.0, 1.0]), "float64; wanted integer labels 0 .. 2"),
    "classes too high": (lambda: heads.Categorical(3), np.array([0, 3]), r"0 to 3; wanted 0 .. 2.*`num_classes` = 3"),
    "classes below zero": (lambda: heads.Categorical(3), np.array([-1, 2]), "-1 to 2; wanted 0 .. 2"),
    "not binary": (heads.Bernoulli, np.array([0, 2]), "0 to 2; wanted labels 0 and 1"),
    "NaN": (heads.Normal, np.array([0.0, np.nan]), r"holds nan at index \[1\]; wanted finite"),
    "infinite": (heads.Normal, np.array([0.0, np.inf]), r"holds inf at index \[1\]; wanted finite"),
    "text": (heads.Normal, np.array(["a", "b"]), "dtype <U1; wanted numbers"),
    "text classes": (lambda: heads.Categorical(3), np.array(["a", "b"]), "dtype <U1; wanted numbers"),
    "text for binary": (heads.Bernoulli, np.array(["a", "b"]), "dtype <U1; wanted numbers"),
    "negative count": (
        CASES["poisson"][0],
        np.array([1, -1]),
        "holds -1.0; wanted values in the support of the family Poisson",
    ),
    "fraction": (CASES["poisson"][0], np.array([1.0, 0.5]), "holds 0.5; wanted whole numbers.*Poisson"),
    "zero": (
        CASES["log_normal"][0],
        np.array([1.0, 0.0]),
        "holds 0.0; wanted values in the support of the family LogNormal",
    ),
    "negative": (
        CASES["gamma_exp"][0],
        np.array([1.0, -2.0]),
        "holds -2.0; wanted values in the support of the family GammaExp",
    ),
    "too many": (
        CASES["binomial"][0],
        np.array([1, 6]),
        "holds 6.0; wanted values in the support of the family Binomial",
    ),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_bad_labels(name):
    make, y, message = BAD_LABELS[name]
    with pytest.raises(ValueError, match=f"(?s)y .*{message}"):
        make().check_labels(y)


@pytest.mark.parametrize("dtype", [str, object, bytes])
def test_text_classes_are_told_how_to_become_integers(dtype):
    y = np.array(["cat", "dog", "cat"], dtype)
    for head in (heads.Categorical(2), heads.Bernoulli()):
        with pytest.raises(ValueError, match=r"Encode K classes as integers 0 .. K-1: `names, y = np.unique\(y, ret"):
            head.check_labels(y)
        names, integers = np.unique(y, return_inverse=True)
        head.check_labels(integers)
        assert (names[integers] == y).all()


def test_wrong_shape_of_labels():
    with pytest.raises(ValueError, match=r"y has shape \(3, 4\); wanted \('n', 2\)"):
        heads.Normal(2).prepare_labels(np.zeros((3, 4)))


BAD_ARGUMENTS = {
    "one class": (lambda: heads.Categorical(1), "`num_classes` is 1; wanted a whole number, at least 2"),
    "negative stddev": (lambda: heads.Categorical(2, weight_stddev=-1.0), "`weight_stddev` is -1.0; wanted"),
    "one component": (lambda: heads.NormalMixture(1), "`components` is 1; wanted a whole number, at least 2"),
    "matrix response": (lambda: heads.Normal((2, 3)), r"Normal: `event_shape` is \(2, 3\); wanted \(\) or \(k,\)"),
    "empty response": (lambda: heads.Normal(0), "`event_shape` is 0; wanted"),
    "classes of a vector": (
        lambda: heads.Categorical(3, event_shape=(2,)),
        r"Categorical: `event_shape` is \(2,\); wanted none, since the response is one class",
    ),
    "mixture of a vector": (
        lambda: heads.NormalMixture(event_shape=(2,)),
        r"NormalMixture: `event_shape` is \(2,\); wanted none",
    ),
    "family of Bernoulli": (
        lambda: heads.Bernoulli(family="Poisson"),
        "Bernoulli: `family` is 'Poisson'; wanted none, since this head sets it; `ExponentialFamily`",
    ),
    "unknown family": (lambda: heads.ExponentialFamily("Poison"), "`family` is 'Poison'; wanted.*Binomial.*Poisson"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments(name):
    make, message = BAD_ARGUMENTS[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()


def test_saved_configs_still_load():
    """As earlier versions wrote them: Bernoulli's with a family."""
    saved = heads.Bernoulli(2, name="b").get_config()
    assert "family" in saved and saved["event_shape"] == (2,)
    assert heads.Bernoulli.from_config(saved).get_config() == saved
    for head in (heads.Categorical(3), heads.NormalMixture(2)):
        assert "event_shape" not in head.get_config()


def spread(center, width, rows=1000):
    return center + width * np.random.default_rng(0).uniform(-1, 1, rows)


@pytest.mark.parametrize("make", [heads.Normal, heads.HeteroscedasticNormal, heads.NormalMixture])
@pytest.mark.parametrize("center, width", [(0.1, 0), (7.7, 0), (1e12, 0), (1e12, 1.0), (1e12, 1e5)])
def test_constant_responses_are_likely(make, center, width):
    """In float32 the numbers near 1e12 are 65,536 apart: these have at most four values, and no scale to be known."""
    head, z, _ = built(make())
    y = spread(center, width)
    head.adapt(y)
    assert float(head.response_mean) == pytest.approx(center, rel=1e-7)
    far = head.linear_predictor(z).numpy().max()
    assert np.min(head(z[:1]).log_prob(head.prepare_labels(y))) > -np.log(max(1.0, 1e-7 * center)) - (10 + far) ** 2


@pytest.mark.parametrize("width", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_responses_of_any_scale_are_standardized(width):
    head, z, _ = built(heads.Normal())
    y = spread(3 * width, width)
    head.adapt(y)
    np.testing.assert_allclose(head.response_mean, y.mean(), rtol=1e-6)
    np.testing.assert_allclose(head.response_stddev, y.std(), rtol=1e-6)


def test_families_by_name():
    assert {"Bernoulli", "Poisson", "PoissonSoftplus", "GammaExp", "LogNormal"} <= set(
        heads.exponential_family.FAMILIES
    )
    assert isinstance(heads.ExponentialFamily("GammaExp").family, tfp.glm.GammaExp)


def test_a_reciprocal_link_starts_finite_and_takes_labels():
    head = heads.ExponentialFamily("NormalReciprocal")
    distribution = head(tf.zeros((3, 2)))
    np.testing.assert_allclose(distribution.mean(), 1.0)
    head.check_labels(np.array([-1.0, 0.5, 2.0]))
