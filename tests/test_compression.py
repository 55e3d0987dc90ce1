"""Compression: what comes back, how many bytes it takes, and what is refused."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import randomize, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import compression

SHAPE = (4, 4, 1)
START, ABOUT = 9, 17 + 4 * len(SHAPE)  # magic, format and checksum; what else stands before the code


def model_of(seed=0, levels=17, shape=SHAPE, head=True, scale=0.1):
    keras.utils.set_random_seed(seed)
    options = {} if len(shape) == 1 else {"levels": 1}
    flow = hy.bijectors.IntegerFlow(shape, steps=2, hidden_units=8, quantization_levels=levels, **options)
    p_x = hy.flow_distribution(flow, hy.latents.LatticeMixture(flow.level_sizes(), levels, hidden_units=(8,)))
    model = hy.HybridModel(p_x, hy.heads.Categorical(2)) if head else hy.DensityModel(p_x)
    randomize(model.trainable_weights, seed, scale)
    return model


def integers(n, model, seed=0):
    return np.random.default_rng(seed).integers(model.quantization_levels, size=(n, *model.distribution.event_shape))


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def data(model):
    return compression.encode(model, integers(70, model))


@pytest.mark.parametrize("n", [1, 64, 65, 200])
def test_round_trip_and_size(model, n):
    x = integers(n, model)
    data = compression.encode(model, x)
    found = compression.decode(model, data)
    assert found.dtype == "uint8"
    np.testing.assert_array_equal(found, x)
    bits = -model.log_prob(x).astype("float64").sum() / np.log(2)
    code = 8 * (len(data) - START - ABOUT)
    assert -0.001 * bits <= code - bits <= 0.001 * bits + 64


@pytest.mark.parametrize("shape, levels", [((5,), 2), ((4,), 256), ((4, 2, 3), 256), ((4,), 1000)])
def test_vectors_colours_and_many_levels(shape, levels):
    model = model_of(levels=levels, shape=shape, head=False)
    x = integers(20, model)
    found = compression.decode(model, compression.encode(model, x.astype("float32")))
    assert found.dtype == ("uint8" if levels <= 256 else "int32")
    np.testing.assert_array_equal(found, x)


def test_values_that_the_model_finds_impossible_come_back():
    """Each entry's P is all at one number, far from the data, so that all are escaped."""
    model = model_of(head=False)
    p_z = model.distribution.distribution
    far = p_z.base.numpy()
    far[:, 4:8], far[:, 8:] = 1e4, -20
    p_z.base.assign(far)
    x = integers(66, model)
    data = compression.encode(model, x)
    np.testing.assert_array_equal(compression.decode(model, data), x)
    assert len(data) > 66 * 16 * (32 + 0) / 8


def test_order_and_company_of_rows_do_not_matter(model):
    x = integers(150, model)
    order = np.random.default_rng(1).permutation(150)
    np.testing.assert_array_equal(compression.decode(model, compression.encode(model, x[order])), x[order])
    whole = compression.encode(model, x)
    np.testing.assert_array_equal(compression.decode(model, compression.encode(model, x[100:])), x[100:])
    assert compression.encode(model, x) == whole


@pytest.mark.integration
def test_another_process_reads_and_writes_the_same_bytes(model, data, tmp_path):
    model.save(tmp_path / "model.keras")
    (tmp_path / "data").write_bytes(data)
    code = """
import keras, numpy as np, pathlib, tfp_hybrid as hy
model = keras.models.load_model("model.keras")
data = pathlib.Path("data").read_bytes()
x = hy.compression.decode(model, data)
np.save("x.npy", x)
print("the same" if hy.compression.encode(model, x) == data else "other bytes")
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[-2] == "the same"
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), integers(70, model))


@pytest.mark.parametrize("place", [0, 3, 4, 5, 8, 9, 13, 17, 21, 25, 26, 37, 38, 60, -1])
def test_damage_anywhere_is_found(model, data, place):
    damaged = bytearray(data)
    damaged[place] ^= 4
    with pytest.raises(
        ValueError, match="^data (begins with|has the format|, .* bytes, is damaged)|^data, .* is damaged"
    ):
        compression.decode(model, bytes(damaged))


@pytest.mark.parametrize("length", [0, 3, 4, 8, 20, 37, 60, -1])
def test_data_that_is_cut_off_is_refused(model, data, length):
    with pytest.raises(ValueError, match="^data"):
        compression.decode(model, data[:length])
    with pytest.raises(ValueError, match="is damaged or cut off"):
        compression.decode(model, data + b"\0")


@pytest.mark.parametrize("given", ["text", None, b"\x89PNG\r\n", [1, 2]])
def test_what_is_not_from_encode_is_refused(model, given):
    with pytest.raises(ValueError, match=re.escape("wanted bytes from `compression.encode`")):
        compression.decode(model, given)


def test_another_model_is_refused(model, data):
    with pytest.raises(ValueError, match="encoded with another model"):
        compression.decode(model_of(seed=1), data)
    with pytest.raises(ValueError, match=r"rows of shape \(4, 4, 1\); the model's have shape \(2, 2, 1\)"):
        compression.decode(model_of(shape=(2, 2, 1)), data)


def test_a_head_that_is_trained_on_does_not_matter(data):
    model = model_of()
    model.head.bias.assign([3.0, -3.0])
    np.testing.assert_array_equal(compression.decode(model, data), integers(70, model))


def test_networks_that_round_otherwise_give_an_error(model, data, monkeypatch):
    p_z = model.distribution.distribution
    mixtures = p_z.mixtures
    monkeypatch.setattr(p_z, "mixtures", lambda z, level: (*mixtures(z, level)[:2], 1.01 * mixtures(z, level)[2]))
    with pytest.raises(ValueError, match="decoded to other values than were encoded"):
        compression.decode(model, data)


@pytest.mark.parametrize(
    "x, message",
    [
        (np.zeros((0, *SHAPE)), "x is empty; wanted at least one row"),
        (np.zeros((3, 4, 4)), r"x has shape \(3, 4, 4\); wanted \('n', 4, 4, 1\)"),
        (np.full((1, *SHAPE), 0.5), "x holds fractions such as 0.5; wanted integers 0 .. 16"),
        (np.full((1, *SHAPE), 17), "x has values from 17 to 17; wanted integers 0 .. 16"),
        (np.full((1, *SHAPE), -1), "x has values from -1 to -1; wanted integers 0 .. 16"),
        (np.full((1, *SHAPE), np.nan), "x holds nan at index"),
        (np.full((1, *SHAPE), "a"), "x has dtype .*; wanted real numbers"),
        ([[1]], "x is a list; wanted an array"),
    ],
)
def test_inputs_that_are_not_data_are_refused(model, x, message):
    with pytest.raises(ValueError, match=message):
        compression.encode(model, x)


def test_models_without_probabilities_of_integers_are_refused():
    for given in (tiny_model(compile=False), hy.DensityModel(hy.flow_distribution(hy.bijectors.Glow(SHAPE, steps=1)))):
        with pytest.raises(ValueError, match="of which p.x. is a density; wanted the probability of integers"):
            compression.encode(given, np.zeros((1, *SHAPE)))
    with pytest.raises(ValueError, match="model is 3; wanted a `DensityModel`"):
        compression.decode(3, b"")


def test_a_model_with_a_condition_is_refused():
    flow = hy.bijectors.IntegerFlow(4, steps=1, hidden_units=4, quantization_levels=17, condition_shape=1)
    model = hy.DensityModel(hy.flow_distribution(flow))
    with pytest.raises(ValueError, match="of p.x . c.; wanted one of p.x., whose flow takes no condition"):
        compression.encode(model, np.zeros((2, 4), "uint8"))
    with pytest.raises(ValueError, match="whose flow takes no condition"):
        compression.decode(model, b"tfph")


def test_a_flow_that_does_not_come_back_exactly_is_refused():
    inner = hy.bijectors.AffineCoupling((3,), additive=True)
    randomize(inner.trainable_variables, scale=10)
    flow = hy.bijectors.FusedChain([hy.bijectors.Lattice((3,), 256), inner], (3,))
    model = hy.DensityModel(hy.flow_distribution(flow))
    model.flow.bijectors[1].conditioner.layers[-1].bias.assign([1e6, 1e9])
    with pytest.raises(ValueError, match="does not map x to z and back exactly"):
        compression.encode(model, np.full((1, 3), 200))


def test_weights_that_are_not_finite_are_refused():
    model = model_of(head=False)
    p_z = model.distribution.distribution
    p_z.base.assign(np.full(p_z.base.shape, np.nan))
    with pytest.raises(ValueError, match="weights by which P.z. is not finite"):
        compression.encode(model, integers(1, model))


def test_a_missing_package_is_named(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'tfp-hybrid[compression]'")):
        compression.encode(model, integers(1, model))
