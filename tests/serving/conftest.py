"""Saved runs of small classifiers, and rows to score."""

import json
import types

import numpy as np
import pandas as pd
import pytest
from helpers import blobs, randomize, tiny_model

import tfp_hybrid as hy
from tfp_hybrid.uncertainty import NegativeLogProb, Rejector


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of the run, its model, and 5,000 rows with a key, whose columns are in another order."""
    folder = tmp_path_factory.mktemp("run")
    model = tiny_model(hy.heads.Categorical(3), compile=False)
    model.feature_names = ("width", "height")
    model.save(folder / "model.keras")
    held_out = blobs(1000, seed=1)[0]
    Rejector(model, NegativeLogProb()).fit_threshold(held_out, quantile=0.9).save(folder / "rejector.keras")
    x = blobs(5000, seed=2)[0]
    rows = pd.DataFrame({"height": x[:, 1], "key": np.arange(5000) * 7 % 5000, "width": x[:, 0], "name": "a"})
    return types.SimpleNamespace(folder=folder, model=model, x=x, rows=rows, held_out=held_out)


@pytest.fixture(scope="session")
def table_run(tmp_path_factory):
    """The folder of a run on a table with text and holes, its model, its table and its classes."""
    folder, rng = tmp_path_factory.mktemp("table_run"), np.random.default_rng(0)
    frame = pd.DataFrame(
        {"age": rng.integers(18, 90, 400).astype(float), "plan": rng.choice(["01", 'the "gold"'], 400)}
    )
    frame.loc[::9, "age"] = np.nan
    columns = hy.tables.Columns.from_frame(frame)
    flow = hy.bijectors.RealNVP(columns.latent_shape, couplings=2, hidden_units=(8,))
    flow = hy.bijectors.FusedChain([columns, flow], columns.event_shape)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2))
    randomize(model.trainable_weights, scale=0.5)
    model.save(folder / "model.keras")
    Rejector(model, NegativeLogProb()).fit_threshold(frame, quantile=0.9).save(folder / "rejector.keras")
    metrics = {"target": "churn", "task": "classification", "classes": ["left", "stayed"]}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return types.SimpleNamespace(folder=folder, model=model, frame=frame, classes=np.array(metrics["classes"]))
