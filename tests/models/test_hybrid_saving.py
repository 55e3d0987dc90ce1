"""A saved model, in another process."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, integer_model, parts, randomize, tiny_model, weights_of
from stock_flows import STOCK_FLOWS

import tfp_hybrid as hy

tfb, tfd = tfp.bijectors, tfp.distributions


def images():
    rng = np.random.default_rng(0)
    return rng.integers(4, size=(32, 4, 4, 1)), rng.integers(3, size=32)


def stock_model():
    model = hy.HybridModel(STOCK_FLOWS["real_nvp"](), hy.heads.Categorical(2))
    randomize(model.trainable_weights)
    model.compile(keras.optimizers.Adam(1e-2))
    return model


def rich_model():
    """Every argument away from its default."""
    regularized = lambda shape, units: hy.networks.MLP(shape, units, (4,), kernel_regularizer="l2")  # noqa: E731
    flow = hy.bijectors.FusedChain(
        [hy.bijectors.ActNorm((2,)), hy.bijectors.AffineCoupling((2,), swap=True, conditioner=regularized)], (2,)
    )
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)
    head = hy.heads.Categorical(2, kernel_regularizer="l2", name="digits")
    model = hy.HybridModel(hy.flow_distribution(flow), head, schedule, "jacobian", name="rich")
    randomize(model.trainable_weights)
    model.compile(keras.optimizers.Adam(1e-2), metrics=["accuracy"])
    return model


MODELS = {
    "vector": (tiny_model, blobs),
    "image": (integer_model, images),
    "stock": (stock_model, blobs),
    "rich": (rich_model, blobs),
}

SCRIPT = """
import sys
import keras, numpy as np
import stock_flows, tfp_hybrid

for folder in sys.argv[1:]:
    data = np.load(folder + "/data.npz")
    model = keras.models.load_model(folder + "/model.keras")
    out = {"p": model.predict(data["x"], verbose=0), "log_prob": model.log_prob(data["x"])}
    out["iterations"] = int(model.optimizer.iterations)
    model.fit(data["x"], data["y"], batch_size=16, shuffle=False, verbose=0)
    np.savez(folder + "/out.npz", *[weight.numpy() for weight in model.weights], **out)
"""


@pytest.mark.nightly
def test_new_process_predicts_and_trains_on_as_this_one(tmp_path):
    models = {name: (make(), *data()) for name, (make, data) in MODELS.items() if name != "vector"}  # as "rich"
    for name, (model, x, y) in models.items():
        (tmp_path / name).mkdir()
        model.fit(x, y, batch_size=16, verbose=0)
        model.save(tmp_path / name / "model.keras")
        np.savez(tmp_path / name / "data.npz", x=x, y=y)
    folders = [tmp_path / name for name in models]
    tests = pathlib.Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", SCRIPT, *folders], check=True, cwd=tests, timeout=200)
    for name, (model, x, y) in models.items():
        out = dict(np.load(tmp_path / name / "out.npz"))
        np.testing.assert_allclose(out.pop("p"), model.predict(x, verbose=0), rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(out.pop("log_prob"), model.log_prob(x), rtol=1e-6, err_msg=name)
        assert out.pop("iterations") == len(x) // 16
        model.fit(x, y, batch_size=16, shuffle=False, verbose=0)  # Adam's moments and the noise's state went along
        for here, there in zip(weights_of(model), out.values(), strict=True):
            np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["image", "rich"])
def test_loaded_model_is_the_same(name, tmp_path):
    make, data = MODELS[name]
    model, (x, y) = make(), data()
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    for one, other in zip(weights_of(model), weights_of(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
    config = loaded.get_config()
    assert loaded.name == model.name and loaded.weighting == model.weighting and loaded.head.name == model.head.name
    assert config["generative_weight"] == model.get_config()["generative_weight"]
    np.testing.assert_allclose(loaded.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-6)
    couplings = [part for part in parts(loaded.flow) if isinstance(part, hy.bijectors.AffineCoupling)]
    assert couplings and all(isinstance(coupling.conditioner, keras.layers.Layer) for coupling in couplings)


def test_lambda_function_as_schedule_is_refused(tmp_path):
    """Code is never stored: a saved model loads in Keras' safe mode."""
    model = tiny_model(generative_weight=lambda step: 0.5)
    with pytest.raises(TypeError, match=r"generative_weight is <function .*register_keras_serializable"):
        model.save(tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.integration
def test_loaded_weights_are_not_adapted_again(tmp_path):
    x, y = blobs()
    model = tiny_model()
    model.fit(x, y, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = tiny_model(seed=5, compile=False)
    fresh.load_weights(tmp_path / "model.weights.h5")
    fresh.compile(keras.optimizers.SGD(0.0))
    fresh.fit(5 * x, y, verbose=0)
    for one, other in zip(weights_of(model), weights_of(fresh), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.integration
def test_fresh_model_adapts_but_not_after_load_weights(tmp_path):
    def unadapted():
        flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
        model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Normal())
        model.compile(keras.optimizers.SGD(0.0))
        return model

    x, y = blobs()
    y = 3.0 * y
    model = unadapted()
    model.adapt(x, y)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = unadapted()
    fresh.fit(5 * x, 5 * y, verbose=0)
    assert any(np.any(one != other) for one, other in zip(weights_of(model), weights_of(fresh), strict=True))
    loaded = unadapted()
    loaded.load_weights(tmp_path / "model.weights.h5")
    loaded.fit(5 * x, 5 * y, verbose=0)
    for one, other in zip(weights_of(model), weights_of(loaded), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["vector", "image"])
def test_exported_model_serves_the_predictions(name, tmp_path):
    make, data = MODELS[name]
    model, (x, _) = make(), data()
    x = x.astype("float32")
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(tf.constant(x)), model.predict(x, verbose=0), rtol=1e-5)


def test_what_cannot_be_saved_leaves_the_older_file(tmp_path):
    path = tmp_path / "model.keras"
    tiny_model().save(path)
    before = path.read_bytes()
    model = hy.HybridModel(STOCK_FLOWS["real_nvp_closure"](), hy.heads.Categorical(2))
    with pytest.raises(TypeError, match="Cannot save the model"):
        model.save(path)
    assert path.read_bytes() == before


def frozen_density():
    """Variables of equal shape, some of which were frozen before another model was built on them."""
    first, second = tf.Variable([1.0, 2.0], name="shift"), tf.Variable([3.0, 4.0], name="scale")
    flow = tfb.Chain([tfb.Shift(first), tfb.Scale(second), hy.bijectors.InvertibleLinear((2,))])
    density = hy.DensityModel(hy.flow_distribution(flow, tfd.MultivariateNormalDiag(tf.zeros(2))))
    density.density.adopted[0].trainable = False
    return density


@pytest.mark.parametrize("freeze", [lambda density: None, lambda density: setattr(density, "trainable", False)])
def test_a_head_on_a_frozen_density_is_saved(freeze, tmp_path):
    """The order of the saved weights does not depend on what was trained when the model was built."""
    density = frozen_density()
    freeze(density)
    model = hy.HybridModel(density.distribution, hy.heads.Categorical(2))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x, _ = blobs()
    np.testing.assert_allclose(loaded.log_prob(x), model.log_prob(x), rtol=1e-6)
    flags = [[variable.trainable for variable in one.density.ordered_variables()] for one in (model, loaded)]
    assert flags[0] == flags[1] and False in flags[0]
    rejector = hy.uncertainty.Rejector(model, hy.uncertainty.NegativeLogProb()).fit_threshold(x, quantile=0.9)
    rejector.save(tmp_path / "rejector.keras")
    keras.models.load_model(tmp_path / "rejector.keras").check_fitted()


def test_a_head_in_two_models_is_saved_with_the_last(tmp_path):
    count = tf.Variable(1.5, name="count")
    head = hy.heads.ExponentialFamily(tfp.glm.NegativeBinomial(total_count=count))
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(4,))
    shared = hy.flow_distribution(flow, tfd.Independent(tfd.Normal([0.0, 0.0], count), 1))
    hy.HybridModel(shared, head)
    model = hy.HybridModel(hy.flow_distribution(flow), head)
    model.save_weights(tmp_path / "model.weights.h5")
    count.assign(2.5)
    model.load_weights(tmp_path / "model.weights.h5")
    assert float(count.numpy()) == 1.5
