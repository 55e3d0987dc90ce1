import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import tensorflow as tf

import tfp_hybrid as hy
from tfp_hybrid.uncertainty import LatentNorm, NegativeLogProb, PredictiveEntropy, Typicality, drift, pictures
from tfp_hybrid.uncertainty.drift.classifier import classifier_test
from tfp_hybrid.uncertainty.drift.latents import Covariance, Kernel, Mean
from tfp_hybrid.uncertainty.drift.marginals import Ranks, Shares
from tfp_hybrid.uncertainty.drift.null import Null


def identity(size=3, head=None):
    """A model of standard normal inputs: z = x."""
    distribution = hy.flow_distribution(hy.bijectors.ActNorm((size,)))
    return hy.DensityModel(distribution) if head is None else hy.HybridModel(distribution, head)


def normal(count, seed, size=3):
    return np.random.default_rng(seed).normal(size=(count, size)).astype("float32")


@pytest.fixture(scope="module")
def detector():
    return drift.DriftDetector(identity()).fit(normal(4000, 0))


def of(report, name):
    """The rows of one test, or of one column."""
    return report.tests[(report.tests["test"] == name) | (report.tests["of"] == name)]


def test_the_false_alarm_rate_is_kept(detector):
    """200 batches: 5 % of them and of each test, within three standard errors or so."""
    reports = [detector.test(normal(100, seed)) for seed in range(1, 201)]
    assert 0.01 <= np.mean([report.drifted() for report in reports]) <= 0.1
    each = np.mean([report.tests["p_value"] < 0.05 for report in reports], axis=0)
    assert len(each) == 7 and each.min() >= 0.005 and each.max() <= 0.105


@pytest.mark.integration
@pytest.mark.parametrize("rows", [10, 2000])
def test_the_rate_is_kept_for_few_and_for_many_rows(rows):
    """Many: more than the reference, whose uncertainty then dominates; each has a reference of its own."""
    model, p_values = identity(2), []
    for seed in range(30):
        x = normal(2500, seed, 2)
        p_values.append(drift.DriftDetector(model, draws=200).fit(x[:500]).test(x[500 : 500 + rows]).p_value)
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.001


def test_a_shift_is_found_in_its_column(detector):
    report = detector.test(normal(300, 3) + np.float32([0, 0.5, 0]))
    assert report.drifted(1e-4) and (report.rows, report.reference_rows) == (300, 4000)
    assert report.p_value == report.tests["corrected_p_value"].min()
    assert (report.columns["corrected_p_value"] < 0.05).tolist() == [False, True, False]
    assert report.columns["shift"]["1"] == pytest.approx(0.5, abs=0.15)
    # For normal distributions, P(new above reference) = Phi(shift / sqrt(2)).
    expected = 2 * scipy.stats.norm.cdf(0.5 / np.sqrt(2)) - 1
    assert report.columns["cliffs_delta"]["1"] == pytest.approx(expected, abs=0.1)
    assert of(report, "mean")["effect_size"].item() == pytest.approx(0.5, abs=0.15)


def test_another_population_of_the_same_densities_is_found(detector):
    """Each input is rotated onto the positive first axis, where it is as likely; tests of scores pass it."""
    radius = np.linalg.norm(normal(300, 1), axis=1)
    report = detector.test(np.stack([radius, 0 * radius, 0 * radius], 1))
    assert report.drifted(1e-6)
    assert of(report, "-log p(x)")["p_value"].item() > 0.01
    assert (of(report, "covariance")["p_value"] < 1e-6).all()


def test_dependence_that_no_column_shows_is_found_in_z(detector):
    x = normal(300, 3)
    x[:, 1] = 0.6 * x[:, 0] + 0.8 * x[:, 1]
    report = detector.test(x)
    assert report.drifted(0.001) and report.columns["corrected_p_value"].min() > 0.05
    assert of(report, "covariance")["corrected_p_value"].item() < 0.001


def test_two_clusters_of_the_same_moments_are_found_by_the_kernel():
    detector = drift.DriftDetector(identity(1)).fit(normal(4000, 0, 1))
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (500, 1))
    report = detector.test((signs * 0.95 + np.sqrt(1 - 0.95**2) * normal(500, 2, 1)).astype("float32"))
    assert of(report, "mean")["p_value"].item() > 0.01 and of(report, "MMD")["p_value"].item() < 1e-4


def test_discrete_columns():
    """The rate is kept with ties; and shares that move between values are found, even of an unseen value."""
    rng = np.random.default_rng(0)

    def draw(count, shares=(0.3, 0.4, 0.3)):
        return np.stack([rng.choice(3, count, p=shares), rng.normal(size=count)], 1).astype("float32")

    detector = drift.DriftDetector(identity(2)).fit(draw(4000))
    reports = [detector.test(draw(100)) for _ in range(100)]
    assert np.mean([report.drifted() for report in reports]) <= 0.12
    assert 0.0 < np.mean([of(report, "chi-square")["p_value"] < 0.05 for report in reports]) <= 0.12
    report = detector.test(draw(300, (0.45, 0.1, 0.45)))
    assert report.columns["corrected_p_value"]["0"] < 1e-3 and abs(report.columns["shift"]["0"]) < 0.2
    assert of(report, "chi-square")["effect_size"].item() == pytest.approx(0.3, abs=0.08)
    unseen = draw(300)
    unseen[:1, 0] = 7
    assert of(detector.test(unseen), "chi-square")["p_value"].item() > 0.01
    unseen[:30, 0] = 7
    assert of(detector.test(unseen), "chi-square")["p_value"].item() < 1e-4


def test_inputs_that_overflow_are_drift():
    model = identity()
    reference = normal(1000, 0)
    reference[0] = 1e30  # a reference may have one, too
    detector = drift.DriftDetector(model).fit(reference)
    x = normal(100, 1)
    x[:10] = 3e38
    with np.errstate(over="ignore"):
        report = detector.test(x)
    assert report.drifted(0.001) and np.isfinite(report.tests.select_dtypes(float)).all().all()


def test_predicted_classes_and_numbers():
    model = identity(3, hy.heads.Categorical(3))
    model.head(tf.zeros((1, 3)))
    model.head.kernel.assign(np.eye(3))
    detector = drift.DriftDetector(model, [NegativeLogProb(), PredictiveEntropy()]).fit(normal(2000, 0))
    report = detector.test(normal(200, 1) + np.float32([1, 0, 0]))
    assert report.tests["group"].tolist() == 3 * ["z"] + 2 * ["scores"] + ["response"] + 3 * ["columns"] + ["response"]
    assert of(report, "class")["corrected_p_value"].item() < 1e-3
    assert of(report, "highest probability")["test"].item() == "KS"
    for head, names in [(hy.heads.Bernoulli(), {"probability", "class"}), (hy.heads.Normal(), {"prediction"})]:
        found = drift.DriftDetector(identity(3, head), draws=200).fit(normal(200, 0)).test(normal(20, 1)).tests
        assert set(found["of"][found["group"] == "response"]) == names


def test_images_have_no_columns():
    flow = hy.bijectors.Glow((4, 4, 1), levels=1, steps=1, hidden_units=4, quantization_levels=None)
    detector = drift.DriftDetector(hy.DensityModel(hy.flow_distribution(flow)), draws=200)
    x = normal(300, 0, 16).reshape(-1, 4, 4, 1)
    report = detector.fit(x[:200]).test(tf.data.Dataset.from_tensor_slices(2 * x[200:]).batch(30))
    assert report.drifted() and not len(report.columns) and report.rows == 100
    with pytest.raises(ValueError, match="report.columns is empty"):
        pictures.drift_columns(report)


def test_columns_of_a_table_are_matched_by_name():
    table = pd.DataFrame(normal(300, 0), columns=["a", "b", "c"])
    detector = drift.DriftDetector(identity(), draws=200).fit(table[:200])
    reports = [detector.test(rows) for rows in (table[200:], table[200:][["c", "a", "b"]])]
    assert reports[0].columns.index.tolist() == ["a", "b", "c"]
    pd.testing.assert_frame_equal(reports[0].tests, reports[1].tests)


def test_the_same_seed_gives_the_same_report(detector):
    again = drift.DriftDetector(detector.model).fit(normal(4000, 0))
    pd.testing.assert_frame_equal(again.test(normal(50, 1)).tests, detector.test(normal(50, 1)).tests)


def test_a_large_z_is_projected():
    detector = drift.DriftDetector(identity(100), draws=200).fit(normal(1000, 0, 100))
    p_values = [of(detector.test(normal(100, seed, 100)), "z")["p_value"] for seed in range(1, 21)]
    assert (np.mean(np.array(p_values) < 0.05, axis=0) <= 0.25).all()
    assert of(detector.test(1.3 * normal(100, 1, 100)), "covariance")["p_value"].item() < 0.01


@pytest.mark.integration
def test_a_classifier_has_the_last_word(detector):
    """Three columns whose product is positive: all pairs are independent."""
    x = normal(600, 1)
    x[:, 2] = np.abs(x[:, 2]) * np.sign(x[:, 0] * x[:, 1])
    without, report = detector.test(x), detector.test(x, classifier=True)
    auc = report.tests.iloc[-1]
    assert auc["group"] == "classifier" and auc["p_value"] < 1e-6 and auc["statistic"] > 0.65
    assert auc["corrected_p_value"] == pytest.approx(2 * auc["p_value"]) and report.drifted(1e-6)
    np.testing.assert_allclose(
        report.tests["corrected_p_value"][:-1], (2 * without.tests["corrected_p_value"]).clip(0, 1)
    )


@pytest.mark.nightly
def test_the_classifiers_rate_is_kept():
    p_values = [classifier_test(normal(400, 2 * seed), normal(150, 2 * seed + 1), seed)[1] for seed in range(300)]
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.001


def test_ks_distances_equal_scipys():
    rng = np.random.default_rng(0)
    for draw in (lambda n: rng.normal(size=n), lambda n: rng.integers(0, 4, n).astype(float)):
        reference, new = draw(500), np.r_[draw(98), np.inf, -np.inf]
        ranks = Ranks(reference)
        rows = ranks.rows(new)
        assert ranks.distances(rows[None])[0] == pytest.approx(scipy.stats.ks_2samp(reference, new).statistic, abs=1e-6)
        greater = (new[:, None] > reference).mean() - (new[:, None] < reference).mean()
        assert ranks.effect(rows, 0.0, 0.0) == pytest.approx(greater, abs=1e-6)


def test_chi_square_distances_equal_scipys():
    reference, new = np.repeat([0, 1, 2], [50, 30, 20]), np.repeat([0, 1, 2], [10, 20, 20])
    shares = Shares(reference)
    expected = scipy.stats.chisquare([10, 20, 20], [25, 15, 10]).statistic
    assert 50 * shares.distances(shares.rows(new)[None])[0] ** 2 == pytest.approx(expected)
    assert shares.effect(shares.rows(new), 0.0, 0.0) == pytest.approx(0.3)


def test_distances_of_latents_are_those_of_closed_forms():
    """Of a normal reference, for batches that are it, shifted or scaled: the MMD of Gaussians."""
    z = normal(20_000, 0, 2) @ np.float32([[2, 1], [0, 1]])
    mean, covariance, kernel = Mean(z), Covariance(z), Kernel(z)
    spread = np.cov(z.T, bias=True)
    moved = np.array([0.3, -0.2])
    expected = np.sqrt(moved @ np.linalg.solve(spread, moved))
    assert mean.distances(mean.rows(z + moved)[None])[0] == pytest.approx(expected, rel=0.02)
    assert covariance.distances(covariance.rows(z)[None])[0] < 1e-6
    assert covariance.distances(covariance.rows(1.1 * z)[None])[0] == pytest.approx(0.21 * np.sqrt(2), rel=0.03)
    # With N(0, I) and N(a, I) in two dimensions: E k = s^2 / (s^2 + 2) exp(-|a|^2 / (2 (s^2 + 2))).
    square = 2 * scipy.stats.chi2(2).median()  # of the distance between two rows
    expected = np.sqrt(2 * square / (square + 2) * (1 - np.exp(-(expected**2) / (2 * (square + 2)))))
    assert kernel.distances(kernel.rows(z + moved)[None])[0] == pytest.approx(expected, rel=0.15)


def test_p_values_beyond_the_draws_follow_the_tail():
    null = Null(np.random.default_rng(0).chisquare(3, 4000))
    values = np.array([0.0, 2.0, 7.8, 16.0, 25.0])
    exact = scipy.stats.chi2(3).sf(values)
    error = np.abs(np.log(null.p_values(values)) - np.log(exact))
    assert (error < 0.1 + 0.1 * np.abs(np.log(exact))).all()
    assert (np.diff(null.p_values(np.linspace(0, 50, 1000))) <= 0).all() and null.p_values(np.inf) > 0
    assert Null(np.zeros(200)).p_values(np.array([0.0, 0.1])) == pytest.approx([1.0, 0.0], abs=1e-300)


@pytest.mark.parametrize(
    "mistake, message",
    [
        (lambda d: drift.DriftDetector("model"), "model is a str"),
        (lambda d: drift.DriftDetector(identity(), ["p"]), "scores holds 'p'; wanted Scores"),
        (lambda d: drift.DriftDetector(identity(), 2 * [NegativeLogProb()]), "wanted no title twice"),
        (lambda d: drift.DriftDetector(identity(), [Typicality()]), "Typicality is not fitted"),
        (lambda d: drift.DriftDetector(identity(), [PredictiveEntropy()]), "model is a DensityModel"),
        (lambda d: drift.DriftDetector(identity(), draws=10), "draws is 10; wanted a whole number, at least 200"),
        (lambda d: drift.DriftDetector(identity()).test(normal(9, 0)), "DriftDetector is not fitted"),
        (lambda d: drift.DriftDetector(identity()).fit(normal(99, 0)), "x_reference has 99 rows; wanted at least 100"),
        (lambda d: d.test(normal(1, 0)), "x_new has 1 rows; wanted at least 2"),
        (lambda d: d.test(normal(19, 0), classifier=True), "x_new has 19 rows; wanted at least 20"),
        (lambda d: d.test(normal(19, 0, 2)), r"x has shape \(19, 2\); wanted \('n', 3\)"),
        (lambda d: d.test(np.full((5, 3), np.nan)), "x holds nan"),
    ],
)
def test_wrong_arguments_are_explained(detector, mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake(detector)


def test_a_model_that_was_trained_since_is_refused():
    detector = drift.DriftDetector(identity(), [LatentNorm()], draws=200).fit(normal(200, 0))
    assert "200 reference rows" in repr(detector)
    detector.model.compile(keras.optimizers.Adam(0.1))
    detector.model.fit(normal(64, 1), verbose=0)
    with pytest.raises(ValueError, match="trained since"):
        detector.test(normal(20, 1))


def test_the_picture_shows_which_columns_moved(detector):
    report = detector.test(normal(300, 3) + np.float32([0, 0.5, 0]))
    axes = pictures.drift_columns(report).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][0] == "1"
    drawn = {line.get_label(): line.get_xdata() for line in axes.get_lines()}
    np.testing.assert_allclose(drawn["Cliff's delta: drifted"], report.columns["cliffs_delta"]["1":"1"])
    assert len(drawn["Cliff's delta: no evidence"]) == 2
    assert axes.texts[0].get_text().startswith(f"{report.columns['shift']['1']:+.2f} sd")
    many = pd.concat(10 * [report.columns])
    assert len(pictures.drift_columns(dataclasses.replace(report, columns=many)).axes[0].get_yticks()) == 20
