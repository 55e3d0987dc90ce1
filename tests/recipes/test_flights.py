"""The recipe of flights on real ones: what it draws are times."""

import numpy as np
import pytest

from tfp_hybrid import datasets
from tfp_hybrid.datasets.flight_tables import FEATURES
from tfp_hybrid.flows import flow_distribution
from tfp_hybrid.models import DensityModel
from tfp_hybrid.recipes import flights
from tfp_hybrid.recipes.recipe import optimizer_for


def is_time(hhmm):
    hhmm = np.floor(hhmm)
    return (hhmm >= 0) & (hhmm <= 2400) & (hhmm % 100 < 60)


@pytest.mark.nightly
def test_what_it_draws_are_times(real_data):
    dataset = datasets.load("flights", data_dir=real_data)
    x = dataset.train[0][::15]
    times = [FEATURES.index(name) for name in ("ArrTime", "DepTime")]
    assert is_time(x[:, times]).all()
    model = DensityModel(flow_distribution(flights.flow(dataset, couplings=4, hidden_units=(32, 32))))
    model.compile(optimizer_for(5e-3, 2 * len(x) // 512))
    model.fit(x, batch_size=512, epochs=2, verbose=0)
    drawn = model.sample(100_000, seed=0).numpy()
    assert (~is_time(drawn[:, times])).any(1).mean() < 1e-3
    waste = x[:1000].copy()
    waste[:, times[1]] = 2461
    assert model.log_prob(waste).max() < model.log_prob(x[:1000]).min()
