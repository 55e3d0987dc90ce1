import zipfile

import keras
import numpy as np
import pytest
from helpers import change_config, tiny_model

import tfp_hybrid as hy
from tfp_hybrid.serving import saved
from tfp_hybrid.uncertainty import NegativeLogProb, Rejector


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    return hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(3))


ROWS = np.random.default_rng(0).normal(size=(7, 2)).astype("float32")


def test_models_that_cannot_be_loaded_are_explained(tmp_path):
    with pytest.raises(ValueError, match="There is no model at"):
        saved.load_model(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"junk")
    with pytest.raises(ValueError, match="damaged or not a Keras model"):
        saved.load_model(tmp_path)
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "foreign.keras")
    with pytest.raises(ValueError, match="has a Sequential; wanted a HybridModel, a DensityModel or a Rejector"):
        saved.load_model(tmp_path / "foreign.keras")


def test_a_truncated_model_file_is_explained(model, tmp_path):
    model.save(tmp_path / "model.keras")
    whole = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        saved.load_model(tmp_path)


@pytest.mark.integration
def test_a_rejector_of_another_model_is_refused(model, tmp_path):
    Rejector(model, NegativeLogProb()).fit_threshold(ROWS, quantile=0.5).save(tmp_path / "rejector.keras")
    other = tiny_model(hy.heads.Categorical(3), compile=False)
    other.save(tmp_path / "model.keras")
    loaded, _ = saved.load_model(tmp_path)
    assert (loaded.predict(ROWS, verbose=0) == other.predict(ROWS, verbose=0)).all()
    with pytest.raises(ValueError, match="has another model than"):
        saved.load_rejector(tmp_path, loaded)


def test_a_rejector_without_a_threshold_is_none(model, tmp_path):
    Rejector(model, NegativeLogProb()).save(tmp_path / "mine.keras")
    assert saved.load_rejector(tmp_path / "mine.keras", model) is None


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
        ('{"target": 3, "task": "regression"}', "wanted a name, classification or regression"),
        ('{"target": "y", "task": "ranking"}', "wanted a name, classification or regression"),
        ('{"target": "y", "task": "classification"}', "wanted a name, classification or regression"),
        ('{"target": "y", "task": "classification", "classes": [[1]]}', "wanted a name, classification or regression"),
    ],
)
def test_metrics_that_are_damaged_are_explained(model, tmp_path, text, message):
    model.save(tmp_path / "model.keras")
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=f"metrics.json .*{message}"):
        saved.load_model(tmp_path)


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
        saved.load_model(tmp_path)
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
        saved.load_model(tmp_path)


def test_an_older_format_is_not_called_damaged(model, tmp_path):
    model.save(tmp_path / "model.keras")
    change_config(tmp_path / "model.keras", lambda config: config["config"].__delitem__("format"))
    with pytest.raises(ValueError, match="^tfp_hybrid: the saved model has no format number"):
        saved.load_model(tmp_path)


def test_a_deeply_nested_configuration_is_explained(tmp_path):
    for depth in (900, 100_000):
        with zipfile.ZipFile(tmp_path / "deep.keras", "w") as file:
            file.writestr("config.json", '{"class_name": "a", "config": ' + depth * "[" + depth * "]" + "}")
        with pytest.raises(ValueError, match="deep.keras cannot be loaded; .*(nested more than 128 levels|recursion)"):
            saved.load_model(tmp_path / "deep.keras")
