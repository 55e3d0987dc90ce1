"""The density of mixed columns against a table of known law."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats as st

import tfp_hybrid as hy
from tfp_hybrid import tables

KINDS = {"hour": tables.Circle(resolution=None, period=24), "rate": tables.Number(lower=0, upper=1)}


def draw(rows, seed):
    """A normal, a category, a Poisson number, an hour on a circle, a rate, and a number with holes; and log p(x)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    p = np.exp(np.stack([0 * x, x, 0 * x - 0.5, -x], 1))
    p /= p.sum(1, keepdims=True)
    code = (rng.random((rows, 1)) > p.cumsum(1)).sum(1)
    mean = np.exp(0.8 + 0.4 * x + 0.5 * (code == 1))
    count = rng.poisson(mean)
    direction = np.array([0, 1.5, 3, 4.5])[code]
    angle = rng.vonmises(direction, 2.0) % (2 * np.pi)
    shape = 2.0 + (count > 2)
    rate = rng.beta(shape, 3)
    center = 0.5 * x + 2 * rate - 1
    last = center + 0.5 * rng.normal(size=rows)
    missing = np.array([0.1, 0.2, 0.3, 0.2])[code]
    hole = rng.random(rows) < missing
    log_p = st.norm.logpdf(x) + np.log(p[np.arange(rows), code]) + st.poisson.logpmf(count, mean)
    log_p += st.vonmises.logpdf(angle, 2.0, loc=direction) + np.log(2 * np.pi / 24) + st.beta.logpdf(rate, shape, 3)
    log_p += np.where(hole, np.log(missing), np.log(1 - missing) + st.norm.logpdf(last, center, 0.5))
    columns = {"x": x, "plan": np.array(list("abcd"))[code], "count": count, "hour": angle / (2 * np.pi) * 24}
    return pd.DataFrame(columns | {"rate": rate, "last": np.where(hole, np.nan, last)}), log_p


@pytest.mark.nightly
def test_log_prob_is_that_of_the_law():
    train, _ = draw(10_000, 0)
    test, truth = draw(20_000, 1)
    density = hy.DensityEstimator(kinds=KINDS, random_state=0).fit(train)
    gap = truth.mean() - density.score_samples(test).mean()
    one_draw = truth.mean() - density.model_.log_prob(test).mean()
    print(f"{gap / 6:.4f} nats a column; {one_draw / 6:.4f} by one draw of the noise")
    assert -0.01 < gap / 6 < 0.05 and one_draw / 6 < 0.05
    drawn = density.sample(20_000, random_state=0)
    assert drawn.dtypes.equals(train.dtypes)
    assert abs(drawn["last"].isna().mean() - train["last"].isna().mean()) < 0.02
    shares = [part["plan"].value_counts(normalize=True) for part in (drawn, train)]
    assert shares[0].sub(shares[1], fill_value=0).abs().max() < 0.03
    assert drawn["rate"].between(0, 1).all() and drawn["hour"].between(0, 24).all()
