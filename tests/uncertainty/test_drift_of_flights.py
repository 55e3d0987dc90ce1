"""Drift where it is known to be: a model of the flights until 2016, and the flights of 2017."""

import keras
import numpy as np
import pytest

import tfp_hybrid as hy
from tfp_hybrid.uncertainty import NegativeLogProb, drift

TESTS = [drift.ks_test, drift.typicality_test]


@pytest.fixture(scope="module")
def scores(real_data):
    """-log p(x) of held-out flights until 2016, and of those of 2017."""
    if not (real_data / "flights" / "bts_8attr.parquet").exists():
        pytest.skip(f"no flights in {real_data}")
    flights = hy.datasets.load("flights", data_dir=real_data / "tfds")
    keras.utils.set_random_seed(0)
    flow = hy.bijectors.RealNVP((8,), couplings=8, hidden_units=(64, 64), quantization_levels=10_000)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.HeteroscedasticNormal(), generative_weight=1.0)
    model.compile(keras.optimizers.Adam(2e-3, clipnorm=50.0))
    x, y = flights.train
    model.fit(x[::5], y[::5], batch_size=1024, epochs=1, verbose=0)
    held_out = np.random.default_rng(0).permutation(flights.validation[0])
    score = NegativeLogProb()
    return [score.score(model, rows, 4096) for rows in (held_out, flights.test[0])]


@pytest.mark.nightly
@pytest.mark.parametrize("test", TESTS)
def test_the_false_alarm_rate_is_kept(test, scores):
    """1,000 batches of flights of the same years, each against a reference of its own."""
    inside, _ = scores
    rng = np.random.default_rng(1)
    options = {} if test is drift.ks_test else {"resamples": 200}
    alarms = []
    for _ in range(1000):
        drawn = rng.choice(inside, 2500, replace=False)
        alarms.append(test(drawn[:2000], drawn[2000:], **options).drifted(0.05))
    assert 0.035 <= np.mean(alarms) <= 0.065


@pytest.mark.nightly
@pytest.mark.parametrize("test", TESTS)
def test_the_flights_of_2017_are_called_drift(test, scores):
    inside, outside = scores
    assert test(inside[:10_000], outside[:10_000]).drifted(0.001)
