"""Exported models with side inputs: ids of groups, slopes and exposures, by their names in a request."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import blobs, integer_model, tiny_model

import tfp_hybrid as hy
from tfp_hybrid.exporting import warmup
from tfp_hybrid.uncertainty import Rejector

pytestmark = pytest.mark.integration
RNG = np.random.default_rng(0)
ROWS = 200
X = blobs(ROWS)[0]
STUDENTS = np.array(["ann", "bo", "cy", "01", "Zoë"])
MIXED = {"x": X, "student": RNG.choice(STUDENTS, ROWS), "days": RNG.normal(size=ROWS).astype("float32")}
CLINICS = np.array([-7, 3, 2**40])
COUNTS = {"x": X, "clinic": RNG.choice(CLINICS, ROWS), "hours": RNG.gamma(2, 1, ROWS).astype("float32")}
CLOSE = dict(rtol=1e-5, atol=1e-5)
LOWEST, HIGHEST = np.finfo("float32").min, np.finfo("float32").max


def mixed_model(**kwargs):
    groups = {"student": hy.heads.Group(STUDENTS, slopes=["days"])}
    return tiny_model(hy.heads.MixedEffects(hy.heads.Normal(), groups, train_size=ROWS), **kwargs)


def count_model(**kwargs):
    inside = hy.heads.Offset(hy.heads.ExponentialFamily("Poisson"), exposure="hours")
    groups = {"clinic": hy.heads.Group(CLINICS)}
    return tiny_model(hy.heads.MixedEffects(inside, groups, train_size=ROWS), **kwargs)


CASES = {"mixed": (mixed_model, MIXED), "counts": (count_model, COUNTS)}


def tensors(given):
    return {name: tf.constant(value) for name, value in given.items()}


def rows_of(given, rows):
    return {name: value[rows] for name, value in given.items()}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """A rejector, its exported signatures, the folder, and inputs."""
    make, given = CASES[request.param]
    rejector = Rejector(make()).fit_threshold(given, quantile=0.9)
    folder = tmp_path_factory.mktemp("served") / "1"
    rejector.export(folder, verbose=False)
    loaded = tf.saved_model.load(folder)
    yield rejector, loaded, folder, given
    del loaded


def test_answers_are_those_of_the_package(case, tmp_path):
    """Of the live model, of its saved file, and of the exported one; for many rows and for one."""
    rejector, loaded, _, given = case
    rejector.save(tmp_path / "rejector.keras")
    again = keras.models.load_model(tmp_path / "rejector.keras")
    expected = rejector.predict(given, verbose=0)
    for name, value in again.predict(given, verbose=0).items():
        np.testing.assert_allclose(value, expected[name], **CLOSE, err_msg=name)
    p_y, log_prob = rejector.model.predict_distribution(given)
    expected |= {
        "log_prob_x": log_prob,
        "uncertainty": p_y.stddev(),
        "percentile": rejector.percentile(expected["score"]),
    }
    y = np.arange(ROWS) % 3
    for rows in (slice(ROWS), slice(1)):
        request = tensors(rows_of(given, rows))
        found = loaded.signatures["serving_default"](**request)
        assert found.keys() - {"aleatoric", "epistemic"} == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value[rows], rtol=1e-4, atol=1e-4, err_msg=name)
        spec = loaded.signatures["log_prob_y"].structured_input_signature[1]["y"]
        late = loaded.signatures["log_prob_y"](**request, y=tf.constant(y[rows], spec.dtype))["log_prob_y"]
        np.testing.assert_allclose(late, p_y.log_prob(y.astype("float32"))[rows], rtol=1e-4, atol=1e-4)
        called = loaded.serve(request)  # as the model itself, with a dict
        np.testing.assert_allclose(called["prediction"], expected["prediction"][rows], **CLOSE)


def test_effects_and_exposures_are_those_of_the_head(case):
    """A slope times its number, nothing for an id that was not in training, and twice as much in twice the time."""
    rejector, loaded, _, given = case
    head, ask = rejector.model.head, lambda **new: loaded.signatures["serving_default"](**tensors(given | new))
    if "hours" in given:
        once, twice = ask()["prediction"], ask(hours=2 * given["hours"])["prediction"]
        np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
        new = ask(clinic=np.full(ROWS, 4))
        np.testing.assert_array_equal(new["prediction"], ask(clinic=np.full(ROWS, -(2**50)))["prediction"])
        assert not np.allclose(new["prediction"], once)
        return
    effects = head.effects("student").mean().numpy()[np.searchsorted(head.groups["student"].levels, given["student"])]
    fixed = ask(student=np.full(ROWS, "a new one"))
    z = rejector.model.encode(given).latents
    np.testing.assert_allclose(fixed["prediction"], head.head.mean(head.head.at_point(z)), **CLOSE)
    expected = fixed["prediction"] + effects[:, 0] + effects[:, 1] * given["days"]
    np.testing.assert_allclose(ask()["prediction"], expected, rtol=1e-4, atol=1e-4)
    covariance, s = head.variance_components()["student"], np.stack([np.ones(ROWS), given["days"]], -1)
    variance = np.einsum("ni,ij,nj->n", s, covariance, s)
    np.testing.assert_allclose(fixed["epistemic"], variance, rtol=1e-3)


def test_rows_that_predict_refuses_are_not_answered(case):
    rejector, loaded, _, given = case
    number = "hours" if "hours" in given else "days"
    bad = rows_of(given, slice(5)) | {number: np.float32([1, np.nan, np.inf, 0, -1])}
    refused = [False, True, True] + [number == "hours"] * 2
    found = loaded.signatures["serving_default"](**tensors(bad))
    np.testing.assert_array_equal(found["prediction"].numpy() == LOWEST, refused)
    np.testing.assert_array_equal(found["score"].numpy() == HIGHEST, refused)
    assert found["abstain"].numpy()[refused].all()
    for row, is_refused in enumerate(refused):
        if is_refused:
            with pytest.raises(ValueError, match=number):
                rejector.predict(rows_of(bad, [row]), verbose=0)


def test_the_description_and_the_first_requests_have_all_inputs(case):
    rejector, loaded, folder, given = case
    described = json.loads((folder / "signature.json").read_text())["signatures"]
    assert described.keys() == loaded.signatures.keys() == {"serving_default", "serve", "log_prob_y"}
    for name, signature in loaded.signatures.items():
        specs = signature.structured_input_signature[1]
        assert specs.keys() == given.keys() | ({"y"} if name == "log_prob_y" else set())
        inputs = described[name]["inputs"]
        found = {key: (one["dtype"], one["shape"]) for key, one in inputs.items()}
        assert found == {key: (spec.dtype.name, list(spec.shape)) for key, spec in specs.items()}
        assert all(f"'{key}'" in inputs[key]["meaning"] for key in rejector.model.side_inputs)
    group = "clinic" if "clinic" in given else "student"
    assert described["serve"]["inputs"][group]["dtype"] == ("int64" if group == "clinic" else "string")
    assert len(list(tf.data.TFRecordDataset(str(folder / warmup.PATH)))) == 3


def test_a_request_of_another_dtype_or_without_an_input_is_refused(case):
    _, loaded, _, given = case
    group, wrong = ("clinic", "ann") if "clinic" in given else ("student", 3)
    ask = loaded.signatures["serving_default"]
    with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)):
        ask(**tensors(given | {group: np.full(ROWS, wrong)}))
    with pytest.raises(TypeError, match="missing"):
        ask(x=tf.constant(X))
    with pytest.raises(tf.errors.InvalidArgumentError):
        ask(**tensors(given | {group: given[group][:-1]}))


def test_a_name_of_other_characters_gets_one_for_requests(tmp_path):
    groups = {"person id": hy.heads.Group([1, 2]), "_größe": hy.heads.Group([5, 6], slopes=["score"])}
    model = tiny_model(hy.heads.MixedEffects(hy.heads.Normal(), groups, train_size=ROWS), couplings=1)
    model.export(tmp_path / "1", verbose=False)
    loaded, named = tf.saved_model.load(tmp_path / "1"), json.loads((tmp_path / "1" / "signature.json").read_text())
    inputs = named["signatures"]["serving_default"]["inputs"]
    assert inputs.keys() == {"x", "person_id", "input_gr__e", "score"}
    assert "'person id'" in inputs["person_id"]["meaning"] and "'score'" in inputs["score"]["meaning"]
    given = {"x": X[:2], "person id": np.array([1, 2]), "_größe": np.array([6, 5]), "score": np.float32([0.5, 2])}
    expected = model.predict(given, verbose=0)
    request = {"x": X[:2], "person_id": given["person id"], "input_gr__e": given["_größe"], "score": given["score"]}
    np.testing.assert_allclose(
        loaded.signatures["serving_default"](**tensors(request))["prediction"], expected, **CLOSE
    )
    np.testing.assert_allclose(loaded.serve(tensors(given)), expected, **CLOSE)


def test_names_that_a_request_cannot_distinguish_are_refused(tmp_path):
    for names in (["person id", "person_id"], ["y"]):
        groups = {name: hy.heads.Group([1, 2]) for name in names}
        model = tiny_model(hy.heads.MixedEffects(hy.heads.Normal(), groups, train_size=ROWS), couplings=1)
        with pytest.raises(ValueError, match="would be .* in a request; wanted names that differ"):
            model.export(tmp_path / "1", verbose=False)
    assert not list(tmp_path.iterdir())


def test_batches_of_one_size(tmp_path):
    model = mixed_model(couplings=1)
    signature = {
        name: keras.InputSpec(shape=(3, *one.shape[1:]), dtype=one.dtype)
        for name, one in model.input_signature[0].items()
    }
    model.export(tmp_path / "1", verbose=False, input_signature=[signature])
    specs = tf.saved_model.load(tmp_path / "1").signatures["serving_default"].structured_input_signature[1]
    assert {name: tuple(spec.shape) for name, spec in specs.items()} == {"x": (3, 2), "student": (3,), "days": (3,)}
    del signature["days"]
    with pytest.raises(ValueError, match="wanted a list with a dict of .'x', 'student', 'days'."):
        model.export(tmp_path / "2", verbose=False, input_signature=[signature])


@pytest.mark.parametrize("format", ["onnx", "litert", "openvino"])
def test_other_formats_take_x_alone(case, format, tmp_path):
    rejector = case[0]
    for model in (rejector, rejector.model):
        with pytest.raises(ValueError, match=f"the format '{format}': `model` has the side inputs"):
            model.export(tmp_path / "model", format=format, verbose=False)
    assert not list(tmp_path.iterdir())


def test_images_with_side_inputs_have_no_endpoint_for_files(tmp_path):
    plain = integer_model()
    head = hy.heads.MixedEffects(hy.heads.Categorical(3), {"clinic": hy.heads.Group(CLINICS)}, train_size=ROWS)
    hy.HybridModel(plain.distribution, head).export(tmp_path / "1", verbose=False)
    signatures = tf.saved_model.load(tmp_path / "1").signatures
    assert signatures.keys() == {"serving_default", "serve", "log_prob_y"}
    x = np.random.default_rng(0).integers(4, size=(2, 4, 4, 1)).astype("float32")
    x[1, 0, 0, 0] = 4  # no grey level
    found = signatures["serving_default"](x=tf.constant(x), clinic=tf.constant(CLINICS[:2]))
    np.testing.assert_array_equal(found["prediction"].numpy()[:, 0] == LOWEST, [False, True])
