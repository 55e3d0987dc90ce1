"""The bridge between Keras 3 and TFP, in both directions."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, normal, randomize
from stock_flows import STOCK_FLOWS

import tfp_hybrid as hy
from tfp_hybrid.bijectors import AffineCoupling, FusedChain, Glow, InvertibleLinear, RealNVP
from tfp_hybrid.interop import ModuleLayer, adopt, find_weights

tfb, tfd = tfp.bijectors, tfp.distributions


def test_adopted_variable_shares_its_storage():
    variable = tf.Variable([1.0, 2.0], name="scale")
    adopted = adopt(variable)
    adopted.assign([3.0, 4.0])
    np.testing.assert_array_equal(variable, [3, 4])
    variable.assign([5.0, 6.0])
    np.testing.assert_array_equal(adopted, [5, 6])
    assert adopted.name == "scale" and adopted.trainable
    assert not adopt(tf.Variable(1, trainable=False)).trainable


def test_find_weights_looks_everywhere_once():
    variables = [tf.Variable(float(i)) for i in range(6)]
    layer, kept = keras.layers.Dense(1), keras.Variable(1.0)

    def closure(x):
        return x * variables[3] + layer(x)

    class Holder(tf.Module):
        def method(self, x):
            return x

    holder = Holder()
    holder.attribute = {"key": [variables[0], (variables[1],)]}
    value = [functools.partial(min, variables[2], key=variables[4]), closure, holder.method, kept]
    found = [id(item) for item in find_weights([value, value, variables[5:6]])]
    assert set(found) == {id(item) for item in [*variables[:6], layer, kept]} and len(found) == 8


def test_a_keras_variable_found_with_its_storage_is_one_weight():
    kept, other = keras.Variable([1.0, 2.0]), tf.Variable(3.0)
    module = tf.Module()
    module.found = [kept.value, kept, other]
    layer = ModuleLayer(module)
    assert {id(weight.value) for weight in layer.weights} == {id(kept.value), id(other)} and len(layer.weights) == 2


def test_keras_variables_keep_their_regularizers():
    module = tf.Module()
    module.found = keras.Variable([1.0, 2.0])
    module.found.regularizer = keras.regularizers.L2(0.5)
    layer = ModuleLayer(module)
    assert layer.weights == [module.found]
    np.testing.assert_allclose(sum(layer.losses), 0.5 * 5)


FLOWS = {
    "coupling": lambda: AffineCoupling((4,)),
    "real_nvp": lambda: RealNVP((4,), couplings=2, hidden_units=(8,)),
    "glow": lambda: Glow((2, 2, 1), levels=1, steps=1, hidden_units=4, quantization_levels=None),
}
STOCK_HOMES = {
    "bare": lambda flow, latent: flow,
    "chain": lambda flow, latent: tfb.Chain([flow, tfb.Shift(tf.ones(latent))]),
    "invert": lambda flow, latent: tfb.Invert(tfb.Invert(flow)),
    "fused_chain": lambda flow, latent: FusedChain([flow], flow.event_shape),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize(
    "home",
    [pytest.param(home, marks=() if home in ("bare", "invert") else pytest.mark.nightly) for home in STOCK_HOMES],
)
def test_plain_gradient_tape_trains_our_flows_inside_tfp(name, home):
    flow = FLOWS[name]()
    p_x = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(tf.zeros(4)) if flow.latent_shape.rank == 1 else None,
        STOCK_HOMES[home](flow, flow.latent_shape),
    )
    keras_weights = [
        weight.value
        for network in find_weights(flow)
        if isinstance(network, keras.layers.Layer)
        for weight in network.trainable_weights
    ]
    variables = p_x.trainable_variables
    assert {id(v) for v in keras_weights} <= {id(v) for v in variables}
    assert len({id(v) for v in variables}) == len(variables)
    x = 2 * normal(64, *flow.event_shape) + 3
    before, start = [v.numpy() for v in variables], p_x.log_prob(x).numpy().mean()
    optimizer = keras.optimizers.Adam(0.05)
    for _ in range(20):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(p_x.log_prob(x))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    assert -loss.numpy() > start + 0.5
    changed = [np.any(old != new.numpy()) for old, new in zip(before, variables, strict=True)]
    assert all(changed)


def test_blockwise_and_invert_equal_their_parts():
    one, two = AffineCoupling((3,)), InvertibleLinear((2,))
    randomize([*one.trainable_variables, *two.trainable_variables])
    z = normal(6, 5)
    both = tfb.Blockwise([one, two], block_sizes=[3, 2])
    x = both.forward(z)
    np.testing.assert_allclose(x, tf.concat([one.forward(z[:, :3]), two.forward(z[:, 3:])], 1), rtol=1e-6)
    wanted = one.forward_and_log_det(z[:, :3])[1] + two.forward_and_log_det(z[:, 3:])[1]
    np.testing.assert_allclose(both.forward_log_det_jacobian(z), wanted, rtol=1e-5, atol=1e-6)
    assert len(both.trainable_variables) == len(one.trainable_variables) + len(two.trainable_variables)
    inverted = tfb.Invert(one)
    np.testing.assert_array_equal(inverted.forward(tf.identity(z[:, :3])), one.inverse(tf.identity(z[:, :3])))


def test_inside_a_joint_distribution():
    flow = RealNVP((2,), couplings=2, hidden_units=(8,))
    joint = tfd.JointDistributionNamed(
        {
            "x": hy.flow_distribution(flow),
            "y": lambda x: tfd.Normal(tf.reduce_sum(flow.inverse(x), -1), 1.0),
        }
    )
    randomize(joint.trainable_variables)
    assert len(joint.trainable_variables) == 2 * 6
    draws = joint.sample(5, seed=1)
    x = tf.identity(draws["x"])
    wanted = hy.flow_distribution(flow).log_prob(x) + tfd.Normal(tf.reduce_sum(flow.inverse(x), -1), 1.0).log_prob(
        draws["y"]
    )
    np.testing.assert_allclose(joint.log_prob(draws), wanted, rtol=1e-4)


def stock_model(name):
    model = hy.HybridModel(STOCK_FLOWS[name](), hy.heads.Categorical(2))
    randomize(model.head.trainable_weights)
    model.compile(keras.optimizers.Adam(0.01))
    return model


SLOW = {"spline": pytest.mark.nightly, "maf": pytest.mark.nightly}


@pytest.mark.integration
@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in STOCK_FLOWS])
def test_stock_flow_trains_counts_freezes_saves(name, tmp_path):
    x, y = blobs(64)
    model = stock_model(name)
    density = model.density.trainable_weights
    assert len(density) > 0 and model.count_params() == sum(int(np.prod(w.shape)) for w in model.weights)
    assert {id(w.value) for w in density} >= {id(v) for v in model.distribution.trainable_variables}

    before, start = [w.numpy() for w in density], model.evaluate(x, y, return_dict=True, verbose=0)
    model.fit(x, y, batch_size=16, epochs=3, verbose=0)
    for old, weight in zip(before, density, strict=True):
        assert np.any(old != weight.numpy()), weight.path
    assert model.evaluate(x, y, return_dict=True, verbose=0)["log_prob_x"] > start["log_prob_x"]

    if name == "real_nvp_closure":
        with pytest.raises(TypeError, match=r"(?s)Cannot save the model: .*shift_and_log_scale_fn.*Keras layer"):
            model.save(tmp_path / "model.keras")
        assert not list(tmp_path.iterdir())
    else:
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)
        np.testing.assert_allclose(loaded.log_prob(x), model.log_prob(x), rtol=1e-6)
        assert len(loaded.density.trainable_weights) == len(density)
        assert int(loaded.optimizer.iterations) == 12

    model.density.trainable = False
    model.compile(keras.optimizers.Adam(0.01))
    before, head = [w.numpy() for w in density], model.head.kernel.numpy()
    model.fit(x, y, verbose=0)
    for old, weight in zip(before, density, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())
    assert np.any(head != model.head.kernel.numpy())


@pytest.mark.integration
@pytest.mark.parametrize("name", ["maf", "real_nvp_adapter"])
def test_a_trained_stock_flow_integrates_to_one(name):
    """A constraint keeps the masks of an autoregressive network; without them, its log-det would be wrong."""
    model = stock_model(name)
    model.fit(*blobs(64), batch_size=16, epochs=5, verbose=0)
    side = np.arange(-12, 12, 0.05, dtype="float32")
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    assert np.exp(model.log_prob(grid).astype(float)).sum() * 0.05**2 == pytest.approx(1, abs=0.01)


def test_constraints_are_adopted():
    variable = tf.Variable([-1.0, 2.0], constraint=tf.nn.relu)
    weight = adopt(variable)
    optimizer = keras.optimizers.SGD(0.0)
    optimizer.apply([tf.ones(2)], [weight])
    np.testing.assert_array_equal(variable, [0.0, 2.0])


@pytest.mark.integration
def test_frozen_flow_of_ours_keeps_its_weights():
    model = hy.HybridModel(hy.flow_distribution(RealNVP((2,), couplings=2, hidden_units=(8,))), hy.heads.Categorical(2))
    randomize(model.trainable_weights)
    model.density.trainable = False
    model.compile(keras.optimizers.Adam(0.01))
    before, head = [w.numpy() for w in model.density.weights], model.head.kernel.numpy()
    model.fit(*blobs(), verbose=0)
    for old, weight in zip(before, model.density.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())
    assert np.any(head != model.head.kernel.numpy()) and len(model.trainable_weights) == 2
