"""Models of p(x | c): the condition as an input, from `fit` to exported models."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import normal, randomize

import tfp_hybrid as hy
from tfp_hybrid.arguments import stateless_seed
from tfp_hybrid.bijectors import ActNorm, FusedChain, Glow, NeuralSplineFlow, Positionwise, RealNVP
from tfp_hybrid.models.encoding import encode_batches

tfb = tfp.bijectors


def conditional(head=None, shape=(2,), size=3, **kwargs):
    flow = RealNVP(size, couplings=2, hidden_units=(8,), condition_shape=shape)
    randomize(flow.trainable_variables, scale=0.3)
    p_x = hy.flow_distribution(flow)
    model = hy.DensityModel(p_x, **kwargs) if head is None else hy.HybridModel(p_x, head, **kwargs)
    model.compile(keras.optimizers.Adam(1e-2))
    return model


def inputs(rows=40, size=3, seed=0):
    c = normal(rows, 2, seed=seed + 1).numpy()
    return {"x": (normal(rows, size, seed=seed).numpy() + 2 * c[:, :1]).astype("float32"), "condition": c}


def wanted_log_prob(model, given):
    return model.distribution.log_prob(given["x"], bijector_kwargs={"condition": given["condition"]})


@pytest.fixture(scope="module")
def model():
    return conditional()


@pytest.fixture(scope="module")
def hybrid():
    return conditional(hy.heads.Categorical(3))


def test_every_entry_gives_the_density_given_the_condition(model):
    given = inputs()
    wanted = wanted_log_prob(model, given)
    encoding = model.encode(given)
    for found in (
        model(given),
        model.predict(given, verbose=0),
        model.predict_on_batch(given),
        model.log_prob(given, batch_size=7),
        model.log_prob(tf.data.Dataset.from_tensor_slices(given).batch(9)),
        encoding.log_prob,
        np.concatenate([part.log_prob for part in encode_batches(model, given, 11)]),
        -hy.uncertainty.NegativeLogProb().score(model, given),
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert model.evaluate(given, verbose=0)[0] == pytest.approx(-np.mean(wanted), rel=1e-5)
    np.testing.assert_allclose(encoding.rows(np.arange(3)).log_prob, wanted[:3], rtol=1e-5)
    np.testing.assert_array_equal(encoding.rows(np.arange(3)).condition, given["condition"][:3])


def test_fit_learns_what_the_condition_says():
    """x given c is Normal(2 c, 1) in each entry, so that log p(x | c) has a known maximum."""
    keras.utils.set_random_seed(0)
    c = normal(2000, 1, seed=5).numpy()
    given = {"x": (2 * c + normal(2000, 2, seed=6)).numpy(), "condition": c}
    model = conditional(shape=(1,), size=2)
    model.fit(given, epochs=30, batch_size=200, verbose=0)
    truth = np.mean(-0.5 * (given["x"] - 2 * c) ** 2 - 0.5 * np.log(2 * np.pi)) * 2
    assert model.evaluate(given, verbose=0)[0] == pytest.approx(-truth, abs=0.06)
    draws = model.sample(4000, seed=0, condition=np.array([1.5], "float32")).numpy()
    np.testing.assert_allclose(draws.mean(0), [3.0, 3.0], atol=0.3)
    each = model.sample(3, seed=0, condition=np.array([[-9.0], [0.0], [1.0]], "float32")).numpy()
    assert each.shape == (3, 2) and each[0].max() < each[1].min()


def test_draws_of_stock_chains_and_of_flows_as_latents_are_given_the_condition():
    inner = hy.flow_distribution(RealNVP(3, couplings=2, hidden_units=(8,), condition_shape=2))
    randomize(inner.trainable_variables, scale=0.3)
    c = tf.constant([0.5, -1.0])
    z = inner.sample(3, seed=stateless_seed(1), bijector_kwargs={"condition": c})
    for flow in (tfb.Chain([tfb.Softplus(), tfb.Scale(2.0)]), ActNorm((3,))):
        model = hy.DensityModel(hy.flow_distribution(FusedChain([flow], (3,)), inner))
        np.testing.assert_allclose(model.sample(3, seed=1, condition=c), flow.forward(z), rtol=1e-5)
    chain = tfb.Chain([tfb.Softplus(), inner.bijector])
    model = hy.DensityModel(hy.flow_distribution(chain, inner.distribution))
    np.testing.assert_allclose(model.sample(3, seed=1, condition=c), tf.nn.softplus(z), rtol=1e-5)


@pytest.mark.parametrize(
    "condition, message",
    [
        (None, r"^sample: `condition` is missing; wanted an array of shape \(2,\), or \(5, 2\)"),
        ([0.0, np.nan], "^sample: 'condition' holds nan"),
        (np.zeros((4, 2)), r"^sample: 'condition' has shape \(4, 2\); wanted \(2,\), or \(5, 2\) for 5 draws"),
        (np.zeros(3), r"^sample: 'condition' has shape \(3,\); wanted \(2,\)"),
        (0.0, r"^sample: 'condition' has shape \(\); wanted \(2,\)"),
        ({"condition": 1.0}, "^sample: 'condition' has dtype object"),
        ("a", "^sample: 'condition' has dtype <U1"),
    ],
)
def test_draws_check_the_condition(model, condition, message):
    with pytest.raises(ValueError, match=message):
        model.sample(5, condition=condition)


def test_draws_of_a_flow_without_a_condition_take_none():
    with pytest.raises(ValueError, match="^sample: `condition` is given; wanted None"):
        hy.DensityModel(hy.flow_distribution(RealNVP(2, couplings=2))).sample(2, condition=[1.0])


@pytest.mark.parametrize("condition_shape", [None, 2])
def test_no_draws_at_all(condition_shape):
    flow = NeuralSplineFlow(3, steps=1, hidden_units=4, condition_shape=condition_shape)
    model = hy.DensityModel(hy.flow_distribution(flow))
    assert model.sample(0, condition=None if condition_shape is None else [0.0, 1.0]).shape == (0, 3)


@pytest.mark.parametrize("kind", ["arrays", "data set", "generator", "validation", "float64", "a column"])
def test_fit_takes_every_kind_of_input(kind):
    shape = (1,) if kind == "a column" else (2,)
    model, given = conditional(shape=shape), inputs()
    if kind == "a column":
        given["condition"] = given["condition"][:, 0]
    options, x = dict(verbose=0), given
    if kind == "data set":
        x = tf.data.Dataset.from_tensor_slices(given).batch(8)
    elif kind == "generator":
        x = ({name: one[i : i + 8] for name, one in given.items()} for i in range(0, 40, 8))
        options |= dict(steps_per_epoch=5)
    elif kind == "validation":
        options |= dict(validation_split=0.25)
    elif kind == "float64":
        x = {name: one.astype(float) for name, one in given.items()}
    before = model.get_weights()
    history = model.fit(x, **options).history
    assert np.isfinite(history["log_prob_x"][-1])
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_hybrid_model_trains_both_and_saves(tmp_path, hybrid):
    given, y = inputs(), np.arange(40) % 3
    hybrid.fit(given, y, epochs=1, verbose=0)
    hy.bayes.fit(hybrid, given, y)
    assert hybrid.predict(given, verbose=0).shape == (40, 3)
    np.testing.assert_allclose(hybrid.predict_distribution(given)[1], wanted_log_prob(hybrid, given), rtol=1e-4)
    hybrid.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.flow.condition_shape == (2,)
    np.testing.assert_array_equal(loaded.log_prob(given), hybrid.log_prob(given))
    np.testing.assert_array_equal(loaded.predict(given, verbose=0), hybrid.predict(given, verbose=0))


@pytest.mark.integration
def test_exported_models_and_tables_answer_alike(tmp_path, hybrid):
    given = inputs()
    hybrid.export(tmp_path / "exported", verbose=False)
    signature = tf.saved_model.load(tmp_path / "exported").signatures["serving_default"]
    found = signature(**{name: tf.constant(one) for name, one in given.items()})
    np.testing.assert_allclose(found["log_prob_x"], hybrid.log_prob(given), rtol=1e-5)
    bad = given | {
        "condition": np.where(np.arange(40)[:, np.newaxis] == 3, np.nan, given["condition"]).astype("float32")
    }
    found = signature(**{name: tf.constant(one) for name, one in bad.items()})
    assert found["log_prob_x"][3] == tf.float32.min and found["log_prob_x"][4] > -1e6
    hybrid.save(tmp_path / "run" / "model.keras") if (tmp_path / "run").mkdir() is None else None
    scorer = hy.serving.Scorer(tmp_path / "run")
    np.testing.assert_allclose(scorer(given)["log_prob_x"], hybrid.log_prob(given), rtol=1e-5)
    frame = pd.DataFrame(given["x"]).assign(condition=0.0)
    with pytest.raises(ValueError, match=r"the column 'condition' holds no arrays of shape \(2,\); wanted a dict"):
        scorer(frame)
    with pytest.raises(ValueError, match="has the side inputs .'condition'.; wanted a model of x alone"):
        hybrid.export(tmp_path / "model.onnx", format="onnx", verbose=False)


def test_scores_that_encode_again_use_the_same_condition(model):
    given = inputs(5)
    x = tf.constant(given["x"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_prob = model.distribution.log_prob(x, bijector_kwargs={"condition": given["condition"]})
    wanted = tf.norm(tape.gradient(log_prob, x), axis=-1)
    np.testing.assert_allclose(hy.uncertainty.GradientNorm().score(model, given), wanted, rtol=1e-4)
    other = conditional()
    randomize(other.flow.trainable_variables, scale=0.3, seed=5)
    both = np.stack([wanted_log_prob(one, given) for one in (model, other)])
    np.testing.assert_allclose(
        hy.uncertainty.WAIC([other]).score(model, given), both.var(0) - both.mean(0), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match="LikelihoodRatio: the flow of `model` takes a condition"):
        hy.uncertainty.LikelihoodRatio().fit(model, given)


def test_rejector_and_explanation(model, hybrid):
    given = inputs(400)
    rejector = hy.uncertainty.Rejector(hybrid, hy.uncertainty.NegativeLogProb()).fit_threshold(given, coverage=0.9)
    scores = -hybrid.log_prob(given)
    assert (scores > float(rejector.threshold.numpy())).mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(rejector.predict(given)["abstain"], scores > float(rejector.threshold.numpy()))
    assert hy.uncertainty.explain(model, inputs(5), given, draws=3).shape == (5, 3)


def test_positions_of_a_map_have_the_condition_of_the_map():
    flow = Positionwise((2, 2, 3), RealNVP(3, couplings=2, hidden_units=(8,), condition_shape=2))
    randomize(flow.trainable_variables, scale=0.3)
    model = hy.DensityModel(hy.flow_distribution(flow))
    x, c = normal(4, 2, 2, 3).numpy(), normal(4, 2, seed=3).numpy()
    maps = hy.uncertainty.log_prob_map(model, {"x": x, "condition": c})
    inside = hy.flow_distribution(flow.bijector)
    np.testing.assert_allclose(maps[:, 1, 0], inside.log_prob(x[:, 1, 0], bijector_kwargs={"condition": c}), rtol=1e-4)


@pytest.mark.parametrize("train_encoder", [False, True])
def test_a_model_with_an_encoder(train_encoder):
    encoder = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, "tanh")])
    model = conditional(hy.heads.Categorical(3), encoder=encoder, train_encoder=train_encoder)
    given, y = inputs(size=5), np.arange(40) % 3
    model.fit(given, y, verbose=0)
    h = encoder(given["x"])
    wanted = model.distribution.log_prob(h, bijector_kwargs={"condition": given["condition"]})
    np.testing.assert_allclose(model.log_prob(given), wanted, rtol=1e-4, atol=1e-4)


def test_images_with_labels_as_conditions():
    """p(x | class) of integer images, by a one-hot condition."""
    flow = Glow((4, 4, 1), levels=1, steps=1, hidden_units=4, quantization_levels=4, condition_shape=3)
    model = hy.DensityModel(hy.flow_distribution(flow))
    model.compile("adam")
    x, c = np.random.default_rng(0).integers(0, 4, (32, 4, 4, 1)), np.eye(3)[np.arange(32) % 3]
    logs = model.fit({"x": x, "condition": c}, verbose=0).history
    assert logs["bits_per_dim"][-1] > 0
    assert model.sample(2, condition=c[:2].astype("float32")).shape == (2, 4, 4, 1)


def test_errors_come_before_any_work(model, hybrid):
    given = inputs()
    c = given["condition"]
    for bad, message in (
        (given["x"], r"x is a ndarray; wanted a dict of \['x', 'condition'\]"),
        (pd.DataFrame(given["x"]), r"x is a DataFrame; wanted a dict of \['x', 'condition'\]"),
        ({"x": given["x"]}, r"lacks \['condition'\]"),
        (given | {"more": c}, r"has \['more'\]"),
        (given | {"condition": c[:5]}, "'condition' has 5 rows but x has 40"),
        (given | {"condition": c[:, :1]}, r"'condition' has shape \(40, 1\); wanted \('n', 2\)"),
        (given | {"condition": np.full((40, 2), "a")}, "'condition' has dtype <U1; wanted real numbers"),
        (given | {"condition": np.where(c > 1, np.inf, c)}, "'condition' holds inf at index .*; wanted finite"),
    ):
        for entry in (model.predict, model.fit, model.encode, model.log_prob):
            with pytest.raises(ValueError, match=message):
                entry(bad)
    with pytest.raises(ValueError, match="joint: `model` has the side inputs"):
        hybrid.sample(2)
    with pytest.raises(ValueError, match="`condition` is missing"):
        model.sample(2)
    with pytest.raises(ValueError, match="'condition'; wanted another name"):
        conditional(hy.heads.Offset(hy.heads.Normal(), offset="condition"))
    with pytest.raises(ValueError, match="penalties"):
        conditional(hy.heads.Categorical(2), penalties=[hy.penalties.Consistency(keras.layers.GaussianNoise(0.1))])
