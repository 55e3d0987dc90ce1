"""The bandits, with hardly any training."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.bandits import wheel


def test_wheel_pays_by_the_quadrant_outside_of_the_radius():
    x, rewards = wheel(0, 4000)
    inside = np.hypot(*x.T) < 0.9
    assert inside.mean() == pytest.approx(0.81, abs=0.03) and set(rewards[inside].argmax(1)) == {0}
    for signs in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        best = rewards[~inside & (np.sign(x) == signs).all(1)].argmax(1)
        assert len(best) > 100 and len(set(best)) == 1 and best[0] > 0


@pytest.mark.nightly
def test_it_resumes_and_reports(tmp_path):
    command = ["bandits", "--out", str(tmp_path), "--seeds", "1", "--only", "wheel", "--quick"]
    assert CliRunner().invoke(app, command).exit_code == 0
    table = pd.read_csv(tmp_path / "bandits.csv")
    assert table["step"].max() == 128 and (table["regret"].diff().dropna() >= 0).all()
    report = (tmp_path / "bandits.md").read_text()
    assert "| wheel | 128 |" in report and (tmp_path / "bandits_wheel.png").exists()
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and "seed 0" not in result.output
