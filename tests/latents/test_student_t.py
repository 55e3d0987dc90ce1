"""`StudentT` against scipy: densities, degrees of freedom by maximum likelihood, and tails of p(x)."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid.bijectors import ActNorm, RealNVP
from tfp_hybrid.latents import StudentT

tfd = tfp.distributions


@pytest.mark.parametrize("train_df", [True, False])
@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)])
def test_log_prob_is_that_of_scipy(shape, train_df):
    df = [0.6, 4.0, 1e3]
    latent = StudentT(shape, df, train_df, tf.float64)
    z = np.random.default_rng(0).standard_t(1.0, (5, *shape))
    expected = scipy.stats.t(np.broadcast_to(df, shape)).logpdf(z)
    np.testing.assert_allclose(latent.log_prob(z), expected.reshape(5, -1).sum(-1), rtol=1e-10)
    stock = tfd.StudentT(np.broadcast_to(df, shape), np.float64(0), np.float64(1))
    np.testing.assert_allclose(latent.distribution.log_prob(z), stock.log_prob(z), rtol=1e-10)
    assert latent.event_shape == shape and latent.batch_shape == () and len(latent.trainable_variables) == train_df


def test_draws_are_of_scipys_distribution():
    draws = StudentT((2,), [1.0, 30.0]).sample(5000, seed=(0, 1)).numpy()
    for entry, df in zip(draws.T, (1.0, 30.0), strict=True):
        assert scipy.stats.kstest(entry, scipy.stats.t(df).cdf).pvalue > 0.01
    assert np.isfinite(StudentT((2,), 0.51).sample(100_000, seed=(0, 1))).all()


def gradients(latent, z):
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = tf.reduce_sum(latent.log_prob(z))
    return value, tape.gradient(value, [z, *latent.trainable_variables])


def test_gradients_are_those_of_scipys_density_under_xla_too():
    latent, z, step = StudentT((2,), [0.8, 5.0], dtype=tf.float64), np.array([[0.3, -40.0], [-2.0, 1e6]]), 1e-6
    (weight,) = latent.trainable_variables
    raw = weight.numpy()
    up, down = (scipy.stats.t(0.5 + np.logaddexp(0, raw + sign * step)).logpdf(z).sum(0) for sign in (1, -1))
    for options in (None, {}, {"jit_compile": True}):
        function = gradients if options is None else tf.function(gradients, autograph=False, **options)
        _, (of_z, of_weight) = function(latent, tf.constant(z))
        df = latent.distribution.df.numpy()
        np.testing.assert_allclose(of_z, -(df + 1) * z / (df + z**2), rtol=1e-9)
        np.testing.assert_allclose(of_weight, (up - down) / (2 * step), rtol=1e-5)


def test_gradients_far_out_are_finite_in_float32():
    z = tf.constant([[0.0], [1e-30], [1e10], [1e30], [-1e37]])
    for df in (0.51, 1.0, 1e4):
        value, found = gradients(StudentT((1,), df), z)
        assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in found), df
        assert np.abs(found[1]).max() > 0


def density_of(flow, latent, x, rate=2e-2, epochs=60):
    density = hy.DensityModel(hy.flow_distribution(flow, latent))
    density.compile(keras.optimizers.Adam(rate))
    density.fit(x, batch_size=250, epochs=epochs, verbose=0)
    return density


def heavy_rows(rows, seed):
    """Entries of 1 (Cauchy) and 3 degrees of freedom."""
    rng = np.random.default_rng(seed)
    return np.stack([2 + 3 * rng.standard_t(1.0, rows), 0.1 * rng.standard_t(3.0, rows) - 1], 1).astype("float32")


@pytest.mark.integration
def test_the_tail_index_is_that_of_maximum_likelihood(tmp_path):
    x = heavy_rows(2000, 1)
    latent = StudentT((2,))
    density = density_of(ActNorm((2,)), latent, x)
    assert "df" in [weight.name for weight in density.trainable_weights]
    by_scipy = np.array([scipy.stats.t.fit(column) for column in x.T.astype(float)])
    found = latent.distribution.df.numpy()
    np.testing.assert_allclose(found, by_scipy[:, 0], rtol=0.05)
    np.testing.assert_allclose(found, [1, 3], rtol=0.15)
    expected = scipy.stats.t(*by_scipy.T).logpdf(x).sum(-1)
    assert density.log_prob(x).mean() == pytest.approx(expected.mean(), abs=0.01)
    density.save(tmp_path / "heavy.keras")
    loaded = keras.models.load_model(tmp_path / "heavy.keras")
    np.testing.assert_array_equal(loaded.distribution.distribution.distribution.df, found)
    np.testing.assert_allclose(loaded.log_prob(x), density.log_prob(x), rtol=1e-6)
    loaded.compile("adam")
    loaded.fit(x, epochs=1, verbose=0)
    assert (loaded.distribution.distribution.distribution.df.numpy() != found).all()


@pytest.mark.integration
def test_tails_are_those_of_a_power_where_a_normal_latent_fails():
    """On t(1.2) data; far out the score -log p(x) grows with the logarithm, and not with the square."""
    x, held_out = twisted_rows(2000, 1), twisted_rows(4000, 2)
    latent = StudentT((2,))
    heavy, light = (
        density_of(RealNVP(2, couplings=2, hidden_units=(16,)), one, x, epochs=40) for one in (latent, None)
    )
    gain = heavy.log_prob(held_out) - light.log_prob(held_out)
    assert gain.mean() > 1 and np.median(gain) > 0.5
    far = np.array([[1.0, 1.0]], "f") * 10.0 ** np.arange(6, 10)[:, np.newaxis]
    falls, square = (-np.diff(model.log_prob(far)) for model in (heavy, light))
    np.testing.assert_allclose(falls, np.log(10) * (latent.distribution.df.numpy() + 1).sum(), rtol=0.05)
    np.testing.assert_allclose(square[1:] / square[:-1], 100, rtol=0.05)


def twisted_rows(rows, seed):
    rng = np.random.default_rng(seed)
    first = rng.standard_t(1.2, rows)
    return np.stack([first, np.tanh(first) + 0.3 * rng.standard_t(1.2, rows)], 1).astype("float32")


@pytest.mark.integration
def test_the_rest_of_a_hybrid_model_works():
    x = twisted_rows(500, 3)
    y = x @ np.array([0.5, -1.0], "f") + np.random.default_rng(0).normal(size=500).astype("f")
    latent = StudentT((2,))
    p_x = hy.flow_distribution(RealNVP(2, couplings=2, hidden_units=(8,)), latent)
    model = hy.HybridModel(p_x, hy.heads.Normal(), generative_weight=0.1)
    model.compile(keras.optimizers.Adam(1e-2))
    before = latent.distribution.df.numpy()
    model.fit(x, y, epochs=3, verbose=0)
    assert (latent.distribution.df.numpy() != before).all()
    encoding = model.encode(x)
    np.testing.assert_allclose(tf.reduce_sum(encoding.entry_log_probs, -1), encoding.log_p_z, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.distribution.log_prob(tf.identity(x)), encoding.log_prob, rtol=1e-4, atol=1e-4)
    assert model.joint.sample(3, seed=1)["x"].shape == (3, 2) and model.sample(3, seed=1)["x"].shape == (3, 2)
    hy.bayes.fit(model, x, y)
    p_y, log_px = model.predict_distribution(x)
    assert np.isfinite(p_y.mean()).all() and np.isfinite(log_px).all()
    rejector = hy.uncertainty.Rejector(model, hy.uncertainty.NegativeLogProb()).fit_threshold(x, quantile=0.95)
    far, near = (rejector.predict(rows)["abstain"] for rows in (np.array([[1e5, -1e5]], "f"), x))
    assert far.all() and near.mean() < 0.1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (((2,), 0.5), "`df` is 0.5; wanted a finite number above 0.5"),
        (((2,), [1.0, 2.0, 3.0]), r"wanted a finite number above 0.5, or an array of them of shape \(2,\)"),
        (((2,), "many"), "`df` is 'many'; wanted"),
        (((2,), np.inf), "`df` is inf; wanted"),
        (((),), r"StudentT: `shape` is \(\); wanted"),
        (((2,), 4.0, True, "int32"), "StudentT: `dtype` is 'int32'; wanted"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        StudentT(*arguments)
