"""`DriftDetector` on tables with holes and categories."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import tfp_hybrid as hy
from tfp_hybrid import tables
from tfp_hybrid.uncertainty import drift, pictures
from tfp_hybrid.uncertainty.drift.marginals import Ranks, Shares

CITIES = np.array([f"city {i}" for i in range(30)])


def frame(rows, seed, holes=0.2, gold=0.5, shift=0.0):
    """Independent columns: a number with holes, a category with holes, one of 30 levels, and a whole number."""
    rng = np.random.default_rng(seed)
    income = np.where(rng.uniform(size=rows) < holes, np.nan, rng.normal(shift, 1, rows))
    plan = np.where(rng.uniform(size=rows) < gold, "gold", "basic").astype(object)
    plan[rng.uniform(size=rows) < 0.1] = None
    return pd.DataFrame(
        {"income": income, "plan": plan, "city": rng.choice(CITIES, rows), "age": np.round(rng.normal(50, 9, rows))}
    )


@pytest.fixture(scope="module")
def model():
    columns = tables.Columns.from_frame(frame(2000, 0), dtype="float64")
    flow = hy.bijectors.FusedChain([columns, hy.bijectors.ActNorm(columns.latent_shape, "float64")], (4,))
    return hy.DensityModel(hy.flow_distribution(flow))


@pytest.fixture(scope="module")
def detector(model):
    return drift.DriftDetector(model).fit(frame(3000, 1))


def test_the_false_alarm_rate_is_kept(detector):
    """150 batches: 5 % of them and of each test, within three standard errors or so."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reports = [detector.test(frame(100, seed)) for seed in range(2, 152)]
    assert 0.01 <= np.mean([report.drifted() for report in reports]) <= 0.11
    of_columns = [report.tests[report.tests["group"] == "columns"] for report in reports]
    assert of_columns[0]["of"].tolist() == ["income", "plan", "plan", "city", "city", "age"]
    each = np.mean([tests["p_value"] < 0.05 for tests in of_columns], axis=0)
    assert each.min() >= 0.005 and each.max() <= 0.115


def test_more_holes_are_found_in_their_column(detector):
    report = detector.test(frame(300, 2, holes=0.4))
    assert (report.columns["corrected_p_value"] < 0.01).tolist() == [True, False, False, False]
    row = report.columns.loc["income"]
    assert row["reference_holes"] == pytest.approx(0.2, abs=0.03) and row["new_holes"] == pytest.approx(0.4, abs=0.08)
    # The values that are there are as before; the distance is that of the shares.
    assert abs(row["cliffs_delta"]) < 0.15 and abs(row["shift"]) < 0.25
    assert row["distance"] == pytest.approx(row["new_holes"] - row["reference_holes"], abs=0.06)
    assert report.columns["reference_holes"][["city", "age"]].tolist() == [0, 0]


def test_values_that_moved_are_found_beside_holes(detector):
    row = detector.test(frame(300, 2, shift=0.6)).columns.loc["income"]
    assert row["corrected_p_value"] < 1e-3 and row["shift"] == pytest.approx(0.6, abs=0.2)
    assert row["cliffs_delta"] == pytest.approx(2 * scipy.stats.norm.cdf(0.6 / np.sqrt(2)) - 1, abs=0.1)
    assert abs(row["new_mean"] - row["reference_mean"] - 0.6) < 0.2


def test_holes_where_there_were_none(detector):
    x = frame(300, 2)
    x.loc[:40, "age"] = np.nan
    row = detector.test(x).columns.loc["age"]
    assert row["corrected_p_value"] < 1e-3 and row["reference_holes"] == 0
    assert row["new_holes"] == pytest.approx(41 / 300)
    x["age"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = detector.test(x).columns.loc["age"]
    assert row["distance"] == pytest.approx(1) and np.isnan(row[["new_mean", "shift"]].astype(float)).all()
    assert row["cliffs_delta"] == 0


def test_a_category_has_shares_and_no_mean(detector):
    row = detector.test(frame(300, 2, gold=0.75)).columns.loc["plan"]
    assert row["corrected_p_value"] < 1e-3 and row["distance"] == pytest.approx(0.9 * 0.25, abs=0.08)
    assert row[["reference_mean", "new_mean", "shift", "cliffs_delta"]].isna().all()
    x = frame(300, 2)
    x.loc[:60, "city"] = "elsewhere"  # a level that was never seen
    assert detector.test(x).columns.loc["city", "corrected_p_value"] < 1e-3


def test_many_levels_are_compared_by_their_shares(detector):
    """Every second of 30 levels: no code moves far, so that KS is less certain."""
    x = frame(300, 2)
    x["city"] = CITIES[2 * (np.random.default_rng(0).integers(15, size=300))]
    tests = detector.test(x).tests.set_index(["of", "test"])["p_value"]
    assert tests["city", "chi-square"] < 1e-6 < tests["city", "KS"]


def test_arrays_frames_and_the_order_of_columns(model, detector):
    x, columns = frame(100, 2), model.inputs_spec.columns
    wanted = detector.test(x)
    pd.testing.assert_frame_equal(wanted.tests, detector.test(x[x.columns[::-1]]).tests)
    again = drift.DriftDetector(model).fit(columns.to_array(frame(3000, 1))).test(columns.to_array(x))
    pd.testing.assert_frame_equal(wanted.columns, again.columns)
    with pytest.raises(ValueError, match="x lacks the columns .'age'.;"):
        detector.test(x.drop(columns="age"))


@pytest.mark.integration
def test_the_classifier_takes_holes(detector):
    report = detector.test(frame(300, 2, holes=0.5), classifier=True)
    assert report.tests.iloc[-1]["group"] == "classifier" and report.tests.iloc[-1]["p_value"] < 1e-3


def test_the_picture_says_which_holes_changed(detector):
    figure = pictures.drift_columns(detector.test(frame(300, 2, holes=0.4, gold=0.75)))
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    said = dict(zip(names, [text.get_text() for text in axes.texts], strict=True))
    assert " sd " in said["income"] and "holes 2" in said["income"] and "->" in said["income"]
    assert said["plan"].startswith("p ") and "holes" not in said["age"]
    figure.canvas.draw()


def test_ks_distances_with_holes_equal_scipys():
    """A hole is a value below all others; Cliff's delta is that of the others."""
    rng = np.random.default_rng(0)
    for shares in [(0.3, 0.5), (0.0, 0.2), (0.4, 0.0)]:
        reference, new = (
            np.where(rng.uniform(size=size) < share, np.nan, rng.normal(size=size))
            for size, share in zip((500, 80), shares, strict=True)
        )
        ranks = Ranks(reference)
        filled = [np.where(np.isnan(values), -99.0, values) for values in (reference, new)]
        expected = scipy.stats.ks_2samp(*filled).statistic
        assert ranks.distances(ranks.rows(new)[None])[0] == pytest.approx(expected, abs=1e-6)
        known, there = (values[~np.isnan(values)] for values in (new, reference))
        greater = (known[:, None] > there).mean() - (known[:, None] < there).mean()
        assert ranks.effect(ranks.rows(new), 0.0, 0.0) == pytest.approx(greater, abs=1e-5)


def test_holes_are_a_class():
    reference = np.repeat([0, 1, np.nan], [50, 30, 20])
    shares = Shares(reference)
    expected = scipy.stats.chisquare([10, 20, 20], [25, 15, 10]).statistic
    rows = shares.rows(np.repeat([0, 1, np.nan], [10, 20, 20]))
    assert 50 * shares.distances(rows[None])[0] ** 2 == pytest.approx(expected)
    assert shares.effect(rows, 0.0, 0.0) == pytest.approx(0.3)
