"""Queries against formulas and brute force; simulated learning."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import active, bayes, heads, uncertainty

tfb, tfd = tfp.bijectors, tfp.distributions
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
CLASSES = np.clip(np.round(1 + X[:, 0] + 0.3 * RNG.normal(size=60)), 0, 2).astype(int)
POOL = 2 * RNG.normal(size=(40, 2))


def fitted(head, y, x=X, **options):
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(np.zeros(2)), tfb.Identity())
    model = hy.HybridModel(p_x, head)
    model.head.adapt(y)
    bayes.fit(model, x, y, prior=0.5, **options)
    return model


def classifier(**options):
    return fitted(heads.Categorical(3, dtype="float64"), CLASSES, **options)


@pytest.mark.parametrize("rows", [5, 256])
def test_a_batch_of_linear_regression_is_greedy_in_the_variance(rows, monkeypatch):
    """Each row counts as seen when the next is chosen, by an inverse that is computed anew."""
    monkeypatch.setattr(active, "_ROWS", rows)  # of which the most wanted are looked at again
    model = fitted(heads.Normal(dtype="float64"), X[:, 0] + RNG.normal(size=60))
    phi, seen = np.c_[POOL, np.ones(40)], np.c_[X, np.ones(60)]
    wanted = []
    for _ in range(8):
        rows = np.r_[seen, phi[wanted]]
        covariance = np.linalg.inv(rows.T @ rows + np.diag([0.5, 0.5, 0.01]))
        variance = np.einsum("nf,fg,ng->n", phi, covariance, phi)
        variance[wanted] = -1
        wanted.append(int(variance.argmax()))
    before = model.head.posterior
    assert active.Variance().choose(model, POOL, 8).tolist() == wanted
    assert model.head.posterior is before


def test_a_row_that_stands_twice_is_asked_for_less():
    model = fitted(heads.Categorical(3, dtype="float64"), CLASSES[:12], X[:12])
    twins = np.repeat(POOL, 2, 0)
    one_by_one = uncertainty.decompose(model, twins).epistemic.argsort()[::-1][:6] // 2
    assert len(set(one_by_one)) == 3
    assert len(set(active.BALD().choose(model, twins, 6) // 2)) > 3


@pytest.mark.parametrize("density_power", [0.0, 0.5])
def test_few_rows_are_looked_at_again(density_power, monkeypatch):
    """And the choice is that of all rows looked at again."""
    model, query = classifier(), active.BALD(density_power)
    pool = np.random.default_rng(5).normal(size=(200, 2))
    wanted, of, seen = query.choose(model, pool, 6).tolist(), active.BALD.of, []
    monkeypatch.setattr(active, "_ROWS", 10)
    monkeypatch.setattr(active.BALD, "of", lambda self, head, z: seen.append(len(z)) or of(self, head, z))
    assert query.choose(model, pool, 6).tolist() == wanted
    assert sum(seen) < 200 + 5 * 100


def test_information_of_a_row_is_that_of_a_fit():
    """As if the label were known: with canonical links, the covariance does not depend on it."""
    model = fitted(heads.Bernoulli(dtype="float64"), (CLASSES > 0).astype(int))
    after = active._with_row(model.head, tf.constant(POOL[:1]), model.head.information)
    eta = float(model.head.posterior.linear_predictor(POOL[:1])[0, 0])
    p, phi = 1 / (1 + np.exp(-eta)), np.append(POOL[0], 1)
    precision = np.linalg.inv(model.head.posterior.get("covariance")) + p * (1 - p) * np.outer(phi, phi)
    np.testing.assert_allclose(after.get("covariance"), np.linalg.inv(precision), rtol=1e-6)


@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_scores_are_their_formulas(structure):
    model = classifier(structure=structure)
    z = model.encode(POOL).features
    probs = np.sort(model.predict(POOL, verbose=0), -1)
    entropy = -(probs * np.log(probs)).sum(-1)
    np.testing.assert_allclose(active.Entropy().of(model.head, z), entropy, rtol=1e-5)
    np.testing.assert_allclose(active.Margin().of(model.head, z), 1 - probs[:, -1] + probs[:, -2], rtol=1e-5)
    epistemic = uncertainty.decompose(model, POOL).epistemic
    np.testing.assert_allclose(active.BALD().of(model.head, z), epistemic)
    assert active.Entropy().choose(model, POOL, 1)[0] == entropy.argmax()
    chosen = active.Margin().choose(model, POOL, 5)
    assert len(set(chosen)) == 5 and chosen[0] == (probs[:, -1] - probs[:, -2]).argmin()


def test_margin_of_yes_and_no():
    model = fitted(heads.Bernoulli(dtype="float64"), (CLASSES > 0).astype(int))
    p = model.predict(POOL, verbose=0)
    np.testing.assert_allclose(active.Margin().of(model.head, POOL), 1 - np.abs(2 * p - 1), rtol=1e-5)


def test_typical_rows_are_preferred():
    model = classifier()
    log_prob = model.log_prob(POOL)
    means = [log_prob[active.BALD(power).choose(model, POOL, 10)].mean() for power in (0.0, 1.0, 10.0)]
    assert means[0] < means[1] < means[2]


def test_random_follows_its_seed():
    model = classifier()
    model.head.posterior = None
    first, again, other = (active.Random().choose(model, POOL, 40, seed) for seed in (1, 1, 2))
    assert sorted(first) == list(range(40)) and (first == again).all() and (first != other).any()


def test_simulation_learns_and_compares():
    def make_model(x, y):
        return fitted(heads.Bernoulli(dtype="float64"), y, x)

    x = RNG.normal(size=(300, 2))
    y = (x @ [3.0, 1.0] + 0.1 * RNG.normal(size=300) > 0).astype(int)
    queries = [active.Random(), active.BALD()]
    table = active.simulate(
        make_model, (x[:200], y[:200]), (x[200:], y[200:]), queries, 4, 4, 14, seeds=(0, 1), verbose=0
    )
    assert table.groupby(["query", "seed"])["labels"].apply(list).iloc[0] == [4, 8, 12, 14]
    start = table[table["labels"] == 4].pivot(index="seed", columns="query", values="error")
    assert (start["BALD"] == start["Random"]).all()
    errors = table.groupby(["query", "labels"])["error"].mean()
    figure = uncertainty.pictures.query_curves(table)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["Random", "BALD"]
    assert errors["BALD", 14] < errors["BALD", 4] and errors["BALD", 14] <= errors["Random", 14]


def test_random_rows_are_drawn_anew_each_round():
    """The pool shrinks by a few rows each time, so an order that repeats would ask for their neighbours."""
    known = []

    def make_model(x, y):
        known.append(x[:, 0].astype(int))
        return fitted(heads.Normal(dtype="float64"), y, x)

    pool = np.c_[np.arange(300.0), np.zeros(300)], np.arange(300.0)
    active.simulate(make_model, pool, pool, [active.Random()], 5, 5, 55, verbose=0)
    asked = [np.setdiff1d(after, before) for before, after in zip(known, known[1:], strict=False)]
    gaps = [np.abs(one[:, np.newaxis] - other).min(1) for one, other in zip(asked, asked[1:], strict=False)]
    assert [len(rows) for rows in asked] == [5] * 10 and np.mean(np.array(gaps) <= 2) < 0.3


def test_simulation_of_a_regression():
    def make_model(x, y):
        return fitted(heads.Normal(dtype="float64"), y, x)

    y = X @ [1.0, 2.0]
    table = active.simulate(make_model, (X, y), (X, y), [active.Variance()], 5, 5, 10, verbose=0)
    assert table["error"].iloc[-1] < 0.5 and dataclasses.is_dataclass(active.Variance())


@pytest.mark.parametrize("make", [lambda: heads.Categorical(3), lambda: heads.NormalMixture(2), heads.Bernoulli])
def test_float32(make):
    head = make()
    y = X[:, 0] if not head.classifies else np.minimum(CLASSES, 2 if head.integer_labels else 1)
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag([0.0, 0.0]), tfb.Identity())
    model = hy.HybridModel(p_x, head)
    model.head.adapt(y)
    bayes.fit(model, X, y, prior=0.5)
    assert len(set(active.BALD().choose(model, POOL, 8))) == 8


def test_rows_that_overflow_are_asked_for_last():
    model = classifier()
    pool = POOL[:6].copy()
    pool[:3] = 1e300
    chosen = active.Entropy().choose(model, pool, 6)
    assert sorted(chosen) == list(range(6)) and set(chosen[:3]) == {3, 4, 5}


def test_frames_and_columns_of_labels():
    def make_model(x, y):
        return fitted(heads.Normal(dtype="float64"), np.asarray(y), np.asarray(x))

    x, y = pd.DataFrame(X, index=np.arange(60)[::-1]), pd.Series(X @ [1.0, 2.0], index=np.arange(60) + 7)
    queries = [active.Variance(), active.Variance(0.5)]
    table = active.simulate(make_model, (x, y), (X, y.to_numpy()[:, np.newaxis]), queries, 5, 5, 10, verbose=0)
    assert table["error"].max() < 1 and set(table["query"]) == {"Variance", "Variance(0.5)"}


def test_errors():
    model = classifier()
    with pytest.raises(ValueError, match="count is 41, but x has 40 rows"):
        active.Entropy().choose(model, POOL, 41)
    with pytest.raises(ValueError, match="density_power"):
        active.BALD(-1.0)
    with pytest.raises(ValueError, match=r"labels is 3; wanted from `start` = 10 to the 60 rows of the pool"):
        active.simulate(None, (X, CLASSES), (X, CLASSES), [active.Random()], labels=3)
    with pytest.raises(ValueError, match=r"table lacks the columns \['query', 'seed', 'labels', 'error'\]"):
        uncertainty.pictures.query_curves(pd.DataFrame())
    model.head.posterior = None
    for query in (active.BALD(), active.Variance()):
        with pytest.raises(ValueError, match=rf"{type(query).__name__}: the head has no posterior"):
            query.choose(model, POOL, 1)
    with pytest.raises(ValueError, match="Margin: the head is Normal; wanted a classifier"):
        active.Margin().choose(fitted(heads.Normal(dtype="float64"), X[:, 0]), POOL, 1)
