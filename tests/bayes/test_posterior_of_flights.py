"""How the epistemic part falls with the rows, on real flights."""

import keras
import numpy as np
import pytest

import tfp_hybrid as hy
from tfp_hybrid import bayes, datasets, heads, uncertainty
from tfp_hybrid.flows import flow_distribution
from tfp_hybrid.recipes import flights


@pytest.mark.nightly
def test_epistemic_uncertainty_falls_as_one_over_the_rows(real_data):
    """Of the exact posterior. (A head that learns the scale, too, fits it too well to few rows: it has N^-0.84.)"""
    dataset = datasets.load("flights", data_dir=real_data)
    (x, y), order = dataset.train, np.random.default_rng(0).permutation(len(dataset.train[1]))
    trained, further, asked = np.split(order[:45_000], [20_000, 43_000])
    flow = flights.flow(dataset, couplings=4, hidden_units=(32, 32))
    model = hy.HybridModel(flow_distribution(flow), heads.Normal(), generative_weight=0.1)
    model.compile(keras.optimizers.Adam(2e-3, clipnorm=5.0))
    model.fit(x[trained], y[trained], batch_size=256, epochs=3, verbose=0)
    sizes, means = np.array([100, 300, 1000, 3000, 10_000]), []
    for size in sizes:
        of_draws = []
        for start in range(0, min(len(further), 5 * size), size)[:5]:  # the mean over up to five sets of rows
            chosen = further[start : start + size]
            if len(chosen) == size:
                bayes.fit(model, x[chosen], y[chosen], prior=0.01)
                of_draws.append(np.mean(uncertainty.decompose(model, x[asked], 1024).epistemic))
        means.append(np.mean(of_draws))
    power = np.polyfit(np.log(sizes), np.log(means), 1)[0]
    means = np.round(means, 3).tolist()
    print(f"\nepistemic: {means} min^2 by {sizes.tolist()} rows, N^{power:.3f}")
    assert -1.1 < power < -0.9
