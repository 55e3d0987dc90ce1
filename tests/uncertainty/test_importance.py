"""`column_importance`, against the closed form of linear Gaussian models."""

import keras
import numpy as np
import pandas as pd
import pytest

import tfp_hybrid as hy
from tfp_hybrid import tables
from tfp_hybrid.uncertainty import column_importance

COVARIANCE = np.array([[1.0, 0.8, 0.0, 0.0], [0.8, 2.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 3.0]])
WEIGHTS, STDDEV = np.array([1.0, 0.0, -0.5, 0.0]), 0.7


def rows(count, seed):
    rng = np.random.default_rng(seed)
    x = rng.multivariate_normal(np.zeros(4), COVARIANCE, count)
    return x, x @ WEIGHTS + STDDEV * rng.normal(size=count)


def gaussian(head=None):
    """The Gaussian of the covariance, with the head if there is one."""
    p_x = hy.flow_distribution(hy.bijectors.Whitening((4,), dtype="float64"))
    model = hy.DensityModel(p_x) if head is None else hy.HybridModel(p_x, head)
    x = rows(1000, 0)[0]
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T, bias=True))).T @ np.linalg.cholesky(COVARIANCE).T
    if head is None:
        model.adapt(x)
    else:
        model.flow.adapt(x)
    return model


@pytest.fixture(scope="module")
def linear():
    """y = w x + e, with the head's weights those of the truth."""
    model = gaussian(hy.heads.Normal(dtype="float64"))
    p_y = model.head(np.zeros((1, 4)))
    z = model.encode(np.eye(4)).z.numpy() - model.encode(np.zeros((1, 4))).z.numpy()
    kernel = model.head.kernel.numpy()
    kernel[:] = 0
    kernel[:, 0] = np.linalg.solve(z, WEIGHTS)
    model.head.kernel.assign(kernel)
    model.head.widen(STDDEV / p_y.stddev().numpy().ravel()[0])
    return model


def test_a_linear_gaussian_has_a_closed_form(linear):
    x, y = rows(4000, 1)
    assert np.std(y - linear.predict(x, verbose=0).ravel()) == pytest.approx(STDDEV, rel=0.05)
    found = column_importance(linear, x, y)
    variances, precisions = np.diag(COVARIANCE), np.diag(np.linalg.inv(COVARIANCE))
    expected = WEIGHTS**2 * variances / STDDEV**2, precisions * variances - 1
    for title, wanted in zip(("p(y|x)", "log p(x)"), expected, strict=True):
        errors = found[f"{title} standard error"]
        np.testing.assert_array_less(np.abs(found[title] - wanted), 4 * errors + 1e-6)
        assert (errors < 0.1).all()
    assert found["log p(x)"].iloc[2:].abs().max() < 1e-9, "the others are independent"
    assert found["p(y|x)"].iloc[[1, 3]].abs().max() < 1e-9
    assert found.index.tolist() == ["x0", "x1", "x2", "x3"]


def test_standard_errors_are_those_of_other_rows(linear):
    """The spread of the estimates from 40 data sets."""
    found = [column_importance(linear, *rows(300, seed), repeats=3, seed=seed) for seed in range(2, 42)]
    for title, column in [("p(y|x)", "x0"), ("p(y|x)", "x2"), ("log p(x)", "x0")]:
        spread = np.std([table.loc[column, title] for table in found])
        claimed = np.mean([table.loc[column, f"{title} standard error"] for table in found])
        assert 0.75 * spread < claimed < 1.6 * spread, title


def test_groups_stay_with_their_row(linear):
    """As without groups, of responses without their effects."""
    x, y = rows(300, 1)
    school, effects = np.arange(300) % 5, np.array([-9.0, 4.0, 0.0, 2.0, 7.0])
    groups = {"school": hy.heads.Group(range(5))}
    model = gaussian(hy.heads.MixedEffects(hy.heads.Normal(dtype="float64"), groups, train_size=300))
    model.head.kernel.assign(linear.head.kernel)
    model.head.widen(float(linear.head.widening))
    model.head.posterior.set_effects(0, effects[:, np.newaxis], np.full((5, 1, 1), 1e-12), np.zeros((5, 1, 1)))
    found = column_importance(model, {"x": x, "school": school}, y + effects[school], repeats=2)
    pd.testing.assert_frame_equal(found, column_importance(linear, x, y, repeats=2), rtol=1e-6, atol=1e-9)


def test_a_density_has_no_response():
    model, (x, y) = gaussian(), rows(500, 1)
    found = column_importance(model, pd.DataFrame(x, columns=list("abcd")), seed=1)
    assert found.columns.tolist() == ["log p(x)", "log p(x) standard error"] and found.index.tolist() == list("abcd")
    assert found["log p(x)"]["a"] > 0.2 and found["log p(x)"]["c"] == pytest.approx(0, abs=1e-9)
    pd.testing.assert_frame_equal(found, column_importance(model, pd.DataFrame(x, columns=list("abcd")), seed=1))
    with pytest.raises(ValueError, match="y is given, but model is a DensityModel"):
        column_importance(model, x, y)


def test_a_table_with_holes_and_categories():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=1500)
    told = np.where(rng.uniform(size=1500) < 0.15, 1 - y, y)
    table = pd.DataFrame(
        {
            "plan": np.array(["basic", "gold"])[told],
            "noise": rng.normal(size=1500),
            "held": np.where(rng.uniform(size=1500) < 0.3, np.nan, rng.normal(size=1500)),
            "copy": told + 0.1 * rng.normal(size=1500),
        }
    )
    columns = tables.Columns.from_frame(table[:1000], dtype="float64")
    flow = hy.bijectors.RealNVP(columns.latent_shape[0], couplings=4, hidden_units=(16, 16), dtype="float64")
    p_x = hy.flow_distribution(hy.bijectors.FusedChain([columns, flow], columns.event_shape))
    model = hy.HybridModel(p_x, hy.heads.Categorical(2, dtype="float64"), generative_weight=1.0)
    model.compile(keras.optimizers.Adam(1e-2, clipnorm=10.0))
    model.fit(table[:1000], y[:1000], batch_size=100, epochs=25, verbose=0)
    found = column_importance(model, table[1000:], y[1000:])
    told = found.loc[["plan", "copy"]]
    others = found.loc[["noise", "held"]]
    assert told["p(y|x)"].sum() > 0.2 > 3 * others["p(y|x)"].abs().max()
    assert told["log p(x)"].min() > 1 > 2 * others["log p(x)"].max()


def test_impossible_rows():
    model = hy.DensityModel(hy.flow_distribution(hy.bijectors.ActNorm((2,))))
    x = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
    wild = np.concatenate([x, [[1e30, 0]]]).astype("float32")
    found = column_importance(model, wild)  # rows of log p(x) = -inf do not count
    pd.testing.assert_frame_equal(found, column_importance(model, x))
    with pytest.raises(ValueError, match="x has 1 rows with finite log p"):
        column_importance(model, wild[-2:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "model"}, "model is a str"),
        ({"repeats": 0}, "repeats is 0; wanted a whole number, at least 1"),
        ({"y": None}, "y is missing"),
        ({"y": np.zeros(4)}, "y has 4 rows but x has 5"),
        ({"x": np.zeros((5, 3))}, r"x has shape \(5, 3\)"),
        ({"model": hy.DensityModel(hy.flow_distribution(hy.bijectors.ActNorm((2, 2, 1))))}, "wanted vectors"),
    ],
)
def test_wrong_arguments_are_explained(linear, options, message):
    with pytest.raises(ValueError, match=message):
        column_importance(**{"model": linear, "x": np.zeros((5, 4)), "y": np.zeros(5)} | options)
