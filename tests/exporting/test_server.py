"""A server that knows TensorFlow alone answers as `predict` does, refuses what is malformed, and loses nothing."""

import base64
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import requests
import tensorflow as tf
from helpers import integer_model

from tfp_hybrid.uncertainty import NegativeLogProb, Rejector

pytestmark = pytest.mark.integration
CLOSE = dict(rtol=1e-5, atol=1e-5)
SHAPE, LEVELS = (4, 4, 1), 4


def images(rows, seed=0):
    return np.random.default_rng(seed).integers(LEVELS, size=(rows, *SHAPE)).astype("uint8")


@pytest.fixture(scope="module")
def rejector():
    return Rejector(integer_model(LEVELS), NegativeLogProb()).fit_threshold(images(200), quantile=0.9)


@pytest.fixture(scope="module")
def server(rejector, tmp_path_factory):
    """The ports of a server in a process of its own."""
    folder = tmp_path_factory.mktemp("served") / "1"
    rejector.export(folder, verbose=False)
    command = [sys.executable, str(pathlib.Path(__file__).with_name("server.py")), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def post(server):
    """A function that sends a request, as a value or as text, and returns status and answer."""
    sessions = threading.local()

    def send(body):
        sessions.own = getattr(sessions, "own", None) or requests.Session()
        body = body if isinstance(body, str) else json.dumps(body)
        address = f"http://localhost:{server['rest']}/v1/models/served:predict"
        reply = sessions.own.post(address, data=body, timeout=60)
        return reply.status_code, reply.json()

    return send


def png(image):
    return {"b64": base64.b64encode(tf.io.encode_png(image).numpy()).decode()}


def in_columns(x):
    return {"inputs": {"x": x.tolist()}}


def in_rows(x):
    return {"instances": x.tolist()}


def of_images(x):
    return {"signature_name": "images", "instances": [{"image_bytes": png(image)} for image in x]}


FORMS = (in_columns, in_rows, of_images)
WRONG = {
    "no JSON": lambda x: "{",
    "no inputs": lambda x: {"signature_name": "serving_default"},
    "no such signature": lambda x: in_columns(x) | {"signature_name": "train"},
    "no such input": lambda x: {"inputs": {"z": x.tolist()}},
    "another shape": lambda x: in_columns(x[:, :3]),
    "rows of different lengths": lambda x: {"inputs": {"x": [*x.tolist(), [[[1]]]]}},
    "text": lambda x: {"inputs": {"x": np.full(x.shape, "one").tolist()}},
    "nothing": lambda x: {"instances": []},
    "fewer labels than rows": lambda x: {
        "signature_name": "log_prob_y",
        "inputs": {"x": np.repeat(x, 3, 0).tolist(), "y": [0, 1]},
    },
    "no such class": lambda x: {"signature_name": "log_prob_y", "inputs": {"x": x[:1].tolist(), "y": [3]}},
    "no image": lambda x: {"signature_name": "images", "instances": [{"image_bytes": {"b64": "AAAA"}}]},
    "an image of another size": lambda x: of_images(np.zeros((1, 5, 4, 1), "uint8")),
    "an image in colour": lambda x: of_images(np.zeros((1, 4, 4, 3), "uint8")),
}


def answers_of(reply):
    """The outputs by name, of either form of an answer."""
    if "outputs" in reply:
        return {name: np.array(values) for name, values in reply["outputs"].items()}
    return {name: np.array([row[name] for row in reply["predictions"]]) for name in reply["predictions"][0]}


def check(reply, rejector, x):
    found = answers_of(reply)
    expected = rejector.predict(x, batch_size=1000, verbose=0)
    for name in ("prediction", "score"):
        np.testing.assert_allclose(found[name], expected[name], **CLOSE)
    np.testing.assert_allclose(found["percentile"], rejector.percentile(found["score"]), atol=1e-4)
    np.testing.assert_array_equal(found["abstain"], expected["abstain"])


@pytest.mark.parametrize("rows", [1, 1000])
def test_served_answers_equal_predict(rows, post, rejector):
    x = images(rows, 1)
    for form in FORMS:
        status, reply = post(form(x))
        assert status == 200, reply
        check(reply, rejector, x)


def test_labels_that_come_late(post, rejector):
    x, y = images(5, 2), [0, 1, 2, 0, 1]
    _, reply = post({"signature_name": "log_prob_y", "inputs": {"x": x.tolist(), "y": y}})
    expected = np.log(rejector.predict(x, verbose=0)["prediction"][np.arange(5), y])
    np.testing.assert_allclose(reply["outputs"]["log_prob_y"], expected, **CLOSE)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_malformed_is_refused(name, post):
    status, reply = post(WRONG[name](images(2)))
    assert status == 400 and reply["error"]


@pytest.mark.parametrize("requests_sent", [60, pytest.param(1000, marks=pytest.mark.nightly)])
def test_none_is_lost_and_memory_is_flat(requests_sent, post, server, rejector):
    rng = np.random.default_rng(0)
    x = images(100, 3)
    expected = rejector.predict(x, verbose=0)["prediction"]

    def one(number):
        rows = x[: rng_rows[number]]
        if kinds[number] < len(WRONG):
            return post(list(WRONG.values())[kinds[number]](rows))[0] == 400
        status, reply = post(FORMS[kinds[number] % len(FORMS)](rows))
        return status == 200 and np.allclose(answers_of(reply)["prediction"], expected[: len(rows)], **CLOSE)

    def memory():
        return requests.get(f"http://localhost:{server['rest']}/memory", timeout=60).json()

    rng_rows = rng.integers(1, len(x) + 1, size=requests_sent)
    kinds = rng.integers(3 * len(WRONG), size=requests_sent)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        third = requests_sent // 3
        good = list(pool.map(one, range(third)))
        before = memory()
        good += list(pool.map(one, range(third, requests_sent)))
    grown = memory() - before
    assert len(good) == requests_sent and all(good)
    assert grown < 32 * 1024, f"{grown} kB more after {requests_sent} requests"


def test_the_client_of_tensorflow_serving(server, rejector):
    grpc = pytest.importorskip("grpc", reason="tensorflow-serving-api is not installed")
    apis = pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    assert apis and server["grpc"]
    x = images(7, 4)
    with grpc.insecure_channel(f"localhost:{server['grpc']}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "served"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(x.astype("float32")))
        outputs = stub.Predict(request, timeout=60).outputs
        expected = rejector.predict(x, verbose=0)
        for name in ("prediction", "score"):
            np.testing.assert_allclose(tf.make_ndarray(outputs[name]), expected[name], **CLOSE)
        np.testing.assert_array_equal(tf.make_ndarray(outputs["abstain"]), expected["abstain"])
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(x[:, :2].astype("float32")))
        with pytest.raises(grpc.RpcError, match="wanted"):
            stub.Predict(request, timeout=60)
