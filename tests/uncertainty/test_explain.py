"""`explain`, against closed forms and numerical integration."""

import warnings

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.stats

import tfp_hybrid as hy
from tfp_hybrid import tables
from tfp_hybrid.uncertainty import explain
from tfp_hybrid.uncertainty.hole_units import log_widths

COVARIANCE = np.array([[1.0, 0.8, 0.0], [0.8, 2.0, -0.5], [0.0, -0.5, 0.5]])


def identity(size=3, dtype="float32"):
    """A model of standard normal inputs: z = x."""
    return hy.DensityModel(hy.flow_distribution(hy.bijectors.ActNorm((size,), dtype)))


def gaussian_rows(count, seed=0):
    return np.random.default_rng(seed).multivariate_normal(np.zeros(3), COVARIANCE, count)


@pytest.fixture(scope="module")
def gaussian():
    model = hy.DensityModel(hy.flow_distribution(hy.bijectors.Whitening((3,), dtype="float64")))
    model.adapt(gaussian_rows(200_000))
    return model


def frame(rows=2000, seed=0):
    """Two categories that depend on one another, a number that is never missing, and one that is at times.

    The two are far apart, since the couplings of `RealNVP` see how its halves depend on one another.
    """
    rng = np.random.default_rng(seed)
    sex = rng.integers(2, size=rows)
    ward = np.where(sex == 0, "obstetrics", rng.choice(["urology", "surgery"], rows))
    age = np.round(rng.normal(50, 10, rows))
    weight = np.where(rng.uniform(size=rows) < 0.2, np.nan, rng.normal(70, 8, rows))
    return pd.DataFrame({"sex": np.array(["f", "m"])[sex], "age": age, "weight": weight, "ward": ward})


@pytest.fixture(scope="module")
def of_table():
    keras.utils.set_random_seed(0)
    columns = tables.Columns.from_frame(frame(), dtype="float64")
    flow = hy.bijectors.RealNVP(columns.latent_shape[0], couplings=4, hidden_units=(32, 32), dtype="float64")
    model = hy.DensityModel(hy.flow_distribution(hy.bijectors.FusedChain([columns, flow], columns.event_shape)))
    model.compile(keras.optimizers.Adam(1e-2, clipnorm=10.0))
    model.fit(frame(), batch_size=100, epochs=25, verbose=0)
    return model


def test_independent_normals_have_a_closed_form():
    reference, x = (np.random.default_rng(seed).normal(size=(40, 3)) for seed in (0, 1))
    found = explain(identity(dtype="float64"), x, reference, draws=40)
    density = scipy.stats.norm.pdf
    np.testing.assert_allclose(found, np.log(density(reference).mean(0) / density(x)), rtol=1e-9, atol=1e-9)
    assert found.columns.tolist() == ["x0", "x1", "x2"] and found.index.tolist() == list(range(40))


def test_a_gaussian_by_numerical_integration(gaussian):
    x = np.concatenate([gaussian_rows(4, seed=1), [[1.5, -2.0, 0.0], [0.0, 4.0, 0.0]]])
    found = explain(gaussian, x, gaussian_rows(20_000, seed=2), draws=1500)
    density = scipy.stats.multivariate_normal(np.zeros(3), COVARIANCE)
    for j in range(3):
        stddev = np.sqrt(COVARIANCE[j, j])
        grid = np.linspace(-9 * stddev, 9 * stddev, 2001)
        changed = np.repeat(x[:, np.newaxis], len(grid), axis=1)
        changed[..., j] = grid
        usual = np.trapezoid(density.pdf(changed) * scipy.stats.norm.pdf(grid, scale=stddev), grid)
        # A mean of 1,500 draws, of a density that may be narrow.
        np.testing.assert_allclose(found[f"x{j}"], np.log(usual) - density.logpdf(x), atol=0.25)


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_wild_value_names_its_column(gaussian, column):
    x = gaussian_rows(20, seed=3)
    x[:, column] = 12.0
    found = explain(gaussian, x, gaussian_rows(200, seed=2))
    assert (found.to_numpy().argmax(1) == column).all()


def test_a_new_hole_names_its_column(of_table):
    x = frame(20, seed=1)
    x.loc[3, "age"] = np.nan
    found = explain(of_table, x, frame(500, seed=2))
    assert found.loc[3].idxmax() == "age" and (found["age"] > found["age"][3]).sum() == 0
    # The probability of a hole is 1 / (2 (n + 1)).
    assert found.loc[3, "age"] == pytest.approx(np.log(2 * 2001), abs=0.8)
    assert found.columns.tolist() == ["sex", "age", "weight", "ward"]


def test_categories_that_never_occur_together_are_both_named(of_table):
    x = frame(20, seed=1).assign(sex="m", ward="obstetrics")
    found = explain(of_table, x, frame(500, seed=2)).mean()
    assert found[["sex", "ward"]].min() > 1.2 > found[["age", "weight"]].max() + 0.5


def with_holes(unit):
    """Numbers of which a fifth is missing, and the model of them by their marginals alone."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": unit * rng.normal(size=4000), "b": rng.normal(size=4000)})
    table.loc[rng.uniform(size=4000) < 0.2, "a"] = np.nan
    columns = tables.Columns.from_frame(table)
    return hy.DensityModel(hy.flow_distribution(hy.bijectors.FusedChain([columns], (2,)))), table


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e6])
def test_usual_holes_have_a_closed_form_in_any_unit(unit):
    model, table = with_holes(unit)
    x = pd.DataFrame({"a": unit * np.array([0.0, np.nan, 6.0]), "b": 0.0})
    found = explain(model, x, table, draws=400)["a"]
    # With w = 2 sqrt(pi) standard deviations: 0.8 0.8 + 0.2 0.2 against 0.8 w N(0; 0, 1) and 0.2.
    assert found[0] == pytest.approx(np.log(0.68 / (0.8 * np.sqrt(2))), abs=0.2)
    assert found[1] == pytest.approx(np.log(0.68 / 0.2), abs=0.2)
    assert found[2] > 6


def test_widths_are_those_of_closed_forms():
    model, table = with_holes(3.0)
    x = model.inputs_spec.columns.to_array(table)
    np.testing.assert_allclose(log_widths(model, x, x), [np.log(2 * np.sqrt(np.pi) * 3), 0], atol=0.1)
    levels = pd.DataFrame({"plan": np.random.default_rng(0).choice(["a", "b", "c", "d", None], 2000)})
    columns = tables.Columns.from_frame(levels)
    model = hy.DensityModel(hy.flow_distribution(hy.bijectors.FusedChain([columns], (1,))))
    x = columns.to_array(levels)
    np.testing.assert_allclose(log_widths(model, x, x), [np.log(4)], atol=0.05)
    known = x[~np.isnan(x[:, 0])]
    assert log_widths(model, known[:9], known) == [0], "no holes, no width"
    assert log_widths(model, x[:9] * np.nan, known) == pytest.approx(np.log(4), abs=0.05)


def test_arrays_and_frames_agree(of_table):
    x, reference = frame(5, seed=1).set_index(pd.Index(list("abcde"))), frame(50, seed=2)
    columns = of_table.inputs_spec.columns
    found = explain(of_table, x, reference, draws=8)
    again = explain(of_table, columns.to_array(x), columns.to_array(reference), draws=8)
    np.testing.assert_array_equal(found, again)
    assert found.index.tolist() == list("abcde")
    pd.testing.assert_frame_equal(found, explain(of_table, x[x.columns[::-1]], reference, draws=8))
    assert not found.equals(explain(of_table, x, reference, draws=8, seed=1))


def test_the_noise_is_as_before(of_table):
    x = frame(50, seed=1)
    before = of_table.log_prob(x)
    explain(of_table, x[:2], x, draws=3)
    np.testing.assert_array_equal(before, of_table.log_prob(x))


def test_names_are_those_of_the_model_or_the_frame():
    model, x = identity(), np.random.default_rng(0).normal(size=(9, 3))
    table = pd.DataFrame(x, columns=["a", "b", "c"])
    found = explain(model, table[:2], table[["c", "b", "a"]], draws=9)
    np.testing.assert_array_equal(found, explain(model, x[:2], x, draws=9))
    assert found.columns.tolist() == ["a", "b", "c"]
    model.feature_names = ["u", "v", "w"]
    assert explain(model, x, x, draws=1).columns.tolist() == ["u", "v", "w"]


def test_side_inputs_make_no_difference():
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(9, 3)), columns=["a", "b", "c"])
    head = hy.heads.MixedEffects(hy.heads.Normal(), {"school": hy.heads.Group(["p", "q"])}, train_size=9)
    model = hy.HybridModel(identity().distribution, head)
    found = explain(model, x.assign(school="p"), x.assign(school="r"), draws=9)
    pd.testing.assert_frame_equal(found, explain(identity(), x, x, draws=9))


def test_infinite_entries_only_where_the_replacement_helps():
    x = np.zeros((4, 3), "float32")
    x[1, 1] = 1e30  # its square overflows
    x[2, :2] = 1e30
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explain(identity(), x, np.zeros((2, 3)), draws=3)
        impossible = explain(identity(), x[:1], [1e30] * np.ones((2, 3)), draws=3)
    np.testing.assert_allclose(found, [[0, 0, 0], [0, np.inf, 0], [0, 0, 0], [0, 0, 0]], atol=1e-6)
    assert (impossible == -np.inf).all(axis=None)


def test_batches_do_not_change_the_result(monkeypatch):
    reference, x = (np.random.default_rng(seed).normal(size=(40, 3)) for seed in (0, 1))
    whole = explain(identity(), x, reference)
    monkeypatch.setattr("tfp_hybrid.uncertainty.named_rows.BATCH_SIZE", 7)
    # The name `explain` is the function; its module is elsewhere.
    monkeypatch.setitem(explain.__globals__, "BATCH_SIZE", 7)
    np.testing.assert_allclose(explain(identity(), x, reference), whole, atol=1e-5)


def with_encoder():
    encoder = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    return hy.DensityModel(hy.flow_distribution(hy.bijectors.ActNorm((2,))), encoder=encoder)


def images():
    return hy.DensityModel(hy.flow_distribution(hy.bijectors.ActNorm((2, 2, 1))))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda x: explain("model", x, x), "model is a str"),
        (lambda x: explain(images(), np.zeros((2, 2, 2, 1)), np.zeros((2, 2, 2, 1))), "wanted vectors"),
        (lambda x: explain(with_encoder(), x, x), "model has an encoder"),
        (lambda x: explain(identity(), x[:0], x), "x is empty; wanted at least one row"),
        (lambda x: explain(identity(), x, x[:0]), "reference is empty; wanted at least one row"),
        (lambda x: explain(identity(), x, x, draws=0), "draws is 0; wanted a whole number, at least 1"),
        (lambda x: explain(identity(), x, np.nan * x), "reference holds nan"),
        (lambda x: explain(identity(2), x, x), r"x has shape \(5, 3\)"),
    ],
)
def test_wrong_arguments_are_explained(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake(np.ones((5, 3)))


def test_columns_without_noise_need_one_pass():
    """Numbers on no grid: the closed form again, through the marginals of `Columns`."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(500, 2)), columns=["a", "b"])
    columns = tables.Columns.from_frame(table)
    model = hy.DensityModel(hy.flow_distribution(hy.bijectors.FusedChain([columns], (2,))))
    x = pd.DataFrame({"a": [0.0, 7.0], "b": [0.3, 0.3]})
    found = explain(model, x, table, draws=200)
    assert not columns.is_random and found.loc[1, "a"] > 5
    np.testing.assert_allclose(found["b"][0], found["b"][1], rtol=1e-6)
