import keras
import numpy as np
import pandas as pd
import pytest

import tfp_hybrid as hy
from tfp_hybrid.commands.inputs import read_inputs
from tfp_hybrid.serving import saved
from tfp_hybrid.serving.answers import Answers
from tfp_hybrid.uncertainty import MaxProbability, NegativeLogProb, Rejector

NAMES = ("width", "height")


def answers(model, x, rejector, abstain_below=None):
    return pd.DataFrame(Answers(model, rejector)(x, abstain_below))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    return hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(3))


ROWS = np.random.default_rng(0).normal(size=(7, 2)).astype("float32")


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_files_of_each_kind_are_read(model, tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    if suffix == ".npz":
        np.savez(path, x=ROWS, y=np.zeros(7))
    else:
        table = pd.DataFrame({"other": "text", "height": ROWS[:, 1], "width": ROWS[:, 0]})
        table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    np.testing.assert_allclose(read_inputs(path, model, NAMES), ROWS, rtol=1e-6)


def test_scores_equal_the_model_and_the_reference(model):
    held_out = np.random.default_rng(1).normal(size=(1000, 2)).astype("float32")
    rejector = Rejector(model, NegativeLogProb()).fit_threshold(held_out, quantile=0.8)
    table = answers(model, ROWS, rejector, abstain_below=30.0)
    reference = model.log_prob(held_out)
    probabilities, log_prob = model.predict(ROWS, verbose=0), np.asarray(model.distribution.log_prob(ROWS))
    np.testing.assert_array_equal(table["prediction"], probabilities.argmax(-1))
    np.testing.assert_allclose(table["log_prob_x"], log_prob, rtol=1e-5)
    percentile = [100 * np.mean(reference < value) for value in table["log_prob_x"]]
    np.testing.assert_allclose(table["percentile"], percentile, atol=0.01)
    np.testing.assert_array_equal(table["abstain"], np.asarray(percentile) < 30)
    by_threshold = answers(model, ROWS, rejector)["abstain"]
    np.testing.assert_array_equal(by_threshold, np.asarray(percentile) < 20)
    np.testing.assert_allclose(table["uncertainty"], np.log(3), rtol=1e-5)  # an untrained head is uniform


def test_a_posterior_adds_the_parts_of_the_uncertainty(tmp_path):
    x = np.random.default_rng(2).normal(size=(100, 2)).astype("float32")
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    regressor = hy.HybridModel(hy.flow_distribution(flow), hy.heads.HeteroscedasticNormal())
    hy.bayes.fit(regressor, x, x[:, 0])
    regressor.save(tmp_path / "model.keras")
    pd.DataFrame(ROWS, columns=NAMES).to_csv(tmp_path / "rows.csv", index=False)
    rejector = Rejector(regressor, NegativeLogProb()).fit_threshold(x, quantile=0.9)
    for table in (
        hy.commands.score(tmp_path / "model.keras", tmp_path / "rows.csv"),
        answers(regressor, ROWS, rejector),
    ):
        assert list(table.columns[2:5]) == ["epistemic", "aleatoric", "log_prob_x"]
        np.testing.assert_allclose(table["uncertainty"] ** 2, table["epistemic"] + table["aleatoric"], rtol=1e-4)
    assert table["percentile"].between(0, 100).all() and table["abstain"].dtype == bool


def bad_files(folder):
    (folder / "empty.csv").write_text("")
    (folder / "words.csv").write_text("width,height\na,b\n")
    (folder / "nan.csv").write_text("width,height\n1,nan\n")
    (folder / "short.csv").write_text("width\n1\n")
    (folder / "rows.txt").write_text("1 2")
    (folder / "junk.npz").write_bytes(b"junk")
    (folder / "junk.parquet").write_bytes(b"junk")
    np.savez(folder / "two.npz", a=ROWS, b=ROWS)
    np.savez(folder / "shape.npz", x=ROWS[:, :1])
    np.savez(folder / "pickle.npz", x=np.array([{}], dtype=object))


@pytest.mark.parametrize(
    "name, message",
    [
        ("empty.csv", "cannot be read"),
        ("words.csv", "wanted real numbers"),
        ("nan.csv", "the column 'height' is NaN or missing in row 0"),
        ("short.csv", "lacks the columns .'height'"),
        ("rows.txt", "wanted one of .npz"),
        ("absent.csv", "absent.csv does not exist"),
        ("junk.npz", "cannot be read"),
        ("junk.parquet", "cannot be read"),
        ("two.npz", "one named 'x'"),
        ("shape.npz", "has shape"),
        ("pickle.npz", "cannot be read"),
    ],
)
def test_files_that_cannot_be_scored_are_explained(model, tmp_path, name, message):
    bad_files(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_inputs(tmp_path / name, model, NAMES)


def test_a_density_that_overflows_abstains(model):
    """Weights that push z beyond float32: log p(x) is NaN, the least likely input there is."""
    far = np.full((2, 2), 3e38, "float32")
    table = answers(model, far, Rejector(model, NegativeLogProb()).fit_threshold(ROWS, quantile=1.0))
    assert not np.isfinite(table["log_prob_x"]).any()
    assert (table["percentile"] == 0).all() and table["abstain"].all()


def test_a_vector_response_has_a_column_for_each_entry():
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Normal((2,)))
    table = answers(model, ROWS, None)
    assert list(table) == ["prediction_0", "prediction_1", "uncertainty_0", "uncertainty_1", "log_prob_x"]


def test_a_rejector_by_another_score_shows_it(model, tmp_path):
    Rejector(model, MaxProbability()).fit_threshold(ROWS, quantile=0.5).save(tmp_path / "mine.keras")
    loaded, metrics = saved.load_model(tmp_path / "mine.keras")
    rejector = saved.load_rejector(tmp_path / "mine.keras", loaded)
    table = answers(loaded, ROWS, rejector)
    np.testing.assert_allclose(table["score"], 1 - table["probability"], atol=1e-5)
    assert metrics == {}


def test_a_file_without_a_line_of_names_is_refused(model, tmp_path):
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False, header=False)
    with pytest.raises(ValueError, match="numbers as column names"):
        read_inputs(tmp_path / "rows.csv", model)
    pd.DataFrame(ROWS).to_csv(tmp_path / "named.csv", index=False)  # 0, 1, ... are names
    assert len(read_inputs(tmp_path / "named.csv", model)) == len(ROWS)
