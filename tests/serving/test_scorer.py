import pickle
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers import integer_model, randomize

import tfp_hybrid as hy
from tfp_hybrid import serving
from tfp_hybrid.serving import saved, scorer
from tfp_hybrid.uncertainty import MaxProbability, Rejector

ANSWERS = ["prediction", "probability", "uncertainty", "log_prob_x", "percentile", "abstain"]


@pytest.fixture
def score(run):
    return serving.Scorer(run.folder, keep=["key"])


def kinds(rows):
    """The same rows as tables of each kind."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    (batch,) = table.to_batches()
    return [rows, table, batch, {name: column.to_numpy() for name, column in rows.items()}]


def frame(table):
    return pd.DataFrame(table) if isinstance(table, dict) else getattr(table, "to_pandas", lambda: table)()


@pytest.mark.parametrize("kind", range(4), ids=["DataFrame", "Table", "RecordBatch", "dict"])
def test_answers_are_those_of_the_model(run, score, kind):
    given = kinds(run.rows)[kind]
    found = score(given)
    assert type(found) is type(given)
    found = frame(found)
    assert list(found) == ["key", *ANSWERS]
    probabilities = run.model.predict(run.x, verbose=0)
    log_prob = np.asarray(run.model.distribution.log_prob(run.x))
    reference = run.model.log_prob(run.held_out)
    np.testing.assert_array_equal(found["key"], run.rows["key"])
    np.testing.assert_array_equal(found["prediction"], probabilities.argmax(-1))
    np.testing.assert_allclose(found["probability"], probabilities.max(-1), rtol=1e-5)
    np.testing.assert_allclose(found["uncertainty"], -(probabilities * np.log(probabilities)).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(found["log_prob_x"], log_prob, rtol=1e-4, atol=1e-4)
    percentile = [100 * np.mean(reference < value) for value in found["log_prob_x"]]
    np.testing.assert_allclose(found["percentile"], percentile, atol=0.011)
    np.testing.assert_array_equal(found["abstain"], found["log_prob_x"] < np.sort(reference)[100])


def test_the_index_of_a_frame_is_kept(run, score):
    given = run.rows[:3].set_axis(["c", "a", "b"])
    assert list(score(given).index) == ["c", "a", "b"]


@pytest.mark.parametrize("kind", range(4), ids=["DataFrame", "Table", "RecordBatch", "dict"])
def test_no_rows_have_the_same_columns(run, score, kind):
    none = kinds(run.rows)[kind]
    none = {name: column[:0] for name, column in none.items()} if isinstance(none, dict) else none[:0]
    some, none = frame(score(kinds(run.rows)[kind])), frame(score(none))
    assert len(none) == 0 and (none.dtypes == some.dtypes).all()


def test_a_threshold_of_its_own(run):
    found = serving.Scorer(run.folder, abstain_below=30)(run.rows)
    np.testing.assert_array_equal(found["abstain"], found["percentile"] < 30)


def test_it_is_pickled_without_the_model_and_loads_once(run, monkeypatch):
    loads, load = [], saved.load_model
    monkeypatch.setattr(saved, "load_model", lambda *args: loads.append(args) or load(*args))
    scorer._load.cache_clear()
    first = serving.Scorer(run.folder, keep=["key"])
    first(run.rows[:2])
    copies = [pickle.loads(pickle.dumps(first)) for _ in range(3)] + [serving.Scorer(run.folder, abstain_below=1)]
    for copy in copies:
        copy(run.rows[:2])
    assert len(loads) == 1 and len(pickle.dumps(first)) < 1000 and copies[0] == first


def test_a_model_that_was_replaced_is_refused(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    scorer = serving.Scorer(tmp_path / "run")
    (tmp_path / "run" / "rejector.keras").unlink()
    with pytest.raises(ValueError, match="another model than when the Scorer was made"):
        scorer(run.rows)


def test_a_density_answers_with_log_prob_alone(tmp_path):
    density = hy.DensityModel(hy.flow_distribution(hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))))
    randomize(density.trainable_weights)
    density.save(tmp_path / "density.keras")
    x = np.random.default_rng(0).normal(size=(9, 2)).astype("float32")
    found = serving.Scorer(tmp_path / "density.keras")({"x": x})
    assert list(found) == ["log_prob_x"]
    np.testing.assert_allclose(found["log_prob_x"], density.log_prob(x), rtol=1e-5)


def test_images_are_an_array_or_lists_or_columns(tmp_path):
    model = integer_model()
    Rejector(model, MaxProbability()).fit_threshold(np.zeros((5, 4, 4, 1), "uint8"), quantile=1.0).save(
        tmp_path / "mine.keras"
    )
    images = np.random.default_rng(0).integers(0, 4, (6, 4, 4, 1)).astype("uint8")
    score = serving.Scorer(tmp_path / "mine.keras", keep=["key"])
    expected = score({"x": images, "key": np.arange(6)})
    np.testing.assert_allclose(expected["log_prob_x"], model.log_prob(images), rtol=1e-5)
    np.testing.assert_allclose(expected["score"], 1 - expected["probability"], atol=1e-6)
    flat = images.reshape(6, 16)
    lists = pa.table({"x": list(flat), "key": np.arange(6)})
    columns = pd.DataFrame(flat).rename(columns=str).assign(key=np.arange(6))
    for table in (lists, columns, {"image": images, "key": np.arange(6)}):
        np.testing.assert_array_equal(np.asarray(score(table)["log_prob_x"]), expected["log_prob_x"])
    with pytest.raises(ValueError, match="have 90 values in 6 rows; wanted 16 in each"):
        score(pa.table({"x": list(flat[:, :15]), "key": np.arange(6)}))


def test_a_run_on_a_table_answers_with_its_classes(table_run):
    new = table_run.frame.assign(key=np.arange(400), churn="stayed")
    new.loc[7, "plan"] = "platinum"  # a level that no training row has
    found = serving.Scorer(table_run.folder, keep=["key"])(new)
    assert list(found) == ["key", *ANSWERS]
    probabilities = table_run.model.predict(new[["age", "plan"]], verbose=0)
    np.testing.assert_array_equal(found["prediction"], table_run.classes[probabilities.argmax(-1)])
    assert set(found["prediction"]) == {"left", "stayed"}
    assert found["abstain"][7] and not found["abstain"].all()
    with pytest.raises(ValueError, match="has the columns .'key'., which are not known"):
        serving.Scorer(table_run.folder)(new)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"path": "absent"}, "There is no model at"),
        ({"abstain_below": 101}, "abstain_below is 101; wanted a percentile"),
        ({"keep": "key"}, "keep is 'key'; wanted a list of names"),
        ({"keep": ["a", "a"]}, "keep has the columns .'a'. more than once"),
    ],
)
def test_arguments_are_checked_at_once(run, arguments, message):
    with pytest.raises(ValueError, match=message):
        serving.Scorer(**{"path": run.folder} | arguments)


def test_tables_that_cannot_be_scored_are_explained(run, score, tmp_path):
    wrong = {
        "lacks the columns .'key'. of `keep`": run.rows[["width", "height"]],
        "lacks the columns .'height'.": run.rows[["width", "key"]],
        "'height' is NaN or missing in row 1": run.rows.assign(height=[1.0, np.nan] * 2500),
        "is a ndarray; wanted a DataFrame": run.x,
    }
    for message, table in wrong.items():
        with pytest.raises(ValueError, match=message):
            score(table)
    with pytest.raises(ValueError, match="'abstain' is a column of the answers"):
        serving.Scorer(run.folder, keep=["abstain"])(run.rows.assign(abstain=1))
    run.model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="abstain_below is 5, but .* has no rejector"):
        serving.Scorer(tmp_path, abstain_below=5)(run.rows)
