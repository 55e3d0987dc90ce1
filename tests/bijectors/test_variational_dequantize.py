"""Noise with a learned density: its log density, the bounds, and what it gains."""

import functools
import itertools
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import randomize

import tfp_hybrid as hy
from tfp_hybrid.bijectors import (
    ActNorm,
    AffineCoupling,
    Dequantize,
    FusedChain,
    Glow,
    RealNVP,
    Spline,
    VariationalDequantize,
    integer_preprocessing,
)

tfb, tfd = tfp.bijectors, tfp.distributions


def small(shape, units):
    return hy.networks.MLP(shape, units, (8,), "tanh", dtype="float64")


def dequantize(levels=3, scale=0.2, **kwargs):
    coupling = functools.partial(AffineCoupling, (2,), condition_shape=2, dtype="float64", conditioner=small)
    flow = FusedChain([coupling(), coupling(swap=True)], (2,))
    bijector = VariationalDequantize((2,), levels, flow, dtype="float64", **kwargs)
    randomize(flow.trainable_variables, scale=scale)
    return bijector


def model_of(bijector, shape=(2,), levels=3):
    chain = FusedChain(integer_preprocessing(shape, levels, dtype="float64", dequantize=bijector), shape)
    return hy.DensityModel(hy.flow_distribution(chain, tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64))))


@pytest.mark.parametrize("shape", [(3,), (4, 3, 1)])
def test_starts_as_uniform_noise(shape):
    x = np.random.default_rng(0).integers(8, size=(50, *shape)).astype("uint8")
    bijector = VariationalDequantize(shape, 8)
    z, log_det = bijector.inverse_and_log_det(x)
    np.testing.assert_allclose(z, Dequantize(shape, 8).inverse(x), atol=1e-5)
    np.testing.assert_allclose(log_det, np.zeros(50), atol=1e-5)
    np.testing.assert_array_equal(bijector.forward(tf.identity(z)), x)


def test_log_det_is_that_of_the_noise_as_a_function_of_uniform_noise(monkeypatch):
    bijector = dequantize()
    x = tf.constant([[0, 2]], tf.int32)

    def noise(e):
        monkeypatch.setattr(bijector, "_uniform", lambda x, training: e[tf.newaxis])
        return (bijector.inverse_and_log_det(x)[0] - tf.cast(x, tf.float64))[0]

    for e in ([0.3, 0.8], [0.01, 0.5]):
        e = tf.constant(e, tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(e)
            u = noise(e)
        wanted = np.linalg.slogdet(tape.jacobian(u, e))[1]
        np.testing.assert_allclose(bijector.inverse_and_log_det(x)[1][0], wanted, rtol=1e-8)
        assert abs(wanted) > 0.01


@pytest.mark.parametrize("training", [False, True])
def test_noise_stays_in_the_cell_and_depends_on_x(training):
    bijector = dequantize(levels=256, scale=1.0)
    x = np.random.default_rng(0).integers(256, size=(2000, 2))
    z = bijector.inverse(x, training=training).numpy()
    noise = z - x
    assert noise.min() >= 0 and noise.max() < 1
    np.testing.assert_array_equal(bijector.forward(tf.identity(bijector.inverse(x))), x)
    low, high = noise[x[:, 0] < 64], noise[x[:, 0] > 192]
    assert np.abs(low.mean(0) - high.mean(0)).max() > 0.02


def test_evaluation_noise_repeats_and_draws_differ():
    bijector, x = dequantize(), np.array([[0, 1], [2, 2]])
    first = bijector.inverse(x).numpy()
    np.testing.assert_array_equal(bijector.inverse(x), first)
    np.testing.assert_array_equal(bijector.inverse(x[1]), first[1])
    with bijector.draw(3):
        assert (bijector.inverse(x).numpy() != first).all()
    np.testing.assert_array_equal(bijector.inverse(x), first)


CORNERS = np.array(list(itertools.product(range(3), repeat=2)), "uint8")


def probabilities():
    """log P(x) where x / 3 - 1/2 is the lower corner of a square under a standard normal."""
    cdf = tfd.Normal(tf.constant(0.0, tf.float64), tf.constant(1.0, tf.float64)).cdf
    return np.sum(np.log(cdf((CORNERS + 1) / 3 - 0.5) - cdf(CORNERS / 3 - 0.5)), -1)


def test_the_mean_over_the_noise_of_the_weighted_density_is_the_probability():
    keras.utils.set_random_seed(0)
    bijector, many = dequantize(), np.repeat(CORNERS, 20_000, 0)
    z, log_det = model_of(bijector).flow.inverse_and_log_det(many, training=True)
    log_p = tf.reduce_sum(tfd.Normal(tf.constant(0.0, tf.float64), 1.0).log_prob(z), -1) + log_det
    log_p = log_p.numpy().reshape(9, -1)
    np.testing.assert_allclose(np.log(np.exp(log_p).mean(1)), probabilities(), atol=0.05)
    assert (log_p.mean(1) < probabilities() - 0.05).all()  # the bound


@pytest.mark.parametrize("noise", ["uniform", "learned"])
def test_draws_give_the_importance_weighted_bound(noise):
    bijector = Dequantize((2,), 3, "float64") if noise == "uniform" else dequantize()
    model = model_of(bijector)
    one, many = (model.log_prob(CORNERS, draws=draws) for draws in (1, 300))
    np.testing.assert_allclose(many, probabilities(), atol=0.01 if noise == "uniform" else 0.3)
    assert np.abs(one - probabilities()).mean() > 2 * np.abs(many - probabilities()).mean()
    with bijector.draw(1):
        other = model.log_prob(CORNERS)
    np.testing.assert_allclose(model.log_prob(CORNERS, draws=2), np.logaddexp(one, other) - np.log(2), rtol=1e-9)
    assert np.abs(one - other).max() > 0.01


def test_the_bound_of_a_shuffled_data_set_mixes_no_rows():
    model, x = model_of(Dequantize((2,), 3, "float64")), np.repeat(CORNERS[::4], 20, 0)
    found = model.log_prob(tf.data.Dataset.from_tensor_slices(x).shuffle(len(x)).batch(8), draws=3)
    np.testing.assert_allclose(np.sort(found), np.sort(model.log_prob(x, draws=3)), rtol=1e-9)


def classifier(classes=3):
    keras.utils.set_random_seed(0)
    head = hy.heads.Categorical(classes)
    model = hy.HybridModel(model_of(Dequantize((2,), 3, "float64")).distribution, head)
    head.kernel.assign(3 * np.random.default_rng(0).normal(size=head.kernel.shape))
    return model


def test_predictions_over_draws_are_the_mean_over_the_noise():
    """Beside the integral of p(y | x + u) over the unit square of each x, by a grid."""
    model, side = classifier(), (np.arange(50) + 0.5) / 50
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    z = ((CORNERS[:, np.newaxis] + grid) / 3 - 0.5).astype("float32")
    wanted = tf.reduce_mean(model.head.mean(model.head(z)), 1)
    one, many = (model.predict(CORNERS, verbose=0, draws=draws) for draws in (1, 1000))
    np.testing.assert_allclose(many, wanted, atol=0.01)
    assert np.abs(one - wanted).max() > 0.03


def test_predictions_over_draws_of_data_sets_and_side_inputs():
    x = np.repeat(CORNERS[::4], 20, 0)
    model = classifier()
    data = tf.data.Dataset.from_tensor_slices(x).shuffle(len(x)).batch(8)
    shuffled, straight = (model.predict(rows, verbose=0, draws=3) for rows in (data, x))
    np.testing.assert_allclose(np.sort(shuffled, 0), np.sort(straight, 0), rtol=1e-5)
    assert np.abs(straight - model.predict(x, verbose=0)).max() > 0.01
    counts = hy.heads.Offset(hy.heads.ExponentialFamily("Poisson"), exposure="hours")
    exposed = hy.HybridModel(model.distribution, counts)
    mean = [exposed.predict({"x": x, "hours": np.full(len(x), hours)}, verbose=0, draws=3) for hours in (1.0, 2.0)]
    np.testing.assert_allclose(mean[1], 2 * mean[0], rtol=1e-5)
    flow = hy.HybridModel(hy.flow_distribution(RealNVP((2,), couplings=2)), hy.heads.Categorical(2))
    randomize([flow.head.kernel])
    np.testing.assert_allclose(flow.predict(x, verbose=0, draws=3), flow.predict(x, verbose=0), rtol=1e-6)


def test_a_draw_within_a_draw_gives_the_outer_one_back():
    bijector = Dequantize((2,), 3)
    with bijector.draw(2):
        wanted = bijector.inverse(CORNERS)
        with bijector.draw(1):
            assert np.any(bijector.inverse(CORNERS + 0) != wanted)
        np.testing.assert_array_equal(bijector.inverse(CORNERS + 0), wanted)


def test_one_draw_is_in_memory_at_a_time(monkeypatch):
    model, alive, most = classifier(), [], []
    encode = hy.HybridModel.encode_checked

    def counted(self, x):
        found = encode(self, x)
        alive.append(weakref.ref(found.z))
        most.append(sum(one() is not None for one in alive))
        return found

    monkeypatch.setattr(hy.HybridModel, "encode_checked", counted)
    model.predict(CORNERS, verbose=0, draws=8)
    model.log_prob(CORNERS, draws=8)
    assert len(most) == 16 and max(most) <= 3  # with the first of the batch, from which the others start


def test_the_bar_of_predictions_over_draws_ends_its_line(capsys):
    classifier().predict(np.repeat(CORNERS, 3, 0), batch_size=4, draws=2)
    assert capsys.readouterr().out.endswith("\n")


def test_learned_noise_is_a_tighter_bound():
    """Of two levels with a flow that cannot be steep at their border; only the noise is trained."""
    keras.utils.set_random_seed(0)
    x = (np.random.default_rng(0).random((4000, 2)) < 0.5).astype("uint8")

    def bits(bijector):
        chain = FusedChain([*integer_preprocessing((2,), 2, dequantize=bijector), tfb.Scale(0.2)], (2,))
        model = hy.DensityModel(hy.flow_distribution(chain))
        if bijector.trainable_variables:
            model.compile(keras.optimizers.Adam(5e-3))
            model.fit(x, epochs=12, batch_size=200, verbose=0)
        else:
            model.compile()
        return model.evaluate(x, verbose=0, return_dict=True)["bits_per_dim"]

    flow = RealNVP(2, couplings=4, hidden_units=16, condition_shape=2)
    assert bits(VariationalDequantize((2,), 2, flow)) < bits(Dequantize((2,), 2)) - 0.05


def test_saved_model_has_the_noise(tmp_path):
    flow = Glow((4, 4, 1), levels=1, steps=1, hidden_units=4, quantization_levels=None)
    scaled = integer_preprocessing((4, 4, 1), 4, dequantize=VariationalDequantize((4, 4, 1), 4))
    model = hy.HybridModel(hy.flow_distribution(FusedChain([*scaled, flow], (4, 4, 1))), hy.heads.Categorical(2))
    model.compile("adam")
    x, y = np.random.default_rng(0).integers(4, size=(32, 4, 4, 1)), np.arange(32) % 2
    model.fit(x, y, verbose=0)
    assert model.quantization_levels == 4 and model.side_inputs == {}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.log_prob(x, draws=2), model.log_prob(x, draws=2))
    assert np.abs(model.log_prob(x, draws=2) - model.log_prob(x)).max() > 0
    with pytest.raises(ValueError, match="x holds fractions"):
        loaded.predict(x + 0.5)


@pytest.mark.integration
def test_exports_and_compiles(tmp_path):
    model, x = model_of(dequantize()), np.array([[0, 1], [2, 2]], "uint8")
    wanted = model.log_prob(x)
    model.export(tmp_path / "exported", verbose=False)
    found = tf.saved_model.load(tmp_path / "exported").signatures["serving_default"](x=tf.constant(x, tf.float64))
    np.testing.assert_allclose(found["log_prob_x"], wanted, rtol=1e-5)
    compiled = tf.function(lambda x: model.flow.inverse_and_log_det(x), jit_compile=True, autograph=False)
    tf.nest.map_structure(
        lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=1e-9),
        compiled(tf.constant(x, tf.int32)),
        model.flow.inverse_and_log_det(tf.constant(x, tf.int32)),
    )


def test_adapts_the_flow_of_the_noise():
    act_norm = ActNorm((2,))
    flow = FusedChain([act_norm, AffineCoupling((2,), condition_shape=2)], (2,))
    model = hy.DensityModel(
        hy.flow_distribution(FusedChain([VariationalDequantize((2,), 4, flow), RealNVP(2, couplings=2)], (2,)))
    )
    model.compile("adam")
    model.fit(np.random.default_rng(0).integers(4, size=(64, 2)), verbose=0)
    assert act_norm.is_adapted()


def test_every_weight_of_the_noise_gets_a_gradient():
    bijector = dequantize()
    with tf.GradientTape() as tape:
        z, log_det = bijector.inverse_and_log_det(np.array([[0, 1], [2, 2]]))
        loss = tf.reduce_sum(z**2) + tf.reduce_sum(log_det)
    weights = bijector.trainable_variables
    assert len(weights) == 8
    assert all(one is not None and np.any(one) for one in tape.gradient(loss, weights))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: VariationalDequantize((2,), 1), "`quantization_levels` is 1"),
        (lambda: VariationalDequantize((2,), 4, RealNVP(2)), r"`flow` is .*; wanted .* `condition_shape` \(2,\)"),
        (lambda: VariationalDequantize((2,), 4, RealNVP(3, condition_shape=2)), "`flow` is"),
        (lambda: VariationalDequantize((2,), 4, tfb.Exp()), "`flow` is"),
        (lambda: VariationalDequantize((1,), 4), "at least 2 entries on the last axis"),
        (
            lambda: integer_preprocessing((2,), 4, dequantize=VariationalDequantize((2,), 3)),
            "`dequantize` has 3 levels; wanted 4",
        ),
        (lambda: model_of(dequantize()).log_prob(np.zeros((1, 2), "uint8"), draws=0), "draws is 0"),
        (lambda: classifier().predict(np.zeros((1, 2), "uint8"), draws=0), "draws is 0"),
        (
            lambda: classifier().predict((one for one in [CORNERS]), draws=2),
            "x is a generator; wanted an array, or a `tf.data.Dataset`",
        ),
        (lambda: classifier().predict(np.zeros((1, 2), "uint8"), steps=1, draws=2), "`steps` is 1; wanted none"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_flow_of_one_entry():
    """Of a spline that does not see x: 1 / q has the mean 1 over the noise, the length of a cell."""

    class Ignoring(Spline):
        def __init__(self, event_shape, name="ignoring"):
            super().__init__(event_shape, name=name)
            self._condition_shape = self.event_shape

        def _forward_and_log_det(self, z, training=False, condition=None):
            return super()._forward_and_log_det(z, training)

    bijector = VariationalDequantize((1,), 2, Ignoring((1,)))
    randomize(bijector.flow.trainable_variables, scale=0.5)
    log_det = bijector.inverse_and_log_det(np.zeros((20_000, 1), "uint8"), training=True)[1]
    assert np.exp(log_det).mean() == pytest.approx(1.0, abs=0.05) and np.std(log_det) > 0.05
