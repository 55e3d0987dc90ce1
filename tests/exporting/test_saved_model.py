"""Exported SavedModels: what they answer, what lies beside them, and how they are written."""

import json
import shutil

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from helpers import blobs, randomize, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import bayes, uncertainty
from tfp_hybrid.exporting import warmup
from tfp_hybrid.uncertainty import Rejector

pytestmark = pytest.mark.integration
X, Y = blobs(300)
NEW = blobs(1000, seed=1)[0]
CLOSE = dict(rtol=1e-5, atol=1e-5)
LOWEST, HIGHEST = np.finfo("float32").min, np.finfo("float32").max


@pytest.fixture(scope="module")
def rejector():
    """With a posterior of its head, and a score that is fitted."""
    model = tiny_model()
    bayes.fit(model, X[:200], Y[:200])
    return Rejector(model, uncertainty.Typicality()).fit_threshold(X[200:], quantile=0.9)


@pytest.fixture(scope="module")
def folder(rejector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "1"
    rejector.export(folder, verbose=False)
    return folder


@pytest.fixture(scope="module")
def signatures(folder):
    loaded = tf.saved_model.load(folder)
    yield loaded.signatures
    del loaded


def test_answers_are_those_of_the_package(rejector, signatures):
    """For a batch of 1,000 rows, and of one."""
    expected, parts = rejector.predict(NEW, batch_size=1000, verbose=0), uncertainty.decompose(rejector.model, NEW)
    expected |= {"aleatoric": parts.aleatoric, "epistemic": parts.epistemic}
    expected["log_prob_x"] = rejector.model.log_prob(NEW)
    expected["uncertainty"] = scipy.stats.entropy(expected["prediction"], axis=-1)
    np.testing.assert_allclose(expected["prediction"], rejector.model.predict(NEW, verbose=0), **CLOSE)
    for rows in (1000, 1):
        found = signatures["serving_default"](x=tf.constant(NEW[:rows]))
        percentile = found.pop("percentile")
        np.testing.assert_allclose(percentile, rejector.percentile(found["score"]), atol=1e-4)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name][:rows], **CLOSE, err_msg=name)
        y = np.arange(rows) % 2
        late = signatures["log_prob_y"](x=tf.constant(NEW[:rows]), y=tf.constant(y, tf.int32))["log_prob_y"]
        np.testing.assert_allclose(late, np.log(expected["prediction"][np.arange(rows), y]), **CLOSE)


def test_all_numbers_are_finite(rejector, signatures):
    """Where there is none, the lowest or the highest; and the rows beside do not notice."""
    x = np.array([[np.nan, 0], [0, np.inf], [-3e38, 3e38], X[0]], "float32")
    found = signatures["serving_default"](x=tf.constant(x))
    assert all(np.isfinite(np.float64(value)).all() for value in found.values())
    np.testing.assert_array_equal(found["abstain"][:3], True)
    np.testing.assert_array_equal(found["percentile"][:3], 0)
    np.testing.assert_array_equal(found["log_prob_x"][:3], LOWEST)
    np.testing.assert_array_equal(found["score"][:3], HIGHEST)
    for name, value in (("prediction", LOWEST), ("uncertainty", HIGHEST), ("epistemic", HIGHEST)):
        np.testing.assert_array_equal(found[name][:2], np.full_like(found[name][:2], value))
    np.testing.assert_allclose(found["prediction"][3:], rejector.predict(X[:1], verbose=0)["prediction"], **CLOSE)
    late = signatures["log_prob_y"](x=tf.constant(x), y=tf.zeros(4, tf.int32))["log_prob_y"]
    np.testing.assert_array_equal(late[:2], LOWEST)
    assert late[3] > -100


def test_the_description_is_of_the_signatures(folder, signatures, rejector):
    described = json.loads((folder / "signature.json").read_text())
    assert described["threshold"] == float(rejector.threshold) and described["model"] == "Rejector"
    assert f"{LOWEST:.9g}" in described["numbers"]
    assert described["signatures"].keys() == signatures.keys() == {"serving_default", "serve", "log_prob_y"}
    for name, signature in signatures.items():
        for of, specs in (
            ("inputs", signature.structured_input_signature[1]),
            ("outputs", signature.structured_outputs),
        ):
            found = {key: (one["dtype"], one["shape"]) for key, one in described["signatures"][name][of].items()}
            assert found == {key: (spec.dtype.name, list(spec.shape)) for key, spec in specs.items()}
            assert all(one["meaning"] for one in described["signatures"][name][of].values())


def test_requests_to_warm_up_can_be_read_and_answered(folder, signatures):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", reason="serving-api is not installed")
    records = tf.data.TFRecordDataset(str(folder / warmup.PATH))
    requests = [logs.PredictionLog.FromString(record.numpy()).predict_log.request for record in records]
    assert {request.model_spec.signature_name for request in requests} == set(signatures)
    for request in requests:
        assert not request.HasField("model_spec") or not request.model_spec.name
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        outputs = signatures[request.model_spec.signature_name](**inputs)
        assert all(len(value) == 1 for value in outputs.values())


def test_a_density_answers_log_p_alone(tmp_path):
    flow = hy.bijectors.RealNVP((2,), couplings=1, hidden_units=(8,))
    density = hy.DensityModel(hy.flow_distribution(flow))
    randomize(density.trainable_weights)
    density.export(tmp_path / "1", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "1")
    assert loaded.signatures.keys() == {"serving_default", "serve"}
    found = loaded.signatures["serving_default"](x=tf.constant(NEW))
    assert found.keys() == {"log_prob_x"}
    np.testing.assert_allclose(found["log_prob_x"], density.log_prob(NEW), **CLOSE)
    layer = keras.layers.TFSMLayer(tmp_path / "1", call_endpoint="serve")  # Keras' own reader
    np.testing.assert_allclose(layer(tf.constant(NEW)), density.predict(NEW, verbose=0), **CLOSE)


def test_what_stood_there_stays_if_it_fails(folder, tmp_path, monkeypatch):
    older = shutil.copytree(folder, tmp_path / "1")
    before = {path: path.read_bytes() for path in older.rglob("*") if path.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(warmup, "write", full)
    with pytest.raises(OSError, match=r"1 cannot be written \(No space left on device\)"):
        tiny_model(couplings=1).export(older, verbose=False)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match="holds something else; wanted a new or empty folder"):
        tiny_model(couplings=1).export(tmp_path, verbose=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
