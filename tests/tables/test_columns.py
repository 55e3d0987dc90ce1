"""`Columns`: by closed forms, by autodiff's Jacobian, by counting, and by round trips."""

import decimal
import itertools

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf
from helpers import autodiff_log_det

import tfp_hybrid as hy
from tfp_hybrid import tables
from tfp_hybrid.tables import Circle, Clock, Columns, Date, Number

RNG = np.random.default_rng(0)


def frame(rows=400):
    rng = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "height": rng.normal(170, 10, rows),
            "income": np.round(np.exp(rng.normal(10, 1, rows)), 2),
            "children": rng.poisson(1.5, rows),
            "plan": rng.choice(["basic", "gold", "silver"], rows, p=[0.6, 0.1, 0.3]),
            "member": rng.random(rows) < 0.3,
            "weekday": rng.integers(0, 7, rows),
            "DepTime": 100 * rng.integers(0, 24, rows) + rng.integers(0, 60, rows),
            "rate": rng.beta(2, 5, rows),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D"),
            "size": pd.Categorical(rng.choice(["S", "M", "L"], rows), categories=["S", "M", "L"], ordered=True),
        }
    )
    for name in ("height", "plan", "weekday"):
        table.loc[rng.random(rows) < 0.2, name] = None
    return table


KINDS = {"rate": Number(lower=0, upper=1)}
COLUMNS = Columns.from_frame(frame(), KINDS, dtype="float64")


def test_kinds_are_inferred():
    kinds = {column.name: column.kind for column in COLUMNS.columns}
    assert kinds["height"] == Number(resolution=None)
    assert kinds["income"] == Number(resolution=0.01)
    assert kinds["children"] == Number(resolution=1.0)
    assert kinds["plan"].levels == ("basic", "gold", "silver") and kinds["member"].levels == (False, True)
    assert kinds["weekday"] == Circle(resolution=1.0, period=7.0)
    assert kinds["DepTime"] == Clock() and kinds["since"] == Date(resolution=1.0)
    assert kinds["size"].levels == ("S", "M", "L")
    assert list(COLUMNS.table().columns) == ["kind", "dtype", "holes"]
    assert COLUMNS.event_shape == (10,) and COLUMNS.latent_shape == (10 + 2 + 3,)


def test_rows_come_back_from_z():
    table = frame()
    x = COLUMNS.to_array(table)
    again = COLUMNS.forward(tf.identity(COLUMNS.inverse(x))).numpy()
    np.testing.assert_allclose(again, x, rtol=1e-9, atol=1e-9)  # NaN where there was one
    back = COLUMNS.to_frame(x)
    assert back.dtypes.astype(str).tolist() == table.dtypes.astype(str).tolist()
    pd.testing.assert_frame_equal(back, table, check_categorical=False)


def test_columns_are_found_by_name():
    table = frame()
    np.testing.assert_array_equal(COLUMNS.to_array(table[table.columns[::-1]]), COLUMNS.to_array(table))
    with pytest.raises(ValueError, match=r"x lacks the columns \['plan'\]"):
        COLUMNS.to_array(table.drop(columns="plan"))
    with pytest.raises(ValueError, match=r"x has the columns \['more'\], which are not known"):
        COLUMNS.to_array(table.assign(more=1))
    with pytest.raises(ValueError, match="wanted a DataFrame"):
        COLUMNS.to_array([[1, 2]])


def test_z_of_training_rows_is_standard_normal_column_by_column():
    table = frame(20_000)
    columns = Columns.from_frame(table, KINDS, dtype="float64")
    z = columns.inverse(columns.to_array(table)).numpy()
    for i, values in enumerate(z.T):
        assert scipy.stats.kstest(values, "norm").statistic < 0.02, i


def test_log_det_is_that_of_the_jacobian():
    """Of numbers on no grid, without and with bounds, where z is an ordinary function of x."""
    values = pd.DataFrame({"a": RNG.normal(3, 2, 500), "b": RNG.gamma(2.0, 1.0, 500), "c": RNG.beta(2, 3, 500)})
    columns = Columns.from_frame(values, {"b": Number(lower=0), "c": Number(lower=0, upper=1)}, dtype="float64")
    x = np.r_[columns.to_array(values)[:20], [[30.0, 80.0, 0.001], [-20.0, 1e-6, 0.9999]]]
    wanted = [autodiff_log_det(lambda x: columns.inverse(tf.identity(x)), row) for row in tf.constant(x)]
    no_hole = 3 * np.log1p(-0.5 / 501)  # is counted, too
    np.testing.assert_allclose(columns.inverse_and_log_det(x)[1], wanted + no_hole, atol=1e-6)


@pytest.mark.parametrize("name", ["children", "plan", "weekday", "member"])
def test_probabilities_of_cells_are_smoothed_counts(name):
    """For a column alone under a standard normal latent, E exp(log p) over the noise is the probability of a value."""
    table = frame(4000)[[name]]
    density = hy.flow_distribution(Columns.from_frame(table, dtype="float64"))
    columns = density.bijector
    x = columns.to_array(table)
    values, counts = np.unique(x[~np.isnan(x)], return_counts=True)
    rows = np.r_[values, [np.nan] if np.isnan(x).any() else []][:, None]
    draws = np.exp(latent_log_prob(density, np.repeat(rows, 4000, axis=0), training=True))
    p = draws.reshape(len(rows), 4000).mean(1)
    shares = np.r_[counts, [np.isnan(x).sum()] if np.isnan(x).any() else []] / len(x)
    np.testing.assert_allclose(p, shares, atol=4e-3)
    assert abs(p.sum() - 1) < 0.01


def latent_log_prob(density, x, training=False):
    z, log_det = density.bijector.inverse_and_log_det(x, training=training)
    return (density.distribution.log_prob(z) + log_det).numpy()


def test_densities_integrate_to_one():
    table = pd.DataFrame({"a": RNG.normal(size=300), "b": RNG.gamma(2.0, 1.0, 300)})
    for name, kind, grid in (
        ("a", Number(), np.linspace(-40, 40, 80_001)),
        ("b", Number(lower=0), np.geomspace(1e-9, 1e5, 80_001)),
    ):
        density = hy.flow_distribution(Columns.from_frame(table[[name]], {name: kind}, dtype="float64"))
        p = np.exp(density.log_prob(grid[:, None]))
        assert abs(scipy.integrate.trapezoid(p, grid) - 1) < 2e-3


def test_a_circle_has_no_seam():
    """The density is continuous where the circle closes, and integrates to one."""
    angle = RNG.vonmises(0.1, 3.0, 5000) % (2 * np.pi)
    kinds = {"a": Circle(resolution=None, period=2 * np.pi)}
    density = hy.flow_distribution(Columns.from_frame(pd.DataFrame({"a": angle}), kinds, dtype="float64"))
    grid = np.linspace(0, 2 * np.pi, 2001)[:-1, None]
    p = np.exp(latent_log_prob(density, np.repeat(grid, 200, axis=0), training=True)).reshape(2000, 200).mean(1)
    assert abs(p.mean() * 2 * np.pi - 1) < 0.01
    truth = scipy.stats.vonmises.pdf(grid[:, 0], 3.0, loc=0.1)
    assert np.abs(p - truth).mean() < 0.06
    near = columns_z(density, [[1e-6], [2 * np.pi - 1e-6]])
    turns = np.arctan2(near[:, 1], near[:, 0])
    assert abs(np.diff(turns)[0]) < 1e-3


def columns_z(density, x):
    return density.bijector.inverse(np.array(x)).numpy()


def test_what_was_never_seen_is_unlikely():
    table = frame()
    model = hy.DensityModel(hy.flow_distribution(COLUMNS))
    usual = model.log_prob(table)
    known = COLUMNS.has_new(COLUMNS.to_array(table))
    assert not known.any()
    for change, is_new in (
        ({"plan": "platinum"}, True),
        ({"member": None}, True),
        ({"children": 1.5}, True),
        ({"children": 40}, False),
        ({"height": 700.0}, False),
    ):
        changed = table.dropna().head(50).assign(**change)
        assert model.log_prob(changed).mean() < usual.mean() - 3, change
        assert (COLUMNS.has_new(COLUMNS.to_array(changed)) == is_new).all(), change
    assert (model.log_prob(table.head(5).assign(rate=1.5)) == -np.inf).all()


def test_unseen_levels_cost_what_the_docstring_says():
    table = pd.DataFrame({"plan": ["a"] * 60 + ["b"] * 39})
    density = hy.flow_distribution(Columns.from_frame(table, dtype="float64"))
    x = density.bijector.to_array(pd.DataFrame({"plan": ["c", "a"]}))
    assert x[0, 0] == 2
    np.testing.assert_allclose(np.exp(latent_log_prob(density, x)), [0.5 / 100, 0.6], rtol=0.03)


def test_noise_is_fixed_outside_of_training():
    x = COLUMNS.to_array(frame())
    first, again, fresh = (COLUMNS.inverse_and_log_det(x, training=t)[0].numpy() for t in (False, False, True))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - fresh).max() > 0.1
    with COLUMNS.draw(1):
        other = COLUMNS.inverse(tf.identity(x)).numpy()
    assert np.abs(first - other).max() > 0.1
    np.testing.assert_array_equal(COLUMNS.inverse(tf.identity(x)), first)
    order = RNG.permutation(len(x))
    np.testing.assert_array_equal(COLUMNS.inverse(x[order]), first[order])


@pytest.mark.integration
def test_xla_and_graph_are_eager():
    x = COLUMNS.to_array(frame())
    for jit in (False, True):
        z, log_det = tf.function(COLUMNS.inverse_and_log_det, jit_compile=jit, autograph=False)(x)
        for found, wanted in zip((z, log_det), COLUMNS.inverse_and_log_det(x), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_levels_are_ordered_by_the_response():
    plan = np.repeat(["a", "b", "c"], 200)
    table = pd.DataFrame({"plan": plan})
    y = np.select([plan == "a", plan == "b"], [5.0, -1.0], 2.0) + RNG.normal(size=600)
    levels = Columns.from_frame(table, y=y).columns[0].kind.levels
    assert levels in (("b", "c", "a"), ("a", "c", "b"))
    assert Columns.from_frame(table).columns[0].kind.levels == ("a", "b", "c")


def test_a_model_is_saved_with_its_columns(tmp_path):
    keras.utils.set_random_seed(0)
    table = frame()
    columns = Columns.from_frame(table, KINDS)
    flow = hy.bijectors.FusedChain([columns, hy.bijectors.RealNVP(columns.latent_shape[0], couplings=2)], (10,))
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Bernoulli(), generative_weight=0.1)
    model.compile(keras.optimizers.Adam(1e-3))
    y = (table["children"] > 1).to_numpy()
    model.fit(table, y, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.log_prob(table), model.log_prob(table), rtol=1e-5)
    np.testing.assert_allclose(loaded.predict(table, verbose=0), model.predict(table, verbose=0), rtol=1e-4)
    assert loaded.feature_names == tuple(table.columns)
    pd.testing.assert_frame_equal(loaded.inputs_spec.columns.table(), columns.table())


def test_every_weight_of_a_flow_behind_columns_is_trained():
    table = frame()
    columns = Columns.from_frame(table, KINDS)
    flow = hy.bijectors.FusedChain([columns, hy.bijectors.RealNVP(columns.latent_shape[0], couplings=2)], (10,))
    model = hy.DensityModel(hy.flow_distribution(flow))
    model.adapt(table)
    for weight in model.trainable_weights:
        weight.assign_add(0.01 * tf.ones_like(weight.value))
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.encode(columns.to_array(table)).log_prob)
    gradients = tape.gradient(loss, model.trainable_weights)
    assert all(gradient is not None and np.abs(gradient).max() > 0 for gradient in gradients)
    assert np.isfinite(loss)


def test_samples_look_like_the_table():
    table = frame(4000)
    columns = Columns.from_frame(table, KINDS)
    drawn = columns.to_frame(hy.flow_distribution(columns).sample(4000, seed=(1, 2)))
    assert drawn.dtypes.astype(str).tolist() == table.dtypes.astype(str).tolist()
    for name in ("plan", "member", "weekday", "size", "children"):
        shares = [part[name].value_counts(normalize=True, dropna=False) for part in (table, drawn)]
        assert shares[0].sub(shares[1], fill_value=0).abs().max() < 0.03, name
    np.testing.assert_allclose(drawn.isna().mean(), table.isna().mean(), atol=0.02)
    assert drawn["rate"].between(0, 1).all()
    assert (drawn["DepTime"] % 100 < 60).all() and drawn["DepTime"].between(0, 2359).all()


def test_integer_grids_of_any_step_and_origin():
    for values, step in (([3, 7, 11], 4.0), ([0.5, 1.5, 3.5], 1.0), ([0.1, 0.25], 0.15), ([1e6, 1e6 + 250], 250.0)):
        table = pd.DataFrame({"a": RNG.choice(values, 500)})
        columns = Columns.from_frame(table, dtype="float64")
        assert columns.columns[0].kind.resolution == pytest.approx(step)
        x = columns.to_array(table)
        np.testing.assert_allclose(columns.forward(tf.identity(columns.inverse(x))), x, rtol=1e-9)
    for scale in (1e-6, 1.0, 1e4, 1e6):
        table = pd.DataFrame({"a": scale * RNG.gamma(2.0, 1.0, 500)})
        assert Columns.from_frame(table).columns[0].kind.resolution is None


BAD = {
    "no rows": (frame(0), "frame has 0 rows"),
    "no columns": (pd.DataFrame(index=[0, 1]), "0 columns"),
    "twice": (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"has the columns \['a'\] more than once"),
    "mixed": (pd.DataFrame({"a": [1, "x", 2]}), "mixes numbers and text, such as 1 and 'x'"),
    "empty": (pd.DataFrame({"a": [None, None]}), "'a' has no value in any row"),
    "lists": (pd.DataFrame({"a": [[1], [2]]}), "holds a list"),
    "infinite": (pd.DataFrame({"a": [1.0, np.inf]}), "'a' holds inf in row 1"),
    "huge": (pd.DataFrame({"a": np.array([1, 10**400], object)}), "holds a number that is too large"),
    "complex": (pd.DataFrame({"a": [1j, 2j]}), "has dtype complex128"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_frames(case):
    table, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        Columns.from_frame(table)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Clock(), [1200, 2461], "holds 2461 in row 1, which is no time"),
        (Circle(period=7), [3, 8], "holds 8 in row 1; wanted numbers from 0 to 7"),
        (Number(lower=0), [1.5, -2.0], "holds -2; wanted none beyond 0"),
        (Date(), ["2020-01-01", "soon"], "holds 'soon' in row 1; wanted dates"),
    ],
)
def test_values_that_are_not_of_a_kind(kind, values, message):
    with pytest.raises(ValueError, match=message):
        Columns.from_frame(pd.DataFrame({"a": values}), {"a": kind})


def test_bad_kinds():
    for make, message in (
        (lambda: Number(lower=2, upper=1), "wanted lower < upper"),
        (lambda: Number(resolution=0), "`resolution` is 0"),
        (lambda: Circle(period=-1), "`period` is -1"),
        (lambda: Columns.from_frame(frame(), {"nobody": Number()}), "kinds names the column 'nobody'"),
        (lambda: Columns.from_frame(frame(), {"plan": "text"}), "wanted a kind of `tables`"),
        (lambda: Columns.from_frame(frame(), y=[1, 2]), "y has 2 rows but the frame has 400"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_bounds_on_a_grid_hold():
    table = pd.DataFrame({"stars": RNG.integers(1, 6, 200)})
    density = hy.flow_distribution(Columns.from_frame(table, {"stars": Number(lower=1, upper=5)}, dtype="float64"))
    log_p = latent_log_prob(density, np.array([[1.0], [5.0], [0.0], [6.0], [-7.0], [1000.0]]))
    assert np.isfinite(log_p[:2]).all() and (log_p[2:] == -np.inf).all()


def test_extreme_numbers():
    table = pd.DataFrame(
        {"tiny": RNG.uniform(1e-12, 1e-10, 99), "same": 1e17, "far": ["9999-12-31", "1609-01-01", None] * 33}
    )
    columns = Columns.from_frame(table, dtype="float64")
    x = columns.to_array(table)
    z, log_det = columns.inverse_and_log_det(x)
    assert np.isfinite(z).all() and np.isfinite(log_det).all()
    assert columns.columns[0].kind.resolution is None
    pd.testing.assert_frame_equal(columns.to_frame(x), table)
    assert len(columns.to_frame(columns.forward(40 * np.ones((1, columns.latent_shape[0]))))) == 1
    for values, message in (
        (2**60 + np.arange(9), "wanted integers up to 2\\*\\*53"),
        (np.array([2**63 + 5] * 3, "uint64"), "holds 9223372036854775813; wanted integers"),
    ):
        with pytest.raises(ValueError, match=message):
            Columns.from_frame(pd.DataFrame({"key": values}))
    dates = Columns.from_frame(pd.DataFrame({"d": pd.to_datetime(["2020-01-01", "2020-01-02"])}))
    with pytest.raises(ValueError, match="'d' holds numbers; wanted dates"):
        dates.to_array(pd.DataFrame({"d": [2021]}))


def test_decimals_of_arrow():
    kind = pd.ArrowDtype(pa.decimal128(8, 2))
    table = pd.DataFrame({"price": pd.Series([decimal.Decimal("1.25"), decimal.Decimal("2.50")] * 9, dtype=kind)})
    columns = Columns.from_frame(table)
    assert columns.to_frame(columns.to_array(table))["price"].tolist()[:2] == [1.25, 2.5]


def test_arrays_are_checked():
    model = hy.DensityModel(hy.flow_distribution(Columns.from_frame(frame()[["plan", "height"]])))
    assert np.isfinite(model.log_prob(np.array([[0.0, 170.0], [np.nan, np.nan]]))).all()
    for x, message in (([[7.0, 170.0]], "holds 7.0 in row 0 of 'plan'"), ([[0.0, np.inf]], "holds inf in row 0")):
        with pytest.raises(ValueError, match=message):
            model.log_prob(np.array(x))


def test_many_levels_keep_the_most_frequent():
    names = [f"id{i}" for i in range(3000)]
    table = pd.DataFrame({"id": names + names[:500]})
    kind = Columns.from_frame(table).columns[0].kind
    assert len(kind.levels) == 1000 and set(names[:500]) <= set(kind.levels)


def test_constant_columns_and_single_rows():
    for table in (pd.DataFrame({"a": [5.0] * 30, "b": ["x"] * 30}), pd.DataFrame({"a": [5.0], "b": ["x"]})):
        model = hy.DensityModel(hy.flow_distribution(Columns.from_frame(table)))
        found = model.log_prob(table)
        assert np.isfinite(found).all()
        assert model.log_prob(table.head(1).assign(a=6.0))[0] < found[0] - 1


def test_dates_and_times_keep_their_zone():
    table = pd.DataFrame(
        {
            "text": ["2024-01-05", "2024-02-06"] * 30,
            "moment": pd.to_datetime(["2024-01-05 12:30", "2024-02-06 07:15"] * 30).tz_localize("Europe/Berlin"),
        }
    )
    columns = Columns.from_frame(table)
    assert all(isinstance(column.kind, Date) for column in columns.columns)
    pd.testing.assert_frame_equal(columns.to_frame(columns.to_array(table)), table, check_dtype=False)


@pytest.mark.nightly
def test_categorical_tables_sum_to_one():
    """All combinations of levels, unseen ones and holes included, after training."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, 3000)
    b = (a + (rng.random(3000) < 0.2)) % 3
    table = pd.DataFrame({"a": np.array(list("xyz"))[a], "b": np.array(list("uvw"))[b]})
    table.loc[rng.random(3000) < 0.1, "b"] = None
    density = hy.DensityEstimator(random_state=0, epochs=40, draws=1).fit(table).set_params(draws=400)
    cells = pd.DataFrame(list(itertools.product("xyz?", ["u", "v", "w", "?", None])), columns=["a", "b"])
    p = np.exp(density.score_samples(cells))
    assert abs(p.sum() - 1) < 0.01
    counts = table.fillna("hole").value_counts(normalize=True)
    truth = [
        counts.get((row.a, "hole" if row.b is None or row.b != row.b else row.b), 0.0) for row in cells.itertuples()
    ]
    assert np.abs(p - truth).sum() < 0.25


def test_interchange_frames_are_taken():
    class Other:
        """A table of another library, known by Arrow's protocol only."""

        def __init__(self, table):
            self.table = table

        def __arrow_c_stream__(self, requested_schema=None):
            return pa.Table.from_pandas(self.table).__arrow_c_stream__(requested_schema)

    table = pd.DataFrame({"a": [1.0, 2.5, 3.0], "b": [1, 2, 3]})
    columns = tables.Columns.from_frame(Other(table))
    assert columns.names == ("a", "b")
    np.testing.assert_array_equal(columns.to_array(Other(table)), table)
