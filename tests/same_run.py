"""What two runs of `tfp-hybrid train` must have in common."""

import json

import keras
import numpy as np


def assert_same_run(folder, other):
    """Two runs of `tfp-hybrid train` agree to the last digit, except in the seconds that they took."""
    found = []
    for place in (folder, other):
        metrics = json.loads((place / "metrics.json").read_text())
        del metrics["seconds"]
        rows = [row.rpartition(",")[0] for row in (place / "history.csv").read_text().splitlines()]
        model = keras.models.load_model(place / "model.keras")
        found.append((metrics, rows, model.variables + model.optimizer.variables))
    (metrics, rows, variables), (other_metrics, other_rows, other_variables) = found
    assert metrics == other_metrics and rows == other_rows, f"{folder} differs from {other}"
    for one, another in zip(variables, other_variables, strict=True):
        np.testing.assert_array_equal(one, another, err_msg=f"{one.path} of {folder} and {other}")
