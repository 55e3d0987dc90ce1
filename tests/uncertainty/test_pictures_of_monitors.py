import datetime
import io

import numpy as np
import pytest
from helpers import blobs

from tfp_hybrid.uncertainty import Monitor, pictures

pytestmark = pytest.mark.integration
X, _ = blobs(4000)
HOUR = datetime.timedelta(hours=1)
MIDNIGHT = datetime.datetime(2026, 5, 4, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def monitors(tiny_rejector):
    """Two days of three hours; the second drifts in its last hour."""
    found = {name: Monitor(tiny_rejector, window=HOUR) for name in ("monday", "tuesday")}
    for i in range(6):
        answers = tiny_rejector.predict(X[1000 + 400 * i :][:400] + np.float32(i == 5), verbose=0)
        found["monday" if i < 3 else "tuesday"].update(answers, at=MIDNIGHT + i * HOUR)
    return found


def line_of(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line


def test_windows_are_drawn_with_what_drifted(monitors):
    figure = pictures.monitor_windows(monitors)
    figure.savefig(io.BytesIO(), format="png")
    scores, shares = figure.axes
    tables = {name: monitor.windows() for name, monitor in monitors.items()}
    for name, table in tables.items():
        np.testing.assert_array_equal(line_of(scores, name).get_ydata(), table["p50"])
        assert [str(time)[:13] for time in line_of(scores, name).get_xdata()] == [
            str(time)[:13] for time in table["start"]
        ]
    assert scores.get_ylabel() == "-log p(x)" and shares.get_xlabel() == "time (UTC)"
    ring = line_of(shares, "ring: drifted from held-out rows")
    np.testing.assert_allclose(ring.get_ydata(), [100 * tables["tuesday"]["abstention_rate"].iloc[-1]])
    threshold = monitors["monday"].threshold
    np.testing.assert_array_equal(line_of(scores, "threshold").get_ydata(), [threshold, threshold])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["held-out rows", "threshold", "monday", "tuesday", "ring: drifted from held-out rows"]


def test_scores_far_away_have_a_logarithmic_axis(tiny_rejector):
    near, far = (Monitor(tiny_rejector, window=100) for _ in range(2))
    near.update(tiny_rejector.predict(X[1000:1300], verbose=0))
    far.update(tiny_rejector.predict(1e4 * X[1000:1300], verbose=0))
    assert pictures.monitor_windows({"near": near}).axes[0].get_yscale() == "linear"
    figure = pictures.monitor_windows({"near": near, "far": far})
    assert figure.axes[0].get_yscale() == "log" and figure.axes[1].get_xlabel() == "row"
    below = Monitor(tiny_rejector, window=100).update({"score": np.full(100, -1e5), "abstain": np.zeros(100, bool)})
    assert pictures.monitor_windows({"near": near, "below": below}).axes[0].get_yscale() == "symlog"


def test_nothing_to_draw_is_an_error(tiny_rejector, monitors):
    empty = Monitor(tiny_rejector, window=100)
    infinite = Monitor(tiny_rejector, window=100).update({"score": [np.inf], "abstain": [True]})
    for none in ({}, {"empty": empty}, {"infinite": infinite}):
        with pytest.raises(ValueError, match="monitors has no window with a finite score"):
            pictures.monitor_windows(none)
    with pytest.raises(ValueError, match="different windows '1:00:00' and '100 rows'"):
        pictures.monitor_windows(monitors | {"rows": empty})
    pictures.monitor_windows(monitors | {"empty": Monitor(tiny_rejector, window=HOUR)})
