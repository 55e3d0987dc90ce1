"""Saved models of every format ever released load, and answer as they did."""

import json
import pathlib
import re
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from golden import write
from helpers import blobs, change_config, tiny_model

from tfp_hybrid import serialization
from tfp_hybrid.uncertainty import Rejector

tfb, tfd = tfp.bijectors, tfp.distributions
FILES = sorted(pathlib.Path(write.__file__).parent.glob("*.keras"))


def test_every_kind_has_a_file():
    assert {re.sub(r"^format_\d+_", "", file.stem) for file in FILES} == set(write.MODELS)


@pytest.mark.integration
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_answers_stay(file):
    model = keras.models.load_model(file)
    with np.load(file.with_suffix(".npz")) as wanted:
        found = write.answers(model, wanted["x"])
        assert set(found) == set(wanted) - {"x"}
        for name, value in found.items():
            np.testing.assert_allclose(value, wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_module_paths_do_not_matter(file, tmp_path):
    """Whatever module a file says that a class of ours is in."""
    with zipfile.ZipFile(file) as archive:
        config = archive.read("config.json").decode()
    assert "tfp_hybrid." not in config.replace('"module": "tfp_hybrid.', "")
    path = tmp_path / "moved.keras"
    path.write_bytes(file.read_bytes())
    change_config(path, lambda config: json.dumps(config).replace('"module": "tfp_hybrid.', '"module": "moved.'))
    keras.models.load_model(path)


@pytest.mark.parametrize(
    ("number", "message"),
    [(2, "has the format 2; this version reads 1. Install a newer"), (None, "has no format number"), ("x", "'x'")],
)
@pytest.mark.parametrize("make", [tiny_model, lambda: Rejector(tiny_model())])
def test_unknown_formats_are_refused(number, message, make, tmp_path):
    def change(config):
        config["config"]["unknown"] = {"tfp_hybrid_kind": "object", "class": "tfp_hybrid.gone.Flow", "arguments": {}}
        del config["config"]["format"]
        if number is not None:
            config["config"]["format"] = number

    path = tmp_path / "model.keras"
    make().save(path)
    change_config(path, change)
    with pytest.raises(ValueError, match=message):
        keras.models.load_model(path)


def stored(path):
    """The numbers that a file of weights holds, as lists."""
    found = []

    def collect(name, part):
        if isinstance(part, h5py.Dataset):
            found.append(part[()].tolist())

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file, h5py.File(file) as weights:
        weights.visititems(collect)
    return found


def test_a_shared_variable_is_one_weight(tmp_path):
    """Of p(x) and of the head: counted, trained and saved once, and shared again after loading."""
    model = write.shared()
    scale = model.distribution.distribution.distribution.scale
    assert sum(weight.value is scale for weight in model.trainable_weights) == 1
    assert model.count_params() == sum(int(np.prod(weight.shape)) for weight in model.weights)

    x, _ = blobs(32)
    y = np.random.default_rng(0).poisson(2.0, 32)
    with tf.GradientTape() as tape:
        log_prob = model.distribution.log_prob(x) + model.head(model.flow.inverse(x)).log_prob(y.astype("float32"))
        loss = -tf.reduce_mean(log_prob)
    gradient, before = tape.gradient(loss, scale), scale.numpy()
    model.compile(keras.optimizers.SGD(1e-3))
    model.train_on_batch(x, y)
    np.testing.assert_allclose(scale.numpy(), before - 1e-3 * gradient.numpy(), rtol=1e-5)

    scale.assign(1.625)
    model.save(tmp_path / "model.keras")
    assert stored(tmp_path / "model.keras").count(1.625) == 1
    loaded = keras.models.load_model(tmp_path / "model.keras")
    scale = loaded.distribution.distribution.distribution.scale
    assert float(scale.numpy()) == 1.625
    for layer in (loaded, loaded.density, loaded.head):
        assert sum(weight.value is scale for weight in layer.trainable_weights) == 1
    np.testing.assert_allclose(loaded.log_prob(x), model.log_prob(x), rtol=1e-6)
    assert len(loaded.trainable_weights) == len(model.trainable_weights)


def test_sharing_ends_with_its_context():
    exp = tfb.Exp()
    with serialization.sharing():
        first, second = serialization.serialize(exp), serialization.serialize(exp)
    assert second["tfp_hybrid_kind"] == "shared" and serialization.serialize(exp) == first
