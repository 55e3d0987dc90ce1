import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
from helpers import change_config, tiny_model

import tfp_hybrid as hy
from tfp_hybrid.experiments import scoring
from tfp_hybrid.uncertainty import MaxProbability, Rejector

NAMES = ("width", "height")


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
    np.testing.assert_allclose(scoring.read_inputs(path, model, NAMES), ROWS, rtol=1e-6)


def test_scores_equal_the_model_and_the_reference(model):
    held_out = np.random.default_rng(1).normal(size=(1000, 2)).astype("float32")
    rejector = Rejector(model).fit_threshold(held_out, quantile=0.8)
    table = scoring.score(model, ROWS, rejector, abstain_below=30.0)
    reference = model.log_prob(held_out)
    probabilities, log_prob = model.predict(ROWS, verbose=0), np.asarray(model.distribution.log_prob(ROWS))
    np.testing.assert_array_equal(table["prediction"], probabilities.argmax(-1))
    np.testing.assert_allclose(table["log_prob_x"], log_prob, rtol=1e-5)
    percentile = [100 * np.mean(reference < value) for value in table["log_prob_x"]]
    np.testing.assert_allclose(table["percentile"], percentile, atol=0.01)
    np.testing.assert_array_equal(table["abstain"], np.asarray(percentile) < 30)
    by_threshold = scoring.score(model, ROWS, rejector)["abstain"]
    np.testing.assert_array_equal(by_threshold, np.asarray(percentile) < 20)
    np.testing.assert_allclose(table["uncertainty"], np.log(3), rtol=1e-5)  # an untrained head is uniform


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
        ("nan.csv", "holds nan"),
        ("short.csv", "lacks the columns .'height'"),
        ("rows.txt", "wanted one of .npz"),
        ("absent.csv", "There is no file"),
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
        scoring.read_inputs(tmp_path / name, model, NAMES)


def test_models_that_cannot_be_loaded_are_explained(tmp_path):
    with pytest.raises(ValueError, match="There is no model at"):
        scoring.load_model(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"junk")
    with pytest.raises(ValueError, match="damaged or no Keras model"):
        scoring.load_model(tmp_path)
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "foreign.keras")
    with pytest.raises(ValueError, match="holds a Sequential; wanted a HybridModel or a Rejector"):
        scoring.load_model(tmp_path / "foreign.keras")


def test_a_truncated_model_file_is_explained(model, tmp_path):
    model.save(tmp_path / "model.keras")
    whole = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        scoring.load_model(tmp_path)


def test_a_density_that_overflows_abstains(model):
    """Weights that push z beyond float32: log p(x) is NaN, the least likely input there is."""
    far = np.full((2, 2), 3e38, "float32")
    table = scoring.score(model, far, Rejector(model).fit_threshold(ROWS, quantile=1.0))
    assert not np.isfinite(table["log_prob_x"]).any()
    assert (table["percentile"] == 0).all() and table["abstain"].all()


def test_a_vector_response_has_a_column_for_each_entry():
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Normal((2,)))
    table = scoring.score(model, ROWS, None)
    assert list(table) == ["prediction_0", "prediction_1", "uncertainty_0", "uncertainty_1", "log_prob_x"]


def test_a_rejector_by_another_score_shows_it(model, tmp_path):
    Rejector(model, MaxProbability()).fit_threshold(ROWS, quantile=0.5).save(tmp_path / "mine.keras")
    loaded, metrics = scoring.load_model(tmp_path / "mine.keras")
    rejector = scoring.load_rejector(tmp_path / "mine.keras", loaded)
    table = scoring.score(loaded, ROWS, rejector)
    np.testing.assert_allclose(table["score"], 1 - table["probability"], atol=1e-5)
    assert metrics == {}


def test_a_rejector_of_another_model_is_refused(model, tmp_path):
    Rejector(model).fit_threshold(ROWS, quantile=0.5).save(tmp_path / "rejector.keras")
    other = tiny_model(hy.heads.Categorical(3), compile=False)
    other.save(tmp_path / "model.keras")
    loaded, _ = scoring.load_model(tmp_path)
    assert (loaded.predict(ROWS, verbose=0) == other.predict(ROWS, verbose=0)).all()
    with pytest.raises(ValueError, match="holds another model than"):
        scoring.load_rejector(tmp_path, loaded)


def test_a_rejector_without_a_threshold_is_none(model, tmp_path):
    Rejector(model).save(tmp_path / "mine.keras")
    assert scoring.load_rejector(tmp_path / "mine.keras", model) is None


def test_a_file_without_a_line_of_names_is_refused(model, tmp_path):
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False, header=False)
    with pytest.raises(ValueError, match="numbers for column names"):
        scoring.read_inputs(tmp_path / "rows.csv", model)
    pd.DataFrame(ROWS).to_csv(tmp_path / "named.csv", index=False)  # 0, 1, ... are names
    assert len(scoring.read_inputs(tmp_path / "named.csv", model)) == len(ROWS)


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1, 2]", "wanted a JSON object"),
        ("null", "wanted a JSON object"),
        ('{"feature_names": ', "is damaged"),
        ('{"feature_names": 3}', "wanted a list of names"),
        ('{"feature_names": ["a", 3]}', "wanted a list of names"),
        ('{"config": []}', "wanted an object whose seed"),
        ('{"config": {"seed": "a"}}', "wanted an object whose seed"),
    ],
)
def test_metrics_that_are_damaged_are_explained(model, tmp_path, text, message):
    model.save(tmp_path / "model.keras")
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=f"metrics.json .*{message}"):
        scoring.load_model(tmp_path)


def test_a_crafted_file_of_another_kind_calls_nothing(tmp_path):
    """Keras itself would call the function while it loads the file."""
    name = {"module": "keras.config", "class_name": "function", "config": "set_epsilon", "registered_name": None}
    layers = [keras.Input((1,)), keras.layers.Lambda(keras.ops.exp, name="f")]
    keras.Sequential(layers).save(tmp_path / "model.keras")
    before = keras.config.epsilon()

    def change(config):
        config["config"]["layers"][1]["config"]["function"] = name

    change_config(tmp_path / "model.keras", change)
    with pytest.raises(ValueError, match="may not name keras.config.set_epsilon"):
        scoring.load_model(tmp_path)
    assert keras.config.epsilon() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["config"]["head"]["build_config"].update(input_shape=[]),
        lambda config: config["config"]["head"]["build_config"].update(input_shape=[None, 7]),
        lambda config: config["config"].update(dtype={"class_name": "Dense"}),
        lambda config: config["config"]["distribution"]["arguments"].__delitem__("bijector"),
        lambda config: config.clear(),
    ],
)
def test_a_damaged_configuration_is_explained(model, tmp_path, change):
    model.save(tmp_path / "model.keras")
    change_config(tmp_path / "model.keras", change)
    with pytest.raises(ValueError, match="model.keras cannot be loaded; it is damaged"):
        scoring.load_model(tmp_path)


def test_a_deeply_nested_configuration_is_explained(tmp_path):
    for depth in (900, 100_000):
        with zipfile.ZipFile(tmp_path / "deep.keras", "w") as file:
            file.writestr("config.json", '{"class_name": "a", "config": ' + depth * "[" + depth * "]" + "}")
        with pytest.raises(ValueError, match="deep.keras cannot be loaded; .*(nested more than 128 deep|recursion)"):
            scoring.load_model(tmp_path / "deep.keras")
