"""Mixed effects against statsmodels, and against dense formulas that integrate all effects out."""

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.stats
import statsmodels.api as sm
import statsmodels.formula.api as smf
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import bayes, heads

tfb, tfd = tfp.bijectors, tfp.distributions


def identity_model(head, d):
    """A model whose latent is x itself."""
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(d)), tfb.Identity())
    model = hy.HybridModel(p_x, head, generative_weight=0.0)
    model.compile(keras.optimizers.Adam(1e-2))
    return model


def simulated(rows=300, levels=12, seed=0):
    """x `(n, 2)`, the groups of rows, of unequal sizes and crossed, a slope, and the sum of their effects."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    s, g = rng.geometric(0.2, rows) % levels, rng.integers(0, 5, rows)
    t = rng.normal(size=rows)
    effects = 1.2 * rng.normal(size=levels)[s] + 0.7 * rng.normal(size=levels)[s] * t + 0.8 * rng.normal(size=5)[g]
    return x.astype("float32"), s, g, t.astype("float32"), effects


def noise_of(head):
    """The variance of the noise of a Normal head, in the unit of y."""
    normal = head.unwrapped()
    return (normal.response_stddev.numpy() * np.exp(normal.log_scale.numpy())).astype(float) ** 2


@pytest.mark.parametrize("slopes", [(), ("t",)])
def test_linear_mixed_model_is_that_of_statsmodels(slopes):
    x, s, _, t, effects = simulated()
    y = (10 + 3 * x[:, 0] + 5 * effects + np.random.default_rng(1).normal(size=len(x))).astype("float32")
    head = heads.MixedEffects(heads.Normal(), {"s": heads.Group(s, slopes)}, train_size=len(x))
    model = identity_model(head, 2)
    given = {"x": x, "s": s} | ({"t": t} if slopes else {})
    model.adapt(given, y)
    found = bayes.fit_effects(model, given, y)
    frame = pd.DataFrame({"y": y, "a": x[:, 0], "b": x[:, 1], "t": t, "s": s})
    wanted = smf.mixedlm("y ~ a + b", frame, groups="s", re_formula="~t" if slopes else None).fit(reml=True)
    assert found.converged
    assert found.log_evidence == pytest.approx(wanted.llf, abs=1e-3)
    np.testing.assert_allclose(head.variance_components()["s"], wanted.cov_re, rtol=2e-3)
    np.testing.assert_allclose(noise_of(head), wanted.scale, rtol=1e-3)
    stddev = head.unwrapped().response_stddev.numpy()
    np.testing.assert_allclose(head.kernel.numpy().ravel() * stddev, wanted.fe_params[1:], rtol=1e-3)
    effects = np.array([wanted.random_effects[level] for level in head.groups["s"].levels]).reshape(-1, 1 + len(slopes))
    np.testing.assert_allclose(np.reshape(head.effects("s").mean(), effects.shape), effects, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("center", "unit"), [(0, 1e-4), (0, 1e6), (20, 1), (-5, 100)])
def test_the_unit_of_a_slope_changes_nothing(center, unit):
    """The model is the same in any unit of the slope, and from any zero of it: U = M^-1 U' if (1, t) = (1, t') M."""
    x, s, _, t, effects = simulated()
    y = (effects + np.random.default_rng(1).normal(size=len(x))).astype("float32")
    found = []
    for slope in (t, center + unit * t.astype(float)):
        head = heads.MixedEffects(heads.Normal(), {"s": heads.Group(s, "t")}, train_size=len(x))
        model = identity_model(head, 2)
        model.adapt({"x": x, "s": s, "t": slope}, y)
        fit = bayes.fit_effects(model, {"x": x, "s": s, "t": slope}, y)
        p_y, _ = model.predict_distribution({"x": x, "s": s, "t": slope})
        found.append((fit.log_evidence, head.variance_components()["s"], p_y))
    (evidence, component, p_y), (other_evidence, other, other_p_y) = found
    assert other_evidence == pytest.approx(evidence, abs=1e-3)
    back = np.array([[1, center], [0, unit]])
    np.testing.assert_allclose(back @ other @ back.T, component, rtol=5e-3, atol=1e-3)
    np.testing.assert_allclose(other_p_y.mean(), p_y.mean(), rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(other_p_y.stddev(), p_y.stddev(), rtol=1e-3)


def test_fitting_again_undoes_a_calibration():
    x, s, *_, effects = simulated()
    y = (effects + np.random.default_rng(1).normal(size=len(x))).astype("float32")
    model = identity_model(heads.MixedEffects(heads.Normal(), {"s": heads.Group(s)}, train_size=len(x)), 2)
    given = {"x": x, "s": s}
    model.adapt(given, y)
    bayes.fit_effects(model, given, y)
    stddev = model.predict_distribution(given)[0].stddev()
    model.head.widen(2.0)
    bayes.fit_effects(model, given, y)
    np.testing.assert_allclose(model.predict_distribution(given)[0].stddev(), stddev, rtol=1e-3)


def test_partly_observed_responses_with_an_offset():
    x, s, *_, effects = simulated(200)
    y = np.stack([effects, -effects], 1) + x[:, :1] + np.random.default_rng(1).normal(size=(200, 2))
    y[::3, 0] = np.nan
    found = []
    for inside in (
        heads.Offset(heads.PartlyObserved(heads.Normal((2,))), "o"),
        heads.PartlyObserved(heads.Offset(heads.Normal((2,)), "o")),
    ):
        model = identity_model(heads.MixedEffects(inside, {"s": heads.Group(s)}, train_size=200), 2)
        given = {"x": x, "s": s, "o": x[:, 0]}
        model.adapt(given, y)
        found.append(bayes.fit_effects(model, given, y).log_evidence)
    assert found[0] == pytest.approx(found[1], abs=1e-2)


def dense_evidence(y, fixed, blocks, components, noise):
    """log of the integral of p(y | B, U) p(U) over B, flat, and U: that of a Normal without its mean's part."""
    covariance = noise * np.eye(len(y))
    for block, component in zip(blocks, components, strict=True):
        covariance += block @ np.kron(np.eye(block.shape[1] // len(component)), component) @ block.T
    root = np.linalg.cholesky(covariance)
    a, b = np.linalg.solve(root, fixed), np.linalg.solve(root, y)
    rest = b - a @ np.linalg.lstsq(a, b, rcond=None)[0]
    log_det = 2 * np.log(np.diag(root)).sum() + np.linalg.slogdet(a.T @ a)[1]
    return -0.5 * (rest @ rest + log_det + (len(y) - fixed.shape[1]) * np.log(2 * np.pi))


def crossed():
    x, s, g, t, effects = simulated(150, 6)
    y = (1 + x[:, 0] + effects + np.random.default_rng(1).normal(size=len(x))).astype("float32")
    groups = {"g": heads.Group(g), "s": heads.Group(s, "t")}
    head = heads.MixedEffects(heads.Normal(), groups, train_size=len(x))
    model = identity_model(head, 2)
    given = {"x": x, "s": s, "g": g, "t": t}
    model.adapt(given, y)
    of_s = np.zeros((len(x), 12))
    of_s[np.arange(len(x)), 2 * s] = 1
    of_s[np.arange(len(x)), 2 * s + 1] = t
    return model, given, y, [np.eye(5)[g], of_s]


def test_crossed_groups_have_the_highest_dense_evidence():
    model, given, y, blocks = crossed()
    found = bayes.fit_effects(model, given, y)
    fixed = np.column_stack([given["x"], np.ones(len(y))])
    components = [one.astype(float) for one in model.head.variance_components().values()]
    noise = float(noise_of(model.head))
    y = y.astype(float)
    assert found.log_evidence == pytest.approx(dense_evidence(y, fixed, blocks, components, noise), abs=1e-3)

    def negative(free):
        lower = np.array([[np.exp(free[1]), 0], [free[2], np.exp(free[3])]])
        return -dense_evidence(
            y, fixed, blocks, [np.exp(free[:1, np.newaxis]) ** 2, lower @ lower.T], np.exp(2 * free[4])
        )

    best = scipy.optimize.minimize(negative, np.zeros(5), method="BFGS")
    assert found.log_evidence == pytest.approx(-best.fun, abs=1e-3)


def test_effects_are_the_conditional_normal_of_all():
    model, given, y, blocks = crossed()
    head = model.head
    bayes.fit_effects(model, given, y)
    components = [one.astype(float) for one in head.variance_components().values()]
    fixed = np.column_stack([given["x"], np.ones(len(y))])
    design = np.hstack([fixed, *blocks])
    prior = scipy.linalg.block_diag(
        np.zeros((3, 3)),
        *(np.kron(np.eye(count), np.linalg.inv(one)) for count, one in zip((5, 6), components, strict=True)),
    )
    covariance = np.linalg.inv(design.T @ design / noise_of(head) + prior)
    mean = covariance @ design.T @ y.astype(float) / noise_of(head)
    np.testing.assert_allclose(head.effects("g").mean(), mean[3:8], rtol=1e-3, atol=1e-3)
    precision = np.linalg.inv(covariance)
    np.testing.assert_allclose(head.effects("g").variance(), np.diag(covariance)[3:8], rtol=1e-3)
    given_others = head.posterior.of_group(0).covariance() * head.unwrapped().response_stddev ** 2
    np.testing.assert_allclose(np.ravel(given_others), 1 / np.diag(precision)[3:8], rtol=1e-3)
    np.testing.assert_allclose(np.ravel(head.effects("s").mean()), mean[8:], rtol=1e-3, atol=1e-3)
    for i in range(6):
        part = slice(8 + 2 * i, 10 + 2 * i)
        np.testing.assert_allclose(head.effects("s").covariance()[i], covariance[part, part], rtol=2e-3, atol=1e-4)
        given_others = head.posterior.of_group(1).covariance()[i] * head.unwrapped().response_stddev ** 2
        np.testing.assert_allclose(given_others, np.linalg.inv(precision[part, part]), rtol=2e-3, atol=1e-4)
    spread = [np.mean(mean[3:8] ** 2 + np.diag(covariance)[3:8])]
    np.testing.assert_allclose(np.ravel(components[0]), spread, rtol=1e-3)


def test_rows_of_known_levels_are_not_too_uncertain():
    """Of few levels, an effect alone is as uncertain as the intercept is; what a row has of the two is not."""
    rng = np.random.default_rng(0)
    s = np.repeat(np.arange(5), 400)
    x = rng.normal(size=(2000, 1)).astype("float32")
    y = (x[:, 0] + 3 * rng.normal(size=5)[s] + 0.5 * rng.normal(size=2000)).astype("float32")
    model = identity_model(heads.MixedEffects(heads.Normal(), {"s": heads.Group(s)}, train_size=2000), 1)
    model.adapt({"x": x, "s": s}, y)
    bayes.fit_effects(model, {"x": x, "s": s}, y)
    residual = y - model.predict({"x": x, "s": s}, verbose=0)
    p_y, _ = model.predict_distribution({"x": x, "s": s})
    np.testing.assert_allclose(p_y.stddev(), residual.std(), rtol=1e-2)
    low, high = model.predict_interval({"x": x, "s": s}, 0.9)
    assert 0.88 < np.mean((y >= low) & (y <= high)) < 0.92


def test_order_and_names_of_levels_change_nothing():
    x, s, g, _, effects = simulated()
    y = (effects + np.random.default_rng(1).normal(size=len(x))).astype("float32")
    found, order = [], np.random.default_rng(2).permutation(len(x))
    for rows, name in ((slice(None), lambda one: one), (order, lambda one: np.array([f"n{999 - i * i}" for i in one]))):
        groups = {"s": heads.Group(name(s)), "g": heads.Group(name(g + 50))}
        model = identity_model(heads.MixedEffects(heads.Normal(), groups, train_size=len(x)), 2)
        given = {"x": x[rows], "s": name(s)[rows], "g": name(g + 50)[rows]}
        model.adapt(given, y[rows])
        fit = bayes.fit_effects(model, given, y[rows])
        of_all = model.predict({"x": x, "s": name(s), "g": name(g + 50)}, verbose=0)
        found.append((fit.log_evidence, of_all, *model.head.variance_components().values()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_weight_two_is_a_row_twice():
    x, s, *_, effects = simulated(120)
    y = (effects + np.random.default_rng(1).normal(size=len(x))).astype("float32")
    found = []
    twice = np.arange(len(x)) % 3 == 0
    for rows, weights in (
        (slice(None), np.where(twice, 2.0, 1.0)),
        (np.concatenate([np.arange(len(x)), np.flatnonzero(twice)]), None),
    ):
        model = identity_model(heads.MixedEffects(heads.Normal(), {"s": heads.Group(s)}, train_size=len(x)), 2)
        model.adapt({"x": x, "s": s}, y)
        fit = bayes.fit_effects(model, {"x": x[rows], "s": s[rows]}, y[rows], sample_weight=weights)
        found.append((fit.log_evidence, model.head.variance_components()["s"], model.head.effects("s").mean()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_levels_without_rows_and_of_one_row():
    x, s, *_, effects = simulated(200)
    s = np.append(s, 50)[:200]
    s[0] = 77  # one row
    y = (effects + np.random.default_rng(1).normal(size=len(x))).astype("float32")
    head = heads.MixedEffects(heads.Normal(), {"s": heads.Group([*s, 1000, 1001])}, train_size=len(x))
    model = identity_model(head, 2)
    model.adapt({"x": x, "s": s}, y)
    bayes.fit_effects(model, {"x": x, "s": s}, y)
    q, prior = head.effects("s"), head.variance_components()["s"][0, 0]
    assert head.groups["s"].levels[-2:].tolist() == [1000, 1001]
    np.testing.assert_allclose(q.mean()[-2:], 0, atol=1e-6)
    np.testing.assert_allclose(q.variance()[-2:], prior, rtol=1e-2)
    one = head.groups["s"].levels.tolist().index(77)
    assert q.variance()[0] < q.variance()[one] < prior


FAMILIES = {
    "poisson": (heads.ExponentialFamily("Poisson"), lambda eta, rng: rng.poisson(np.exp(eta))),
    "bernoulli": (heads.Bernoulli(), lambda eta, rng: (rng.random(len(eta)) < scipy.special.expit(eta)).astype(float)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_laplace_is_that_of_dense_optimization(name):
    kind, draw = FAMILIES[name]
    x, s, *_, effects = simulated(120, 5)
    y = draw(0.5 * x[:, 0] + 0.6 * effects, np.random.default_rng(1)).astype("float32")
    head = heads.MixedEffects(type(kind).from_config(kind.get_config()), {"s": heads.Group(s)}, train_size=len(x))
    model = identity_model(head, 2)
    found = bayes.fit_effects(model, {"x": x, "s": s}, y)
    variance = float(head.variance_components()["s"][0, 0])
    design = np.column_stack([x, np.ones(len(x)), np.eye(5)[s]]).astype(float)
    family = sm.families.Poisson() if name == "poisson" else sm.families.Binomial()

    def log_joint(coefficients):
        mean = family.link.inverse(design @ coefficients)
        log_likelihood = family.loglike(y.astype(float), mean)
        return log_likelihood + scipy.stats.norm.logpdf(coefficients[3:], scale=np.sqrt(variance)).sum()

    best = scipy.optimize.minimize(lambda b: -log_joint(b), np.zeros(8), method="BFGS", options={"gtol": 1e-6})
    mean = family.link.inverse(design @ best.x)
    prior = np.diag(np.append(np.zeros(3), np.full(5, 1 / variance)))
    precision = design.T @ (family.variance(mean)[:, np.newaxis] * design) + prior
    evidence = log_joint(best.x) + 4 * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(precision)[1]
    assert found.converged and found.log_evidence == pytest.approx(evidence, abs=2e-3)
    np.testing.assert_allclose(head.effects("s").mean(), best.x[3:], rtol=1e-2, atol=2e-3)
    covariance = np.linalg.inv(precision)
    np.testing.assert_allclose(head.effects("s").variance(), np.diag(np.linalg.inv(precision))[3:], rtol=1e-2)
    # The fixed point of expectation maximization.
    np.testing.assert_allclose(variance, np.mean(best.x[3:] ** 2 + np.diag(covariance)[3:]), rtol=1e-2)


def test_several_predictors_are_those_of_dense_algebra():
    """A Categorical head: blocks of three effects a level, with a common information."""
    rng = np.random.default_rng(0)
    x, s, g, _, _ = simulated(200, 5)
    y = rng.integers(0, 3, len(x))
    groups = {"s": heads.Group(s), "g": heads.Group(g)}
    head = heads.MixedEffects(heads.Categorical(3), groups, train_size=len(x))
    model = identity_model(head, 2)
    given = {"x": x, "s": s, "g": g}
    found = bayes.fit_effects(model, given, y, prior=0.1)
    components = [one.astype(float) for one in head.variance_components().values()]
    design = np.kron(np.column_stack([x, np.ones(len(x)), np.eye(5)[s], np.eye(5)[g]]), np.eye(3))
    prior = scipy.linalg.block_diag(0.1 * np.eye(9), *(np.kron(np.eye(5), np.linalg.inv(one)) for one in components))

    def log_joint(coefficients):
        eta = (design @ coefficients).reshape(-1, 3)
        chosen = eta[np.arange(len(y)), y] - scipy.special.logsumexp(eta, axis=1)
        return chosen.sum() - 0.5 * coefficients @ prior @ coefficients

    best = scipy.optimize.minimize(lambda b: -log_joint(b), np.zeros(design.shape[1]), method="BFGS")
    probs = scipy.special.softmax((design @ best.x).reshape(-1, 3), 1)
    blocks = probs[:, :, np.newaxis] * np.eye(3) - probs[:, :, np.newaxis] * probs[:, np.newaxis]
    precision = design.T @ scipy.linalg.block_diag(*blocks) @ design + prior
    evidence = log_joint(best.x) - 0.5 * np.linalg.slogdet(precision)[1] + 4.5 * np.log(2 * np.pi)
    evidence -= 2.5 * sum(np.linalg.slogdet(one)[1] for one in components)
    assert found.converged and found.log_evidence == pytest.approx(evidence, abs=1e-2)
    covariance = np.linalg.inv(precision)
    for i, name in enumerate(groups):
        q = head.effects(name)
        start = 9 + 15 * i
        np.testing.assert_allclose(np.ravel(q.mean()), best.x[start : start + 15], atol=5e-3)
        for level in range(5):
            part = slice(start + 3 * level, start + 3 * level + 3)
            np.testing.assert_allclose(q.covariance()[level], covariance[part, part], rtol=5e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("head", "family", "draw"),
    [
        (heads.ExponentialFamily("Poisson"), sm.families.Poisson(), lambda mean, rng: rng.poisson(mean)),
        (heads.Bernoulli(), sm.families.Binomial(), lambda mean, rng: (rng.random(len(mean)) < mean).astype(float)),
        (heads.Normal(), sm.families.Gaussian(), lambda mean, rng: mean + rng.normal(size=len(mean))),
        (
            heads.ExponentialFamily("GammaExp"),
            sm.families.Gamma(sm.families.links.Log()),
            lambda mean, rng: mean * rng.exponential(size=len(mean)),
        ),
    ],
)
def test_offsets_are_those_of_statsmodels(head, family, draw):
    rng = np.random.default_rng(0)
    x, offset = rng.normal(size=(400, 2)), rng.normal(size=400) + 1
    y = draw(family.link.inverse(0.3 + x @ [0.5, -0.4] + offset), rng)
    wanted = sm.GLM(y, sm.add_constant(x), family=family, offset=offset).fit().params
    log_link = isinstance(family.link, sm.families.links.Log)
    ways = ({"offset": "o"}, {"exposure": "o"}) if log_link else ({"offset": "o"},)
    for way in ways:
        inside = type(head).from_config(head.get_config())
        model = identity_model(heads.Offset(inside, **way), 2)
        given = {"x": x, "o": offset if "offset" in way else np.exp(offset)}
        model.adapt(given, y)
        bayes.fit_effects(model, given, y)
        found = np.append(inside.bias.numpy(), inside.kernel.numpy())
        if isinstance(inside, heads.Normal):
            found = found * inside.response_stddev.numpy() + [inside.response_mean.numpy(), 0, 0]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
        p_y, _ = model.predict_distribution(given)
        np.testing.assert_allclose(
            p_y.mean(), family.link.inverse(sm.add_constant(x) @ wanted + offset), rtol=2e-2, atol=1e-2
        )


@pytest.mark.integration
def test_training_comes_near_to_the_exact_fit():
    x, s, *_, effects = simulated(400, 8)
    y = (2 * x[:, 0] + 2 * effects + np.random.default_rng(1).normal(size=len(x))).astype("float32")
    keras.utils.set_random_seed(0)
    head = heads.MixedEffects(heads.Normal(), {"s": heads.Group(s)}, train_size=len(x))
    model = identity_model(head, 2)
    model.fit({"x": x, "s": s}, y, batch_size=100, epochs=150, verbose=0)
    trained = head.effects("s").mean().numpy(), head.variance_components()["s"][0, 0]
    bayes.fit_effects(model, {"x": x, "s": s}, y)
    exact = head.effects("s").mean().numpy(), head.variance_components()["s"][0, 0]
    assert np.abs(trained[0] - exact[0]).max() < 0.5
    assert trained[1] == pytest.approx(exact[1], rel=0.3)


def test_new_groups_are_covered():
    """90 % intervals of rows of groups that were not seen, of which there are many."""
    rng = np.random.default_rng(0)
    s = np.repeat(np.arange(600), 5)
    x = rng.normal(size=(3000, 1)).astype("float32")
    y = (x[:, 0] + 2 * rng.normal(size=600)[s] + rng.normal(size=3000)).astype("float32")
    known = s < 300
    head = heads.MixedEffects(heads.Normal(), {"s": heads.Group(s[known])}, train_size=known.sum())
    model = identity_model(head, 1)
    model.adapt({"x": x[known], "s": s[known]}, y[known])
    bayes.fit_effects(model, {"x": x[known], "s": s[known]}, y[known])
    low, high = model.predict_interval({"x": x[~known], "s": s[~known]}, 0.9)
    assert 0.87 < np.mean((y[~known] >= low) & (y[~known] <= high)) < 0.93


def test_what_is_refused():
    x, s, *_, effects = simulated(60)
    y = (effects + np.random.default_rng(1).normal(size=60)).astype("float32")
    given = {"x": x, "s": s}
    model = identity_model(heads.MixedEffects(heads.Normal(), {"s": heads.Group(s)}, 60), 2)
    model.adapt(given, y)
    for use, message in (
        (lambda: bayes.fit_effects(3, x, y), "model is 3"),
        (lambda: bayes.fit_effects(model, given, y, prior=-1.0), "prior is -1.0"),
        (lambda: bayes.fit_effects(model, given, y, max_rounds=0), "max_rounds is 0"),
        (lambda: bayes.fit_effects(model, x, y), "wanted a dict of"),
        (lambda: bayes.fit_effects(model, {"x": x * 0, "s": s}, y), "The rows do not determine the fixed effects"),
        (lambda: bayes.fit(model, given, y), "has the side inputs"),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    classes = identity_model(heads.MixedEffects(heads.Categorical(2), {"s": heads.Group(s)}, 60), 2)
    with pytest.raises(ValueError, match="prior is 0, but the logits of a Categorical head may all rise together"):
        bayes.fit_effects(classes, given, (y > 0).astype(int))
    variational = identity_model(heads.Variational(heads.Normal(), 60), 2)
    with pytest.raises(ValueError, match="the head has a posterior"):
        bayes.fit_effects(variational, x, y)
    with pytest.warns(UserWarning, match="still changed after 2 rounds"):
        assert not bayes.fit_effects(model, given, (y + s).astype("float32"), max_rounds=2).converged
    with pytest.raises(ValueError, match="'s' holds no id that is a level; wanted"):
        bayes.fit_effects(model, {"x": x, "s": s + 100}, y)
    with pytest.warns(UserWarning, match="'s' holds ids that are no levels in 1 rows, which have no effect"):
        bayes.fit_effects(model, {"x": x, "s": np.append(s[1:], 999)}, y)
    model.head.train_size = 600.0
    with pytest.warns(UserWarning, match="`train_size` of the head is 600, but there are 60 rows; .* zero less than"):
        bayes.fit_effects(model, given, y)


@pytest.mark.parametrize("t", [np.ones(60), np.zeros(60), 2000 + np.linspace(-1, 1, 60)])
def test_slopes_that_do_not_vary_about_zero(t):
    x, s, *_ = simulated(60)
    model = identity_model(heads.MixedEffects(heads.Normal(), {"s": heads.Group(s, "t")}, 60), 2)
    model.adapt({"x": x, "s": s, "t": t}, x[:, 0])
    with pytest.raises(ValueError, match="'t', a slope, has the mean .*; wanted values that vary about zero"):
        bayes.fit_effects(model, {"x": x, "s": s, "t": t}, x[:, 0])


def test_two_very_large_groups_are_refused():
    ids = np.arange(40_000)
    groups = {"a": heads.Group(ids), "b": heads.Group(ids)}
    model = identity_model(heads.MixedEffects(heads.Normal(), groups, len(ids)), 1)
    given = {"x": np.linspace(-1, 1, len(ids))[:, np.newaxis], "a": ids, "b": ids}
    with pytest.raises(ValueError, match="The groups have 40,000 and 40,000 levels; wanted one that is large"):
        bayes.fit_effects(model, given, given["x"][:, 0])
