"""ONNX and LiteRT: the same answers elsewhere, or the name of the operation that is missing there."""

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers import blobs, integer_model, randomize, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import bayes
from tfp_hybrid.uncertainty import NegativeLogProb, Rejector

pytestmark = pytest.mark.integration
X, Y = blobs(200)
NEW = blobs(50, seed=1)[0]
IMAGES, NEW_IMAGES = (np.random.default_rng(i).normal(size=(40, 8, 8, 1)).astype("float32") for i in range(2))
CLOSE = dict(rtol=1e-5, atol=1e-5)


def glow(head):
    """Of real numbers: with two levels, and several steps in each."""
    flow = hy.bijectors.Glow((8, 8, 1), levels=2, steps=2, hidden_units=8, quantization_levels=None)
    model = hy.HybridModel(hy.flow_distribution(flow), head)
    randomize(model.trainable_weights, scale=0.05)
    return model


CASES = {
    "real_nvp categorical": lambda: (tiny_model(), NEW),
    "real_nvp normal": lambda: (tiny_model(hy.heads.Normal()), NEW),
    "glow categorical": lambda: (glow(hy.heads.Categorical(3)), NEW_IMAGES),
    "glow normal": lambda: (glow(hy.heads.Normal()), NEW_IMAGES),
}


def by_onnx(path, x):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    assert names[0] in ("prediction", "log_prob_x") and [taken.name for taken in session.get_inputs()] == ["x"]
    return dict(zip(names, session.run(None, {"x": x}), strict=True))


def by_litert(path, x):
    return tf.lite.Interpreter(model_path=str(path)).get_signature_runner("serving_default")(x=x)


FORMATS = {"onnx": (by_onnx, "model.onnx"), "litert": (by_litert, "model.tflite")}


USUAL = (("onnx", "glow categorical"), ("litert", "real_nvp normal"))


def often(cases, usual):
    """All cases, those that are not usual only at night: each is converted in seconds."""
    return [pytest.param(*case, marks=() if case in usual else pytest.mark.nightly) for case in cases]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("format, name", often([(format, name) for format in FORMATS for name in CASES], USUAL))
def test_the_same_answers_elsewhere(format, name, tmp_path):
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")
    model, x = CASES[name]()
    run, file = FORMATS[format]
    model.export(tmp_path / file, format=format, verbose=False)
    found = run(tmp_path / file, x)
    p_y, log_prob = model.predict_distribution(x)
    np.testing.assert_allclose(found["prediction"], model.predict(x, verbose=0), **CLOSE)
    np.testing.assert_allclose(found["log_prob_x"], log_prob, **CLOSE)
    spread = p_y.entropy() if model.head.classifies else p_y.stddev()
    np.testing.assert_allclose(found["uncertainty"], spread, **CLOSE)
    one = run(tmp_path / file, x[:1])
    np.testing.assert_allclose(one["log_prob_x"], log_prob[:1], **CLOSE)
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("format", ["onnx", pytest.param("litert", marks=pytest.mark.nightly)])
def test_a_rejector_abstains_elsewhere(format, tmp_path):
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")
    rejector = Rejector(tiny_model(), NegativeLogProb()).fit_threshold(X, quantile=0.9)
    run, file = FORMATS[format]
    rejector.export(tmp_path / file, format=format, verbose=False)
    x = np.r_[NEW, [[np.nan, 0]], [[1e30, 0]]].astype("float32")
    found, expected = run(tmp_path / file, x), rejector.predict(NEW, verbose=0)
    np.testing.assert_allclose(found["score"][:-2], expected["score"], **CLOSE)
    np.testing.assert_array_equal(found["abstain"][:-2], expected["abstain"])
    np.testing.assert_allclose(found["percentile"], rejector.percentile(found["score"]), atol=1e-4)
    assert found["abstain"][-2:].all() and np.isfinite(found["log_prob_x"]).all()


@pytest.mark.nightly
def test_the_file_says_what_its_outputs_are(tmp_path):
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    tiny_model(couplings=1).export(tmp_path / "model.onnx", format="onnx", verbose=False, opset_version=17)
    model = onnx.load(tmp_path / "model.onnx")
    assert [one.version for one in model.opset_import if not one.domain] == [17]
    described = json.loads(model.metadata_props[0].value)
    assert described.keys() == {"x", *(output.name for output in model.graph.output)}


def posterior():
    model = tiny_model(couplings=1)
    bayes.fit(model, X, Y)
    return model


MISSING = {
    ("onnx", "integers"): (integer_model, r"opset 18 has no counterpart of BitShift \(.*\) for its types"),
    ("onnx", "posterior"): (posterior, r"no counterpart of Cholesky \(.*Cholesky\), Xlogy"),
    ("onnx", "score"): (lambda: Rejector(tiny_model()).fit_threshold(X, quantile=0.9), "LowerBound"),
    ("litert", "integers"): (integer_model, "LiteRT, which has no counterpart of BitwiseAnd, BitwiseXor, RightShift"),
}


@pytest.mark.parametrize("format, name", often(MISSING, [("onnx", "integers")]))
def test_what_is_missing_there_is_named(format, name, tmp_path):
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")
    make, message = MISSING[format, name]
    with pytest.raises(ValueError, match=message):
        make().export(tmp_path / FORMATS[format][1], format=format, verbose=False)
    assert not list(tmp_path.iterdir())


def test_a_litert_file_ends_in_tflite(tmp_path):
    with pytest.raises(ValueError, match="wanted one that ends in .tflite"):
        tiny_model(couplings=1).export(tmp_path / "model.bin", format="litert", verbose=False)
