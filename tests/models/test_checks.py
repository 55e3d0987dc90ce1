"""Data that a model cannot be trained on raise before training starts."""

import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from helpers import blobs, integer_model, tiny_model, weights_of

import tfp_hybrid as hy
from tfp_hybrid.models import checks, data_sets


def with_value(value, x):
    x = x.copy()
    x[3, 1] = value
    return x


def images(dtype="int64"):
    return np.random.default_rng(0).integers(4, size=(8, 4, 4, 1)).astype(dtype), np.arange(8) % 3


X, Y = blobs(8)
IMAGES, DIGITS = images()
VECTOR_DATA = {
    "NaN": (with_value(np.nan, X), Y, r"x holds nan at index \[3, 1\]; wanted finite.*Remove"),
    "infinite": (with_value(-np.inf, X), Y, r"x holds -inf at index \[3, 1\]; wanted finite"),
    "wide": (np.zeros((8, 3)), Y, r"x has shape \(8, 3\); wanted \('n', 2\)"),
    "flat": (X[:, 0], Y, r"x has shape \(8,\); wanted \('n', 2\)"),
    "empty": (X[:0], Y[:0], "x is empty; wanted at least one row"),
    "text": (X.astype(str), Y, "x has dtype <U.*; wanted real numbers"),
    "lengths": (X, Y[:5], "y has 5 rows but x has 8; they must match"),
    "no labels": (X, None, "y is missing; wanted responses for the head"),
    "class too high": (X, Y + 1, "y has labels from 1 to 2; wanted 0 .. 1"),
    "one-hot": (X, np.eye(2)[Y], r"y has shape \(8, 2\), as one-hot labels have; wanted integer labels.*argmax"),
    "float labels": (X, Y + 0.5, "y has dtype float64; wanted integer labels"),
    "labels of another shape": (X, np.zeros((8, 5), int), r"y has shape \(.*, 5\); wanted \('n',\)"),
    "list": ([[0.0, 1.0]], Y[:1], "x is a list; wanted an array"),
}
IMAGE_DATA = {
    "scaled": (IMAGES / 3, DIGITS, r"x holds fractions such as 0\.\d+; wanted integers 0 .. 3.*unscaled.*levels=None"),
    "too high": (IMAGES + 1, DIGITS, "x has values from 1 to 4; wanted integers 0 .. 3.*quantization_levels"),
    "negative": (IMAGES - 1, DIGITS, "x has values from -1 to 2; wanted integers 0 .. 3"),
    "no channels": (IMAGES[..., 0], DIGITS, r"x has shape \(8, 4, 4\); wanted \('n', 4, 4, 1\)"),
}


@pytest.fixture(scope="module")
def models():
    """A model of vectors and one of images, and their weights."""
    return {"vector": tiny_model(), "image": integer_model()}


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("kind", "name"), [("vector", name) for name in VECTOR_DATA] + [("image", name) for name in IMAGE_DATA]
)
def test_bad_arrays(models, kind, name, method):
    x, y, message = (VECTOR_DATA if kind == "vector" else IMAGE_DATA)[name]
    before = weights_of(models[kind])
    with pytest.raises(ValueError, match=f"(?s){message}"):
        getattr(models[kind], method)(x, y, verbose=0)
    for one, other in zip(before, weights_of(models[kind]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["NaN", "wide", "empty"])
@pytest.mark.parametrize("method", ["adapt", "log_prob", "predict_distribution"])
def test_bad_arrays_for_inference(models, name, method):
    x, _, message = VECTOR_DATA[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        getattr(models["vector"], method)(x)


@pytest.mark.parametrize("name", ["NaN", "wide", "class too high", "one-hot"])
def test_bad_first_batch_of_a_data_set(models, name):
    x, y, message = VECTOR_DATA[name]
    with pytest.raises(ValueError, match=f"(?s){message}".replace("8", "4")):
        models["vector"].fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(4), verbose=0)


def test_bad_validation_data(models):
    x, y, _ = VECTOR_DATA["NaN"]
    with pytest.raises(ValueError, match=r"x_val holds nan at index \[3, 1\]"):
        models["vector"].fit(X, Y, validation_data=(x, y), verbose=0)
    with pytest.raises(ValueError, match="y_val has labels from 1 to 2; wanted 0 .. 1"):
        models["vector"].fit(X, Y, validation_data=(X, Y + 1), verbose=0)


class NoBatches(keras.utils.PyDataset):
    def __len__(self):
        return 0

    def __getitem__(self, index):
        raise IndexError


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.data.Dataset.from_tensor_slices((X, Y)).take(0).batch(2),
        NoBatches,
        lambda: (batch for batch in ()),
    ],
)
def test_empty_data_sets(models, make):
    with pytest.raises(ValueError, match="x is an empty data set; wanted at least one batch"):
        models["vector"].fit(make(), verbose=0)


def test_integer_images_in_floats_are_taken(models):
    np.testing.assert_array_equal(
        models["image"].log_prob(IMAGES.astype("float32")), models["image"].log_prob(IMAGES.astype("uint8"))
    )


def test_generator_loses_no_batch():
    batches = iter([(X[:4], Y[:4]), (X[4:], Y[4:])])
    (x, y, _), data = data_sets.first_batch(batch for batch in batches)
    np.testing.assert_array_equal(x, X[:4])
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in data]), X)


def test_quantization_levels(models):
    assert checks.quantization_levels(models["image"].distribution) == 4
    assert checks.quantization_levels(models["vector"].distribution) is None


def flow():
    return hy.flow_distribution(hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(4,)))


BAD_ARGUMENTS = {
    "negative lambda": (
        lambda: hy.HybridModel(flow(), hy.heads.Normal(), generative_weight=-1.0),
        "`generative_weight` is -1.0; wanted lambda >= 0",
    ),
    "NaN lambda": (
        lambda: hy.HybridModel(flow(), hy.heads.Normal(), generative_weight=float("nan")),
        "`generative_weight` is nan; wanted lambda >= 0",
    ),
    "infinite lambda": (
        lambda: hy.HybridModel(flow(), hy.heads.Normal(), generative_weight=float("inf")),
        "`generative_weight` is inf; wanted lambda >= 0, finite",
    ),
    "lambda in words": (
        lambda: hy.HybridModel(flow(), hy.heads.Normal(), generative_weight="small"),
        "`generative_weight` is 'small'; wanted lambda",
    ),
    "weighting": (
        lambda: hy.HybridModel(flow(), hy.heads.Normal(), weighting="label"),
        "`weighting` is 'label'; wanted one of .*density.*jacobian",
    ),
    "head": (lambda: hy.HybridModel(flow(), keras.layers.Dense(1)), "`head` is <Dense.*; wanted a layer of"),
    "bijector for distribution": (
        lambda: hy.HybridModel(flow().bijector, hy.heads.Normal()),
        "`distribution` is .*; wanted a `tfd.TransformedDistribution`, such as `flow_distribution",
    ),
    "batch": (
        lambda: hy.HybridModel(
            hy.flows.tfd.TransformedDistribution(
                hy.flows.tfd.MultivariateNormalDiag(tf.zeros((3, 2))), flow().bijector
            ),
            hy.heads.Normal(),
        ),
        r"batch shape \(3,\); wanted none.*Independent",
    ),
    "scalar event": (
        lambda: hy.HybridModel(
            hy.flows.tfd.TransformedDistribution(hy.flows.tfd.Normal(0.0, 1.0), hy.flows.tfb.Exp()), hy.heads.Normal()
        ),
        r"event shape \(\); wanted a known shape of rank >= 1",
    ),
    "odd sides": (
        lambda: hy.bijectors.Glow((6, 6, 1), levels=2),
        r"Glow: `event_shape` is \(6, 6, 1\) and `levels` is 2;.*divisible by 2\*\*levels = 4. Pad",
    ),
    "odd sides of RealNVP": (
        lambda: hy.bijectors.RealNVP((4, 5, 1), levels=1),
        r"RealNVP: `event_shape` is \(4, 5, 1\) and `levels` is 1;.*divisible by 2\*\*levels = 2. Pad",
    ),
    "no image": (
        lambda: hy.bijectors.Glow((4,)),
        r"Glow: `event_shape` is \(4,\); wanted \(H, W, C\), the shape of an image",
    ),
    "squeeze": (
        lambda: hy.bijectors.Squeeze((3, 4, 1)),
        r"Squeeze: `event_shape` is \(3, 4, 1\); wanted \(H, W, C\) with even H and W",
    ),
    "one feature": (lambda: hy.bijectors.RealNVP((1,)), r"`event_shape` is \(1,\).*at least 2.*ActNorm"),
    "one channel": (
        lambda: hy.bijectors.FactorOut(hy.bijectors.ActNorm((2, 2, 1)), (2, 2, 1)),
        r"FactorOut: `event_shape` is \(2, 2, 1\); wanted at least 2 channels",
    ),
    "empty chain": (
        lambda: hy.bijectors.FusedChain([], (2,)),
        "`bijectors` is empty; wanted at least one `tfb.Bijector`",
    ),
    "layer in a chain": (
        lambda: hy.bijectors.FusedChain([keras.layers.Dense(2)], (2,)),
        "`bijectors` holds <Dense.*; wanted `tfb.Bijector`s",
    ),
    "chain of other shapes": (
        lambda: hy.bijectors.FusedChain([hy.bijectors.ActNorm((3,))], (2,)),
        r"x has shape \(2,\); wanted a shape that ends in \(3,\)",
    ),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments(name):
    make, message = BAD_ARGUMENTS[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()


def test_loss_given_in_compile():
    model = tiny_model(compile=False)
    with pytest.raises(ValueError, match="has its own loss.*; compile it without `loss`"):
        model.compile("adam", loss="mse")
        model.fit(X, Y, verbose=0)


def test_fit_before_compile():
    with pytest.raises(ValueError, match="compile"):
        tiny_model(compile=False).fit(X, Y, verbose=0)


@pytest.mark.integration
@pytest.mark.parametrize("backend", ["numpy", "jax", "torch"])
def test_other_backend_is_named(backend):
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", "import tfp_hybrid"], env=environment, capture_output=True, timeout=200
    )
    assert done.returncode
    assert f"tfp_hybrid needs Keras with the tensorflow backend, but the backend is {backend!r}" in done.stderr.decode()
    assert "KERAS_BACKEND=tensorflow" in done.stderr.decode()


def test_columns_of_codes_get_a_warning():
    """log p(x) of one-hot columns and codes has no upper bound."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3))
    x[:, 1] = rng.integers(0, 4, 600)
    model = hy.DensityModel(hy.flow_distribution(hy.bijectors.RealNVP(3, couplings=2, hidden_units=8)))
    model.compile(keras.optimizers.Adam(1e-3))
    with pytest.warns(UserWarning, match="Of x, the columns 1 have at most 10 different values in 500 rows"):
        model.fit(x, epochs=1, verbose=0)
    plain = tiny_model(hy.heads.Normal(), event_shape=(3,), generative_weight=0.0)  # nothing raises its log p(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        plain.fit(x, x[:, 0], epochs=1, verbose=0)
    columns = hy.tables.Columns.from_frame(pd.DataFrame(x, columns=list("abc")))
    inner = hy.bijectors.RealNVP(3, couplings=2, hidden_units=8)
    model = hy.DensityModel(hy.flow_distribution(hy.bijectors.FusedChain([columns, inner], (3,))))
    model.compile(keras.optimizers.Adam(1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(x, epochs=1, verbose=0)
