"""Groups, random effects and offsets: ids, and formulas against TFP's distributions and numpy."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import heads
from tfp_hybrid.heads.posterior import standard_nodes

tfd = tfp.distributions
RNG = np.random.default_rng(0)


def test_levels_are_found_in_any_order():
    ids = [70, -3, 10**15, 70, 5]
    group = heads.Group(ids)
    assert group.levels.tolist() == [-3, 5, 70, 10**15]
    found = group.numbers_of(tf.constant(group.check([5, 70, 6, 10**15, -3], "g", "x")))
    assert found.numpy().tolist() == [1, 2, -1, 3, 0]


@pytest.mark.parametrize(
    "ids",
    [
        ["b", "ä", "", "a b", "b"],
        np.array(["b", "ä", "", "a b", "b"], object),
        np.array([text.encode() for text in ["b", "ä", "", "a b", "b"]], object),
        pd.Series(["b", "ä", "", "a b", "b"], dtype="string"),
        pd.Categorical(["b", "ä", "", "a b", "b"]),
    ],
)
def test_strings_of_all_kinds_are_ids(ids):
    group = heads.Group(ids)
    assert group.levels.tolist() == ["", "a b", "b", "ä"]
    checked = group.check(ids, "g", "x")
    assert checked.dtype == np.int64
    assert group.numbers_of(tf.constant(checked)).numpy().tolist() == [2, 3, 0, 1, 2]
    assert group.numbers_of(tf.constant(["ä", "new", "b"])).numpy().tolist() == [
        3,
        -1,
        2,
    ]  # as an exported model is asked


def test_checked_ids_may_be_checked_again():
    for levels in (["a", "b", "c"], [3, 1, 2]):
        group = heads.Group(levels)
        once = group.check(levels, "g", "x")
        np.testing.assert_array_equal(group.check(once, "g", "x"), once)


def test_many_strings_are_told_apart():
    names = [f"level {i}" for i in range(50_000)]
    group = heads.Group(names)
    order = np.random.default_rng(1).permutation(50_000)
    found = group.numbers_of(tf.constant(group.check(np.array(names)[order], "g", "x"))).numpy()
    np.testing.assert_array_equal(group.levels[found], np.array(names)[order])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_levels_are_found_in_a_compiled_function(jit_compile):
    group = heads.Group([4, 9, 2])
    function = tf.function(group.numbers_of, jit_compile=jit_compile)
    assert function(tf.constant([9, 2, 7, 4], tf.int64)).numpy().tolist() == [2, 0, -1, 1]


@pytest.mark.parametrize(
    ("levels", "values", "message"),
    [
        ([1, 2], [1, np.nan], r"x: 'g' is missing \(nan\) in row 1; wanted an id"),
        ([1, 2], np.array([1, None], object), r"x: 'g' is missing \(None\) in row 1"),
        (["a", "b"], np.array(["a", np.nan], object), r"x: 'g' is missing \(nan\) in row 1"),
        (["a", "b"], pd.Series(["a", pd.NA], dtype="string"), r"x: 'g' is missing \(<NA>\) in row 1"),
        ([1, 2], [1.5, 2.0], r"x: 'g' holds 1.5 in row 0; wanted integers or strings"),
        ([1, 2], ["1", "2"], "x: 'g' holds strings, but its levels are integers"),
        (["a", "b"], [1, 2], "x: 'g' holds 1; wanted strings, as its levels are"),
        ([1, 2], [-(2**62) - 1, 1], "wanted integers from -4611686018427387904 on"),
        ([1, 2], np.array([1, "a"], object), "x: 'g' holds 'a' in row 1; wanted integers or strings, of one type"),
        ([1, 2], [[1, 2]], r"x: 'g' has shape \(1, 2\); wanted \('n',\)"),
        ([1, 2], [1j, 2], "x: 'g' has dtype complex128"),
        (["a", "b"], ["a", np.nan], r"x: 'g' is missing \(nan\) in row 1"),
    ],
)
def test_ids_that_are_none(levels, values, message):
    with pytest.raises(ValueError, match=message):
        heads.Group(levels).check(values, "g", "x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 1],), "`levels` has 1 different ids; wanted 2 .. 16,777,215"),
        (([],), "`levels` has 0 different ids"),
        (([1.5, 2],), "`levels` holds 1.5 in row 0"),
        ((["a", None],), "`levels` is missing"),
        (([1, 2], ["days", "days"]), "`slopes` is .*; wanted different names"),
        (([1, 2], [3]), "`slopes` is"),
        (([1, 2], None), "`slopes` is None; wanted names"),
        ((np.array([2**63, 5], np.uint64),), "`levels` holds 9223372036854775808 in row 0; wanted integers of 64 bits"),
        (([2**70, 5],), "wanted integers of 64 bits"),
        (([-(2**63), 5],), "wanted integers from -4611686018427387904 on, or strings"),
        (([1e300, 2.0],), r"holds 1e\+300 in row 0"),
        (([np.inf, 2.0],), "holds inf in row 0"),
        ((["a", np.nan],), r"is missing \(nan\) in row 1"),
        (([1, "a"],), "wanted integers or strings, of one type"),
        (([[1, 2], [3, 4]],), r"Group: 'levels' has shape \(2, 2\); wanted \('n',\)"),
        ((np.array([3j, 4j], object),), "holds 3j in row 0"),
    ],
)
def test_groups_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        heads.Group(*arguments)


def mixed(head, d=2, levels=4, dtype="float64"):
    """A head with two groups, one of which has a slope, and random weights."""
    groups = {"s": heads.Group(range(levels), slopes="t"), "g": heads.Group(["a", "b", "c"])}
    layer = heads.MixedEffects(head, groups, train_size=50)
    layer.build((None, d))
    layer.built = True
    rng = np.random.default_rng(3)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) * 0.5)
    return layer


def seen(n=7, d=2):
    """What such a head sees: z, the level and the slope of s, the level of g."""
    rng = np.random.default_rng(4)
    return np.column_stack(
        [rng.normal(size=(n, d)), rng.integers(-1, 4, n), rng.normal(size=n), rng.integers(-1, 3, n)]
    )


@pytest.mark.parametrize("head", [heads.Normal(dtype="float64"), heads.HeteroscedasticNormal(dtype="float64")])
def test_predictors_are_sums_of_effects(head):
    layer, rows = mixed(head), seen()
    q, units = layer.posterior, layer.units
    mean, covariance = [], []
    for z1, z2, level, slope, other in rows:
        eta = np.array([z1, z2]) @ head.kernel.numpy() + head.bias.numpy()
        total = np.zeros((units, units))
        for i, (number, s) in enumerate([(int(level), np.array([1, slope])), (int(other), np.ones(1))]):
            each = q.of_group(i)
            m, c = each.mean().numpy(), each.covariance().numpy()
            prior = (m.T @ m + c.sum(0)) / len(m)
            m, c = (m[number], c[number]) if number >= 0 else (np.zeros(len(prior)), prior)
            design = np.kron(s, np.eye(units))
            eta, total = eta + design @ m, total + design @ c @ design.T
        mean.append(eta)
        covariance.append(total)
    np.testing.assert_allclose(q.linear_predictor(rows), mean, rtol=1e-9)
    factor = q.predictor_factor(rows)
    np.testing.assert_allclose(factor @ tf.linalg.matrix_transpose(factor), covariance, rtol=1e-6, atol=1e-9)


def test_divergence_is_that_of_tfp():
    layer = mixed(heads.Normal(dtype="float64"))
    q, total = layer.posterior, 0.0
    for i in range(2):
        each = q.of_group(i)
        prior = tfd.MultivariateNormalTriL(tf.zeros_like(each.loc[0]), tf.linalg.cholesky(q.prior_covariance(i)))
        total += tf.reduce_sum(tfd.kl_divergence(each, prior))
    np.testing.assert_allclose(q.divergence(), total, rtol=1e-9)
    np.testing.assert_allclose(layer.losses[0], total / 50, rtol=1e-9)


def test_divergence_where_levels_have_more_variance_alone():
    layer = mixed(heads.Normal(dtype="float64"))
    q, each = layer.posterior, layer.posterior.of_group(0)
    mean, covariance = each.mean().numpy(), each.covariance().numpy()
    rest = np.arange(1, 5)[:, np.newaxis, np.newaxis] * np.array([[0.3, 0.1], [0.1, 0.2]])
    q.set_effects(0, mean, covariance, rest)
    np.testing.assert_allclose(q.prior_covariance(0), (mean.T @ mean + (covariance + rest).sum(0)) / 4, rtol=1e-9)
    np.testing.assert_allclose(layer.effects("s").covariance(), covariance + rest, rtol=1e-9)
    total = 0.0
    for i in range(2):
        of_group = q.of_group(i)
        prior = tfd.MultivariateNormalTriL(tf.zeros_like(of_group.loc[0]), tf.linalg.cholesky(q.prior_covariance(i)))
        total += tf.reduce_sum(tfd.kl_divergence(of_group, prior))
    np.testing.assert_allclose(q.divergence(), total, rtol=1e-9)


def test_prior_has_the_highest_evidence():
    layer = mixed(heads.Normal(dtype="float64"))
    q = layer.posterior
    each = q.of_group(0)
    best = q.prior_covariance(0).numpy()

    def divergence(covariance):
        prior = tfd.MultivariateNormalTriL(tf.zeros_like(each.loc[0]), tf.linalg.cholesky(covariance))
        return float(tf.reduce_sum(tfd.kl_divergence(each, prior)))

    for change in ([[0.05, 0], [0, 0]], [[0, 0.05], [0.05, 0]], [[0, 0], [0, -0.05]]):
        assert divergence(best + np.array(change)) > divergence(best)


def test_normal_head_has_the_exact_average():
    layer, rows = mixed(heads.Normal(dtype="float64")), seen()
    normal, q = layer.head, layer.posterior
    normal.adapt(np.array([1.0, 5.0, 3.0]))
    m, s = normal.response_mean.numpy(), normal.response_stddev.numpy()
    eta, spread = q.linear_predictor(rows)[:, 0].numpy(), q.predictor_factor(rows)[:, 0, 0].numpy()
    noise = np.exp(normal.log_scale.numpy())
    p_y = layer(rows)
    np.testing.assert_allclose(p_y.mean(), m + s * eta, rtol=1e-9)
    np.testing.assert_allclose(p_y.stddev(), s * np.sqrt(noise**2 + spread**2), rtol=1e-9)
    y = RNG.normal(size=len(rows))
    wanted = tfd.Normal(m + s * eta, s * noise).log_prob(y) - 0.5 * (spread / noise) ** 2
    np.testing.assert_allclose(layer.training_log_prob(rows, y), wanted, rtol=1e-6)


def test_poisson_head_averages_over_the_effects():
    layer, rows = mixed(heads.ExponentialFamily("Poisson", dtype="float64")), seen()
    y = np.arange(7.0)
    points, weights = standard_nodes(1)
    q = layer.posterior
    eta = q.linear_predictor(rows).numpy() + q.predictor_factor(rows).numpy()[:, :, 0] * points[:, 0]
    probabilities = np.exp(tfd.Poisson(log_rate=eta).log_prob(y[:, np.newaxis])) @ weights
    np.testing.assert_allclose(layer(rows).prob(y), probabilities, rtol=1e-6)


@pytest.mark.parametrize(
    ("head", "y"),
    [
        (heads.Normal(), [0.5]),
        (heads.Normal((2,)), [[0.5, 1.0]]),
        (heads.HeteroscedasticNormal(), [0.5]),
        (heads.NormalMixture(2), [0.5]),
        (heads.Bernoulli(), [1.0]),
        (heads.Categorical(3), [2]),
        (heads.Ordinal(4), [1]),
        (heads.ExponentialFamily("Poisson"), [3.0]),
        (heads.ZeroInflated("Poisson"), [0.0]),
        (heads.PartlyObserved(heads.Normal((2,))), [[0.5, np.nan]]),
        (heads.Offset(heads.Normal(), "o"), [0.5]),
    ],
)
def test_every_head_has_effects_and_gradients(head, y):
    layer = heads.MixedEffects(head, {"g": heads.Group([1, 2, 3], slopes=["t"])}, train_size=10)
    layer.build((None, 2))
    layer.built = True
    columns = [[0.3, -0.2], [0.7]] if isinstance(head, heads.Offset) else [[0.3, -0.2]]
    rows = tf.constant([np.concatenate([*columns, [1, 0.5]])], tf.float32)
    y = head.prepare_labels(np.array(y))
    assert layer(rows).log_prob(y).shape == (1,)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(layer.training_log_prob(rows, y)) + tf.add_n(layer.losses)
    gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
    assert all(np.isfinite(gradient).all() and np.abs(gradient).max() > 0 for gradient in gradients)
    assert layer.variance_components()["g"].shape == (2 * layer.units,) * 2
    assert layer.effects("g").batch_shape == (3,)


def test_what_no_mixed_effects_are():
    group = heads.Group([1, 2])
    for head, groups, size, message in (
        (3, {"g": group}, 5, "`head` is 3"),
        (heads.Variational(heads.Normal(), 5), {"g": group}, 5, "without a posterior"),
        (heads.Categorical(2, weight_stddev=1.0), {"g": group}, 5, "weight_stddev = 1.0"),
        (heads.Normal(), {}, 5, "`groups` is {}"),
        (heads.Normal(), {"g": [1, 2]}, 5, "wanted a dict from names to `heads.Group`"),
        (
            heads.Normal(),
            {"g": group, "t": heads.Group([1, 2], ["g"])},
            5,
            "the name 'g'; wanted a string that names nothing else",
        ),
        (heads.Normal(), {"g": group}, 0, "`train_size` is 0"),
        (heads.Normal(), {"g": group}, np.inf, "`train_size` is inf"),
    ):
        with pytest.raises(ValueError, match=message):
            heads.MixedEffects(head, groups, size)
    layer = mixed(heads.Normal(dtype="float64"))
    with pytest.raises(ValueError, match=r"group is 'h'; wanted one of \['s', 'g'\]"):
        layer.effects("h")
    with pytest.raises(ValueError, match="`posterior` is None"):
        layer.posterior = None
    with pytest.raises(ValueError, match="has the side inputs"):
        heads.Variational(heads.Offset(heads.Normal(), "o"), 5)


def test_configuration_goes_round():
    layer = heads.MixedEffects(
        heads.Offset(heads.ExponentialFamily("Poisson"), exposure="hours"),
        {"g": heads.Group(["b", "a"], slopes=["t"]), "h": heads.Group([5, 10**12])},
        train_size=12,
    )
    again = heads.MixedEffects.from_config(layer.get_config())
    assert again.side_inputs == layer.side_inputs
    assert list(again.side_inputs) == ["hours", "g", "h", "t"]
    assert again.groups["h"].levels.tolist() == [5, 10**12] and again.train_size == 12
    assert again.get_config() == layer.get_config()


def offset_head(head, d=2, **kwargs):
    layer = heads.Offset(head, **kwargs)
    layer.build((None, d))
    layer.built = True
    head.kernel.assign(RNG.normal(size=head.kernel.shape) * 0.3)
    return layer


def test_exposure_multiplies_the_mean():
    head = offset_head(heads.ExponentialFamily("Poisson"), exposure="hours")
    z, hours = RNG.normal(size=(5, 2)).astype("float32"), np.array([0.1, 1, 2, 30, 4000], "float32")
    (column,) = head.side_columns({"hours": tf.constant(hours)})
    found = head(np.column_stack([z, column]))
    np.testing.assert_allclose(found.mean(), hours * head.head(z).mean(), rtol=1e-5)


def test_offset_is_in_the_unit_of_y():
    for head in (heads.Normal(), heads.HeteroscedasticNormal(), heads.Normal((2,))):
        layer = offset_head(head, offset="o")
        head.adapt(RNG.normal(size=(20, *head.event_shape)) * 7 + 3)
        z, o = RNG.normal(size=(5, 2)).astype("float32"), RNG.normal(size=5).astype("float32") * 10
        found, without = layer(np.column_stack([z, o])), head(z)
        added = o[:, np.newaxis] if head.event_shape else o
        np.testing.assert_allclose(found.mean(), without.mean() + added, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.stddev(), without.stddev(), rtol=1e-5)


def test_zeros_have_no_offset():
    head = offset_head(heads.ZeroInflated("Poisson"), offset="o")
    z = RNG.normal(size=(5, 2)).astype("float32")
    eta = head.head.linear_predictor(z).numpy()
    np.testing.assert_allclose(
        head.linear_predictor(np.column_stack([z, np.ones(5)])) - eta, np.tile([0, 1.0], (5, 1)), atol=1e-6
    )


def test_what_no_offset_is():
    for head, kwargs, message in (
        (heads.Categorical(3), {"offset": "o"}, "wanted a head with a linear predictor of its mean"),
        (heads.NormalMixture(), {"offset": "o"}, "wanted a head with a linear predictor of its mean"),
        (heads.Normal(), {"exposure": "e"}, "but the mean of the head Normal is not the exponential"),
        (heads.ExponentialFamily("PoissonSoftplus"), {"exposure": "e"}, "wanted a log link"),
        (heads.Normal(), {}, "wanted one name"),
        (heads.Normal(), {"offset": 3}, "`offset` is 3"),
        (heads.ExponentialFamily("Poisson"), {"offset": "o", "exposure": "e"}, "wanted one name"),
    ):
        with pytest.raises(ValueError, match=message):
            heads.Offset(head, **kwargs)
    head = heads.Offset(heads.ExponentialFamily("Poisson"), exposure="e")
    for values, message in (
        ([1, 0], r"x: 'e' holds 0.0 in row 1; wanted exposures > 0"),
        ([1, np.nan], "x: 'e' holds nan in row 1; wanted finite numbers"),
        ([1, 1e300], "wanted numbers of 32 bits"),
        (["a", "b"], "x: 'e' has dtype <U1; wanted real numbers"),
        ([[1, 2]], r"x: 'e' has shape \(1, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            head.check_side_inputs({"e": np.array(values)}, "x")


def test_calibration_widens_the_effects_too():
    layer = mixed(heads.Bernoulli(dtype="float64"))
    rows = seen()
    q = layer.posterior
    eta, factor = q.linear_predictor(rows).numpy(), q.predictor_factor(rows).numpy()
    layer.widen(2.0)
    np.testing.assert_allclose(q.linear_predictor(rows), eta / 2, rtol=1e-9)
    np.testing.assert_allclose(q.predictor_factor(rows), factor / 2, rtol=1e-6)


def test_weights_of_other_levels_are_refused(tmp_path):
    def model_of(levels):
        head = heads.MixedEffects(heads.Normal(), {"g": heads.Group(levels)}, train_size=9)
        return hy.HybridModel(hy.flow_distribution(hy.bijectors.ActNorm((2,))), head)

    model, same, other = model_of(["a", "b"]), model_of(["b", "a"]), model_of(["a", "c"])
    model.head.posterior.means[0].assign([[1.0], [2.0]])
    model.save_weights(tmp_path / "all.weights.h5")
    same.load_weights(tmp_path / "all.weights.h5")
    assert same.head.effects("g").mean().numpy().tolist() == [1.0, 2.0]
    for wrong in (other, model_of(["a", "b", "c"])):
        with pytest.raises(ValueError, match="the weights are those of groups with other levels or slopes"):
            wrong.load_weights(tmp_path / "all.weights.h5")
    assert other.head.effects("g").mean().numpy().tolist() == [0.0, 0.0]


def test_head_is_saved_with_its_effects(tmp_path):
    keras.utils.set_random_seed(0)
    p_x = hy.flow_distribution(hy.bijectors.ActNorm((2,)))
    head = heads.MixedEffects(heads.Normal(), {"g": heads.Group(["a", "b"])}, train_size=9)
    model = hy.HybridModel(p_x, head)
    for weight in head.trainable_weights:
        weight.assign(RNG.normal(size=weight.shape))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = {"x": RNG.normal(size=(3, 2)), "g": ["b", "new", "a"]}
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    np.testing.assert_array_equal(again.head.effects("g").stddev(), head.effects("g").stddev())
