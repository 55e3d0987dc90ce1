"""Drift where it is known to be: in flights until 2016 that are drawn otherwise, and in the flights of 2017.

`pytest -m nightly -n 0 -s tests/uncertainty/test_drift_of_flights.py` prints the table of docs/guides/uncertainty.md.
"""

import functools

import keras
import numpy as np
import pandas as pd
import pytest

import tfp_hybrid as hy
from tfp_hybrid.datasets.flight_tables import FEATURES, TARGET
from tfp_hybrid.uncertainty import NegativeLogProb, drift

TESTS = [drift.ks_test, drift.typicality_test]
SOURCES = ("abq2008_17", "hflights2011", "nyc2013", "nyc2014", "pdx2015", "pnw2014", "sea2015", "trivadis2008")
SOURCES += ("us_dec1999",)
ROWS, REFERENCE = 300, 20_000
pytestmark = pytest.mark.nightly


def train(x, y):
    """A small model, trained on every fifth row once."""
    keras.utils.set_random_seed(0)
    flow = hy.bijectors.RealNVP((8,), couplings=8, hidden_units=(64, 64), quantization_levels=10_000)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.HeteroscedasticNormal(), generative_weight=1.0)
    model.compile(keras.optimizers.Adam(2e-3, clipnorm=50.0))
    model.fit(x[::5], y[::5], batch_size=1024, epochs=1, verbose=0)
    model.feature_names = FEATURES
    return model


@pytest.fixture(scope="module")
def flights(real_data):
    path = real_data / "flights" / "bts_8attr.parquet"
    if not path.exists():
        pytest.skip(f"no flights in {real_data}")
    table = pd.read_parquet(path).dropna(subset=[*FEATURES, TARGET])
    return table[table["Year"] <= 2016].reset_index(drop=True)


@pytest.fixture(scope="module")
def setting(flights):
    """Returns, for a source that is left out (or None): a fitted detector, held-out flights, and those of the source.

    Every 20th flight is held out. Of those that are not of the source, in random order, the first 20,000 are the
    reference, and batches are drawn from the others.
    """
    held_out = np.arange(len(flights)) % 20 == 19
    x, y = (flights[list(names)].to_numpy("float32") for names in (FEATURES, [TARGET]))

    @functools.lru_cache(1)
    def of(source):
        inside = (flights["source"] != source).to_numpy()
        model = train(x[~held_out & inside], y[~held_out & inside, 0])
        fresh = np.random.default_rng(0).permutation(x[held_out & inside])
        detector = drift.DriftDetector(model).fit(fresh[:REFERENCE], batch_size=4096)
        scores = NegativeLogProb().score(model, fresh[:REFERENCE], 4096)
        return detector, scores, fresh[REFERENCE:], x[held_out & ~inside]

    return of


def rates(detector, scores, rows, batches, weights=None):
    """The shares of batches of 300 flights that the detector, and the two tests of scores together, call at 5 %."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(batches):
        batch = rows[rng.choice(len(rows), ROWS, replace=False, p=weights)]
        new = NegativeLogProb().score(detector.model, batch, ROWS)
        old = min(drift.ks_test(scores, new).p_value, drift.typicality_test(scores, new, resamples=200).p_value)
        found.append((detector.test(batch).drifted(0.05), 2 * old < 0.05))
    detected, by_scores = np.mean(found, axis=0)
    return detected, by_scores


def report(population, detected, by_scores):
    print(f"\n| {population} | {100 * detected:.3g} % | {100 * by_scores:.3g} % |")


def test_the_false_alarm_rate_is_kept(setting):
    detector, scores, fresh, _ = setting(None)
    detected, by_scores = rates(detector, scores, fresh, 1000)
    report("no drift", detected, by_scores)
    assert 0.035 <= detected <= 0.065 and 0.02 <= by_scores <= 0.065


def test_more_long_flights_are_found(setting):
    detector, scores, fresh, _ = setting(None)
    weights = np.where(fresh[:, FEATURES.index("Distance")] > 1500, 3.0, 1.0)
    detected, by_scores = rates(detector, scores, fresh, 200, weights / weights.sum())
    report("flights over 1,500 miles are drawn three times as often", detected, by_scores)
    assert detected >= 0.95


def test_older_planes_are_found(setting):
    detector, scores, fresh, _ = setting(None)
    detected, by_scores = rates(detector, scores, fresh + 2 * (np.array(FEATURES) == "PlaneAge"), 200)
    report("planes are two years older", detected, by_scores)
    assert detected >= 0.95


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_is_left_out_is_found(setting, source):
    detector, scores, _, outside = setting(source)
    detected, by_scores = rates(detector, scores, outside, 100)
    report(f"`{source}` alone ({len(outside):,} flights)", detected, by_scores)
    assert detected >= 0.95


@pytest.fixture(scope="module")
def scores(real_data, flights):
    """-log p(x) of held-out flights until 2016, and of those of 2017."""
    data = hy.datasets.load("flights", data_dir=real_data / "tfds")
    model = train(*data.train)
    held_out = np.random.default_rng(0).permutation(data.validation[0])
    score = NegativeLogProb()
    return [score.score(model, rows, 4096) for rows in (held_out, data.test[0])]


@pytest.mark.parametrize("test", TESTS)
def test_the_false_alarm_rate_of_scores_is_kept(test, scores):
    """1,000 batches of flights of the same years, each against a reference of its own."""
    inside, _ = scores
    rng = np.random.default_rng(1)
    options = {} if test is drift.ks_test else {"resamples": 200}
    alarms = []
    for _ in range(1000):
        drawn = rng.choice(inside, 2500, replace=False)
        alarms.append(test(drawn[:2000], drawn[2000:], **options).drifted(0.05))
    assert 0.035 <= np.mean(alarms) <= 0.065


@pytest.mark.parametrize("test", TESTS)
def test_the_flights_of_2017_are_called_drift(test, scores):
    inside, outside = scores
    assert test(inside[:10_000], outside[:10_000]).drifted(0.001)
