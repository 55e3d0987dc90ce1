"""`Steps`, against a chain of separate bijectors that hold the same weights."""

import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, counted, normal, randomize, weights_of

import tfp_hybrid as hy
from tfp_hybrid import networks
from tfp_hybrid.bijectors import (
    ActNorm,
    AffineCoupling,
    FusedChain,
    Glow,
    InvertibleLinear,
    RealNVP,
    SplineCoupling,
    Steps,
)

tfb = tfp.bijectors


def glow_step(shape, dtype, conditioner=None, **options):
    if conditioner is None:
        network, width = (networks.MLP, (8,)) if len(shape) == 1 else (networks.ConvNet, 6)
        conditioner = functools.partial(network, hidden_units=width, dtype=networks.policy_for(dtype))
    coupling = AffineCoupling(shape, conditioner=conditioner, dtype=dtype, **options)
    return FusedChain([ActNorm(shape, dtype), InvertibleLinear(shape, dtype), coupling], shape)


def checkerboards(shape, dtype):
    conditioner = functools.partial(networks.ResNet, hidden_units=4, blocks=1, dtype=dtype)
    couplings = [AffineCoupling(shape, "checkerboard", swap, False, conditioner, dtype=dtype) for swap in (False, True)]
    return FusedChain([ActNorm(shape, dtype), couplings[0], ActNorm(shape, dtype), couplings[1]], shape)


def splines(shape, dtype, mask="channel"):
    network, width = (networks.MLP, (8,)) if len(shape) == 1 else (networks.ConvNet, 4)
    options = dict(conditioner=functools.partial(network, hidden_units=width, dtype=networks.policy_for(dtype)))
    couplings = [SplineCoupling(shape, mask, swap, bins=4, dtype=dtype, **options) for swap in (False, True)]
    return FusedChain([ActNorm(shape, dtype), *couplings], shape)


def with_stock_parts(dtype):
    curve = tfb.SinhArcsinh(skewness=tf.constant(0.3, dtype), tailweight=tf.constant(0.8, dtype))
    scale = tfb.Chain([tfb.Scale(tf.constant(2.0, dtype)), tfb.Shift(tf.ones(4, dtype))])
    return FusedChain([tfb.Permute([2, 0, 3, 1]), glow_step((4,), dtype), curve, tfb.Invert(scale)], (4,))


def image_with_parts_of_vectors(dtype):
    """Bijectors of a lower rank than the event, whose log-dets are summed over its pixels."""
    parts = [ActNorm((3,), dtype), tfb.Permute([1, 2, 0]), AffineCoupling((3,), dtype=dtype)]
    return FusedChain(parts, (2, 2, 3))


class Same(keras.layers.Layer):
    """Gives the same parameters for every input."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.bias = self.add_weight((self.units,), name="bias")

    def call(self, x):
        return tf.broadcast_to(self.bias, tf.concat([tf.shape(x)[:-1], [self.units]], 0))


def constant(shape, units):
    return keras.Sequential([keras.Input(shape, dtype="float64"), Same(units, dtype="float64")])


DROPOUT = functools.partial(networks.MLP, hidden_units=(16,), dropout=0.5, dtype="float64")
STEPS = {
    "vector": ((5,), lambda dtype: glow_step((5,), dtype)),
    "vector_swap": ((4,), lambda dtype: glow_step((4,), dtype, swap=True)),
    "vector_additive": ((3,), lambda dtype: glow_step((3,), dtype, additive=True)),
    "image": ((2, 4, 4), lambda dtype: glow_step((2, 4, 4), dtype)),
    "image_additive": ((2, 2, 3), lambda dtype: glow_step((2, 2, 3), dtype, additive=True)),
    "checkerboard": ((2, 4, 1), lambda dtype: checkerboards((2, 4, 1), dtype)),
    "spline": ((3,), lambda dtype: splines((3,), dtype)),
    "spline_checkerboard": ((2, 2, 1), lambda dtype: splines((2, 2, 1), dtype, "checkerboard")),
    "coupling_alone": ((3,), lambda dtype: AffineCoupling((3,), dtype=dtype)),
    "act_norm_alone": ((3,), lambda dtype: ActNorm((3,), dtype)),
    "stock_parts": ((4,), with_stock_parts),
    "parts_of_vectors": ((2, 2, 3), image_with_parts_of_vectors),
    "step_of_vectors": ((2, 2, 3), lambda dtype: ActNorm((3,), dtype)),
    "dropout": ((4,), lambda dtype: glow_step((4,), dtype, DROPOUT)),
    "constant_conditioner": ((4,), lambda dtype: glow_step((4,), dtype, constant)),
    "nested": ((3,), lambda dtype: Steps(lambda: glow_step((3,), dtype), 2, (3,))),
}
CORE = ("vector", "image", "checkerboard")
NIGHTLY = ("spline", "spline_checkerboard")  # slow to trace; test_coupling.py has their formulas
every_step = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=() if name in CORE else pytest.mark.nightly if name in NIGHTLY else pytest.mark.integration
        )
        for name in STEPS
    ],
)
both_ways = pytest.mark.parametrize("recompute", [False, True])


def twins(name, count, recompute=False, dtype="float64", scale=0.3):
    """`Steps` with random weights; and a chain of separate bijectors with the same ones."""
    shape, make = STEPS[name]
    steps = Steps(lambda: make(dtype), count, shape, recompute)
    randomize(steps.keras_weights(), scale=scale)
    separate = [make(dtype) for _ in range(count)]
    for i, one in enumerate(separate):
        for weight, stacked in zip(one.keras_weights(), steps.keras_weights(), strict=True):
            weight.assign(stacked.numpy()[i])
    return steps, FusedChain(separate, shape)


def stacked(chain, values):
    """`values(bijector)`, a list for each bijector in the chain, in one array for each place in the list."""
    return [np.stack(column) for column in zip(*map(values, chain.bijectors), strict=True)]


def value_and_gradients(bijector, at, method, weights, training=False):
    """Value, log-det, and the gradients of a sum over both with respect to the input and the weights."""
    variables = [weight.value for weight in weights if weight.trainable]
    with tf.GradientTape() as tape:
        tape.watch(at)
        value, log_det = getattr(bijector, method)(at, training=training)
        loss = tf.reduce_sum(value * normal(*value.shape, seed=5, dtype=value.dtype))
        loss += tf.reduce_sum(log_det * normal(*log_det.shape, seed=6, dtype=value.dtype))
    return value, log_det, tape.gradient(loss, [at, *variables])


def all_of(steps, at, method="inverse_and_log_det", training=False):
    value, log_det, (da, *dweights) = value_and_gradients(steps, at, method, steps.keras_weights(), training)
    return [value, log_det, da, *dweights]


def all_of_chain(chain, at, method="inverse_and_log_det", training=False):
    separate = [one.keras_weights() for one in chain.bijectors]
    trainable = sum(weight.trainable for weight in separate[0])
    value, log_det, (da, *flat) = value_and_gradients(chain, at, method, sum(separate, []), training)
    return [value, log_det, da, *(np.stack(flat[i::trainable]) for i in range(trainable))]


def assert_same(got, wanted, tolerance):
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def batch(name, rows=3, dtype="float64", seed=1):
    return normal(rows, *STEPS[name][0], dtype=dtype, seed=seed)


@every_step
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.nightly), 3])
def test_equals_a_chain_of_separate_steps(name, count):
    steps, chain = twins(name, count)
    for method in ("forward_and_log_det", "inverse_and_log_det"):
        assert_same(all_of(steps, batch(name), method), all_of_chain(chain, batch(name), method), 1e-10)


@every_step
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.nightly), 3])
def test_recomputed_gradients_are_those_of_the_chain(name, count):
    steps, chain = twins(name, count, recompute=True)
    got, wanted = all_of(steps, batch(name)), all_of_chain(chain, batch(name))
    assert_same(got[:2], wanted[:2], 1e-10)
    assert_same(got[2:], wanted[2:], 1e-8)


@pytest.mark.parametrize(
    ("name", "jit_compile"),
    [
        ("vector", False),
        ("image", False),
        pytest.param("vector", True, marks=pytest.mark.integration),
        pytest.param("image", True, marks=pytest.mark.nightly),
        pytest.param("spline", False, marks=pytest.mark.nightly),
        pytest.param("spline", True, marks=pytest.mark.nightly),
    ],
)
@both_ways
def test_graph_and_xla_agree_with_the_chain(name, recompute, jit_compile):
    steps, chain = twins(name, 3, recompute)
    compiled = tf.function(functools.partial(all_of, steps), autograph=False, jit_compile=jit_compile)
    assert_same(compiled(batch(name)), all_of_chain(chain, batch(name)), 1e-8)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["vector", "image"])
def test_sixteen_recomputed_steps_in_single_precision(name):
    """Recomputed activations are as exact as the inversion is; here, as in training, each step is well-conditioned."""
    plain, recomputed = (twins(name, 16, recompute, "float32", scale=0.1)[0] for recompute in (False, True))
    plain.adapt(batch(name, 256, "float32"))
    for weight, other in zip(recomputed.keras_weights(), plain.keras_weights(), strict=True):
        weight.assign(other)
    (z, log_det, *gradients), (z_again, log_det_again, *again) = (
        all_of(steps, batch(name, 32, "float32")) for steps in (plain, recomputed)
    )
    np.testing.assert_array_equal(z_again, z)
    np.testing.assert_array_equal(log_det_again, log_det)
    for one, other in zip(again, gradients, strict=True):
        assert np.linalg.norm(one - other) < 1e-4 * np.linalg.norm(other)


@pytest.mark.integration
@both_ways
def test_second_order_gradients(recompute):
    """As score matching takes them: of a gradient's squared norm. Recomputing ones are refused, not wrong."""
    steps, chain = twins("vector", 2, recompute)

    def gradient_of_squares(bijector):
        x = batch("vector")
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                z, log_det = bijector.inverse_and_log_det(x)
                log_prob = log_det - 0.5 * tf.reduce_sum(z**2, -1)
            squares = tf.reduce_sum(inner.gradient(log_prob, x) ** 2)
        return outer.gradient(squares, x)

    if recompute:
        with pytest.raises(LookupError, match="no second derivatives; build the flow with recompute=False"):
            gradient_of_squares(steps)
    else:
        np.testing.assert_allclose(gradient_of_squares(steps), gradient_of_squares(chain), rtol=1e-8)


@both_ways
def test_batches_of_any_rank(recompute):
    steps, _ = twins("vector", 2, recompute)
    x = normal(2, 3, 5, dtype="float64")
    z, log_det = steps.inverse_and_log_det(x)
    one_by_one = [steps.inverse_and_log_det(row) for row in x]
    assert_same([z, log_det], [np.stack(column) for column in zip(*one_by_one, strict=True)], 1e-12)


# Dropout: weights that a call changes.


def seeds(steps):
    return [weight.numpy() for weight in steps.keras_weights() if "seed" in weight.name]


@pytest.mark.integration
@both_ways
@pytest.mark.parametrize("method", ["forward_and_log_det", "inverse_and_log_det"])
def test_dropout_is_that_of_the_chain(recompute, method):
    """The masks of each step, those that the backward pass draws again, and the seeds after three calls."""
    steps, chain = twins("dropout", 3, recompute)
    for _ in range(3):
        got = all_of(steps, batch("dropout"), method, training=True)
        assert_same(got, all_of_chain(chain, batch("dropout"), method, training=True), 1e-8)
    for one, other in zip(steps.keras_weights(), stacked(chain, lambda one: one.keras_weights()), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.name)


@both_ways
def test_seeds_differ_between_steps_and_calls(recompute):
    steps, _ = twins("dropout", 3, recompute)
    (before,) = seeds(steps)
    assert len({tuple(seed) for seed in before}) == 3
    first, second = (steps.inverse_and_log_det(batch("dropout"), training=True)[0] for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    (after,) = seeds(steps)
    assert np.all(np.any(after != before, axis=1))
    steps.inverse_and_log_det(batch("dropout"))
    np.testing.assert_array_equal(seeds(steps)[0], after)
    (weight,) = (weight for weight in steps.keras_weights() if "seed" in weight.name)
    weight.assign(before)
    np.testing.assert_array_equal(steps.inverse_and_log_det(batch("dropout"), training=True)[0], first)


# Rows in parts, one for each core.


def summed(steps, at, method):
    """All that the whole batch says, of any size: value, log-det, and gradients of a sum over both."""
    variables = [weight.value for weight in steps.keras_weights() if weight.trainable]
    with tf.GradientTape() as tape:
        tape.watch(at)
        value, log_det = getattr(steps, method)(at)
        loss = tf.reduce_sum(tf.sin(value)) + tf.reduce_sum(log_det**2)
    return [value, log_det, *tape.gradient(loss, [at, *variables])]


@pytest.mark.integration
@pytest.mark.parametrize("rows", [1030, None])
@pytest.mark.parametrize("method", ["forward_and_log_det", "inverse_and_log_det"])
@pytest.mark.parametrize("name", ["vector", "stock_parts", pytest.param("nested", marks=pytest.mark.nightly)])
def test_parts_of_the_rows_give_what_the_whole_gives(name, method, rows, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)  # so there are at most four parts
    steps, _ = twins(name, 2)
    at = batch(name, rows=1030)
    shape = tf.TensorSpec([rows, *STEPS[name][0]], at.dtype)
    compiled = tf.function(functools.partial(summed, steps, method=method), input_signature=[shape])
    splits = [op for op in compiled.get_concrete_function().graph.get_operations() if op.type == "SplitV"]
    assert [len(op.outputs) for op in splits][:1] == [2 if rows else 4]
    assert_same(compiled(at), summed(steps, at, method), 1e-9)  # eager execution takes the rows together
    if rows is None:
        assert_same(compiled(at[:2]), summed(steps, at[:2], method), 1e-9)  # fewer than parts


def test_parts_of_the_rows_have_dropout_of_their_own():
    steps, _ = twins("dropout", 2)
    same_rows = tf.ones((1024, 4), tf.float64)
    infer = tf.function(lambda: steps.inverse_and_log_det(same_rows, training=True)[0])
    (before,) = seeds(steps)
    first, second = infer().numpy(), infer().numpy()
    assert np.abs(first[:512] - first[512:]).max() > 1e-3
    assert np.abs(first - second).max() > 1e-3
    assert np.all(np.any(seeds(steps)[0] != before, axis=1))


# What recompute is for.


@both_ways
def test_recompute_evaluates_each_conditioner_once_more(recompute):
    conditioner, executions = counted(hidden_units=(8,))
    steps = Steps(lambda: glow_step((4,), "float32", conditioner), 3, (4,), recompute)
    executions.clear()
    with tf.GradientTape() as tape:
        z, log_det = steps.inverse_and_log_det(normal(5, 4))
        loss = tf.reduce_sum(z**2) - tf.reduce_sum(log_det)
    assert executions == dict.fromkeys(range(3), 1)
    tape.gradient(loss, steps.trainable_variables)
    assert executions == dict.fromkeys(range(3), 2 if recompute else 1)


def shapes_between_calls(steps, x):
    """Shapes of all tensors of the graph that computes a loss and its gradients, outside of the steps' functions."""

    @tf.function(autograph=False)
    def gradients(x):
        return all_of(steps, x)

    operations = gradients.get_concrete_function(x).graph.get_operations()
    assert any(operation.type.endswith("PartitionedCall") for operation in operations)
    return {tuple(output.shape) for operation in operations for output in operation.outputs if output.shape.rank}


@both_ways
def test_recompute_keeps_no_activations_for_the_backward_pass(recompute):
    rows, width = 11, 37
    conditioner = functools.partial(networks.MLP, hidden_units=(width,))
    steps = Steps(lambda: glow_step((4,), "float32", conditioner), 3, (4,), recompute)
    shapes = shapes_between_calls(steps, normal(rows, 4))
    assert (width, 4) in shapes  # a kernel's gradient
    assert ((rows, width) in shapes) == (not recompute)


@both_ways
@pytest.mark.integration
def test_xla_compiles_once_for_all_batches(recompute):
    """What XLA takes for a constant is no argument of the compiled program: another x would be compiled anew."""
    steps = Steps(lambda: glow_step((4,), "float32"), 2, (4,), recompute)
    gradients = tf.function(lambda x: all_of(steps, x), autograph=False, jit_compile=True)
    text = gradients.experimental_get_compiler_ir(normal(11, 4))("stablehlo")
    signature = re.search(r"@main\((.*?)->", text, re.DOTALL)[1]
    assert "tensor<11x4xf32>" in signature


# As a part of a model.


def model_of(flow, **kwargs):
    return hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2), **kwargs)


def vector_flow(recompute=False, count=3):
    return Steps(lambda: glow_step((2,), "float32"), count, (2,), recompute)


FLOWS = {
    "steps": (vector_flow, (2,)),
    "real_nvp": (lambda recompute: RealNVP((2,), couplings=5, hidden_units=(8,), recompute=recompute), (2,)),
    "real_nvp_image": (
        lambda recompute: RealNVP(
            (4, 4, 2), couplings=5, levels=1, hidden_units=4, quantization_levels=4, recompute=recompute
        ),
        (4, 4, 2),
    ),
    "glow": (
        lambda recompute: Glow(
            (4, 4, 1), levels=2, steps=3, hidden_units=4, quantization_levels=4, recompute=recompute
        ),
        (4, 4, 1),
    ),
}


LARGE = {"glow": pytest.mark.nightly, "real_nvp_image": pytest.mark.nightly}


@pytest.mark.integration
@pytest.mark.parametrize("name", [pytest.param(name, marks=LARGE.get(name, ())) for name in FLOWS])
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_fit_with_recompute_is_fit_without(name, jit_compile):
    make, shape = FLOWS[name]
    x, y = np.random.default_rng(0).integers(4, size=(32, *shape)).astype("float32"), np.arange(32) % 2
    trained, losses = [], []
    for recompute in (False, True):
        keras.utils.set_random_seed(1)
        model = model_of(make(recompute=recompute))
        randomize(model.trainable_weights)
        model.compile(keras.optimizers.SGD(1e-3), jit_compile=jit_compile)
        start = weights_of(model)
        losses += model.fit(x, y, batch_size=8, shuffle=False, verbose=0).history["loss"]
        trained.append(weights_of(model))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    assert_same(trained[1], trained[0], 1e-5)
    assert any(np.abs(end - begin).max() > 1e-3 for end, begin in zip(trained[0], start, strict=True))


@pytest.mark.integration
@pytest.mark.parametrize("recompute", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_two_replicas_train_as_one_device(recompute):
    def trained(strategy):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            model = model_of(vector_flow(recompute))
            model.compile(keras.optimizers.SGD(0.1))
        randomize(model.trainable_weights)
        model.fit(tf.data.Dataset.from_tensor_slices(blobs(64)).batch(16), verbose=0)
        return weights_of(model)

    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    strategy = tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())
    assert strategy.num_replicas_in_sync == 2
    assert_same(trained(strategy), trained(tf.distribute.get_strategy()), 1e-5)


@pytest.mark.integration
@both_ways
def test_saved_and_exported(recompute, tmp_path):
    model, x = model_of(vector_flow(recompute)), blobs(8)[0]
    randomize(model.weights)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert (loaded.flow.count, loaded.flow.recompute) == (3, recompute)
    for one, other in zip(weights_of(loaded), weights_of(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert {weight.shape[0] for weight in loaded.density.weights} == {3}
    np.testing.assert_allclose(loaded.log_prob(x), model.log_prob(x), rtol=1e-6)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(tf.constant(x)), model.predict(x, verbose=0), rtol=1e-6)


@both_ways
def test_frozen_weights_stay(recompute):
    model = model_of(vector_flow(recompute))
    randomize(model.trainable_weights)
    frozen = [weight for weight in model.density.weights if weight.name.endswith("kernel")]
    assert len(frozen) == 2
    for weight in frozen:
        weight.trainable = False
    model.compile(keras.optimizers.SGD(0.1))
    before = {id(weight): weight.numpy() for weight in model.weights}
    model.fit(*blobs(), verbose=0)
    changed = {id(weight) for weight in model.weights if np.any(weight.numpy() != before[id(weight)])}
    assert changed == {id(weight) for weight in model.trainable_weights}
    assert not changed & {id(weight) for weight in frozen}


@pytest.mark.integration
@both_ways
@pytest.mark.parametrize("name", ["vector", pytest.param("spline", marks=pytest.mark.nightly)])
def test_mixed_precision(policy, name, recompute):
    policy("mixed_bfloat16")
    steps, chain = twins(name, 3, recompute, dtype="float32")
    assert {layer.compute_dtype for layer in steps.step.bijectors[-1].conditioner.layers} == {"bfloat16"}
    assert {weight.dtype for weight in steps.keras_weights() if weight.trainable} == {"float32"}
    x = batch(name, 64, "float32")
    for one, other in zip(all_of(steps, x), all_of_chain(chain, x), strict=True):
        assert np.linalg.norm(one - other) < 0.05 * np.linalg.norm(other)


# Each slice is a weight of its own.


def test_adapt_standardizes_what_each_step_sees():
    steps, chain = twins("vector", 3, dtype="float32")
    loc, log_scale = steps.keras_weights()[:2]
    assert (loc.name, log_scale.name) == ("loc", "log_scale")
    for weight in (loc, log_scale):
        weight.assign(tf.zeros_like(weight))
    assert not steps.is_adapted()
    others = [weight.numpy() for weight in steps.keras_weights()[2:]]
    x = 3 * normal(200, 5) + 7
    adapted = steps.adapt(x)
    assert steps.is_adapted()
    np.testing.assert_allclose(adapted, steps.inverse(tf.identity(x)), atol=1e-4)
    for i, one in enumerate(chain.bijectors):
        norm = one.bijectors[0]
        norm.loc.assign(loc[i])
        norm.log_scale.assign(log_scale[i])
        seen = norm.inverse(tf.identity(x)).numpy()
        np.testing.assert_allclose(seen.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(seen.std(0), 1, atol=1e-4)
        x = one.inverse(x)
    for weight, before in zip(steps.keras_weights()[2:], others, strict=True):
        np.testing.assert_array_equal(weight, before)


def test_not_adapted_while_one_step_waits():
    steps, _ = twins("act_norm_alone", 3)
    assert steps.is_adapted()
    for weight in steps.keras_weights():
        weight.assign(weight.numpy() * [[1.0], [0.0], [1.0]])
    assert not steps.is_adapted()


def test_steps_start_at_values_of_their_own():
    for weight in Steps(lambda: glow_step((4,), "float32"), 3, (4,)).keras_weights():
        assert weight.shape[0] == 3
        if weight.name in ("lower", "upper") or weight.name.endswith("kernel"):
            *first, _ = np.unique(weight.numpy().reshape(3, -1), axis=0, return_index=True)
            zero = not np.any(weight.numpy())  # a conditioner's last layer
            assert len(first[0]) == (1 if zero else 3), weight.name


def test_a_bijector_gives_all_steps_its_values():
    step = glow_step((4,), "float32")
    for weight, one in zip(Steps(step, 2, (4,)).keras_weights(), step.keras_weights(), strict=True):
        np.testing.assert_array_equal(weight, np.stack([one, one]))


def conditioner_with(**options):
    def conditioner(shape, units):
        return keras.Sequential([keras.Input(shape), keras.layers.Dense(units, **options)])

    return conditioner


def test_regularizers_act_on_each_step():
    """This one is defined for matrices, and its sum over steps is not that of the stacked weight."""
    conditioner = conditioner_with(kernel_regularizer=keras.regularizers.OrthogonalRegularizer(0.1, mode="columns"))
    model = model_of(Steps(lambda: AffineCoupling((4,), conditioner=conditioner), 3, (4,)))
    randomize(model.trainable_weights, scale=0.5)
    (kernel,) = (weight for weight in model.density.weights if weight.name.endswith("kernel"))
    wanted = 0.0
    for matrix in kernel.numpy():
        columns = matrix / np.linalg.norm(matrix, axis=0)
        gram = columns.T @ columns
        wanted += 0.1 * 0.5 * np.abs(gram - np.diag(np.diag(gram))).sum() / 6  # 6 pairs of 4 columns
    np.testing.assert_allclose(sum(model.losses), wanted, rtol=1e-5)


def test_constraints_act_on_each_step():
    conditioner = conditioner_with(kernel_constraint=keras.constraints.MaxNorm(0.5, axis=0))
    model = model_of(Steps(lambda: AffineCoupling((2,), conditioner=conditioner), 3, (2,)))
    randomize(model.trainable_weights)
    (kernel,) = (weight for weight in model.density.weights if weight.name.endswith("kernel"))
    kernel.assign(kernel * [[[5.0]], [[1.0]], [[0.01]]])
    before = kernel.numpy()
    model.compile(keras.optimizers.SGD(0.0))
    model.fit(*blobs(), verbose=0)
    norms = np.linalg.norm(before, axis=1, keepdims=True)
    np.testing.assert_allclose(kernel, before * np.minimum(1, 0.5 / norms), atol=1e-6)
    assert np.any(norms > 0.5) and np.any(norms < 0.5)


class OwnNetwork(keras.Model):
    """A subclassed model, which Keras cannot describe."""

    def __init__(self, units, note):
        super().__init__()
        self.dense = keras.layers.Dense(units)
        self.note = note

    def call(self, x):
        return self.dense(x)


def coupling(conditioner=None, **options):
    return AffineCoupling((4,), conditioner=conditioner, **options)


# Functions of i, the step.
ALIKE = {
    "seed of an initializer": lambda i: coupling(
        conditioner_with(kernel_initializer=keras.initializers.GlorotUniform(seed=i))
    ),
    "seed of dropout": lambda i: coupling(
        lambda shape, units: keras.Sequential(
            [keras.Input(shape), keras.layers.Dropout(0.5, seed=i), keras.layers.Dense(units)]
        )
    ),
    "subclassed network": lambda i: coupling(lambda shape, units: OwnNetwork(units, object())),
    "stock bijector without weights": lambda i: FusedChain([tfb.Permute([2, 3, 0, 1]), coupling()], (4,)),
}
DIFFERENT = {
    "width": lambda i: coupling(functools.partial(networks.MLP, hidden_units=(8 + i,))),
    "activation": lambda i: coupling(conditioner_with(activation=["relu", "tanh"][i])),
    "regularizer": lambda i: coupling(conditioner_with(kernel_regularizer=[None, "l2"][i])),
    "swap": lambda i: coupling(swap=bool(i)),
    "additive": lambda i: coupling(conditioner_with(), additive=bool(i)),
    "bound": lambda i: coupling(log_scale_bound=1.0 + i),
    "bijectors": lambda i: FusedChain([coupling(), ActNorm((4,))][: 2 - i], (4,)),
    "permutation": lambda i: FusedChain([tfb.Permute([[2, 3, 0, 1], [3, 2, 1, 0]][i]), coupling()], (4,)),
    "count": lambda i: Steps(coupling, 1 + i, (4,)),
}


@pytest.mark.parametrize("name", ALIKE)
def test_steps_may_differ_in_their_values(name):
    numbers = iter(range(2))
    assert Steps(lambda: ALIKE[name](next(numbers)), 2, (4,)).count == 2


@pytest.mark.parametrize("name", DIFFERENT)
def test_steps_that_differ_in_more_are_refused(name):
    numbers = iter(range(2))
    with pytest.raises(ValueError, match="Steps: the steps differ in structure; they may differ only"):
        Steps(lambda: DIFFERENT[name](next(numbers)), 2, (4,))


def test_weights_of_stock_bijectors_are_refused():
    """They cannot be stacked; unseen, they would not be trained."""
    step = FusedChain([tfb.Shift(tf.Variable(tf.ones(4), name="shift")), coupling()], (4,))
    with pytest.raises(ValueError, match=r"Steps: .*has weights, \['shift:0'\]; wanted weights only in"):
        Steps(lambda: step, 2, (4,))


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match=r"Steps: `event_shape` is \(3,\); wanted \(4,\)"):
        Steps(lambda: ActNorm((4,)), 2, (3,))
    with pytest.raises(ValueError, match="Steps: `count` is 2.0; wanted a whole number"):
        Steps(lambda: ActNorm((4,)), 2.0, (4,))
    with pytest.raises(ValueError, match="Steps: `count` is 0; wanted a whole number, at least 1"):
        Steps(coupling, 0, (4,))


# Conditioners that are more than a function of their input.


def with_network(*layers, units_dtype="float64"):
    """A conditioner with these layers before its last one."""

    def conditioner(shape, units):
        last = keras.layers.Dense(units, dtype=units_dtype)
        return keras.Sequential([keras.Input(shape, dtype=units_dtype), *(make() for make in layers), last])

    return conditioner


def gradients_of(flow, x):
    with tf.GradientTape() as tape:
        z, log_det = flow.inverse_and_log_det(x)
        loss = tf.reduce_sum(tf.sin(z)) + tf.reduce_sum(log_det**2)
    return tape.gradient(loss, [weight.value for weight in flow.keras_weights() if weight.trainable])


@pytest.mark.parametrize("wrap", [tfb.Invert, lambda bijector: tfb.Chain([bijector])])
def test_recompute_trains_ours_inside_stock_bijectors(wrap):
    def step():
        return FusedChain([wrap(ActNorm((4,), "float64")), glow_step((4,), "float64")], (4,))

    stored, recomputed = (Steps(step, 2, (4,), recompute) for recompute in (False, True))
    for one, other in zip(
        randomize(stored.keras_weights(), scale=0.3), randomize(recomputed.keras_weights(), scale=0.3), strict=True
    ):
        other.assign(one)
    x = normal(3, 4, dtype="float64")
    assert_same(gradients_of(recomputed, x), gradients_of(stored, x), 1e-8)


@both_ways
def test_a_network_that_two_couplings_share(recompute):
    def step():
        network = networks.MLP((2,), 4, (8,), dtype="float64")
        couplings = [AffineCoupling((4,), swap=swap, conditioner=network, dtype="float64") for swap in (False, True)]
        return FusedChain([ActNorm((4,), "float64"), *couplings], (4,))

    steps = Steps(step, 2, (4,), recompute)
    randomize(steps.keras_weights(), scale=0.3)
    assert len(steps.keras_weights()) == 2 + 4
    chain = FusedChain([step() for _ in range(2)], (4,))
    for i, one in enumerate(chain.bijectors):
        for weight, stack in zip(one.keras_weights(), steps.keras_weights(), strict=True):
            weight.assign(stack[i])
    x = normal(3, 4, dtype="float64")
    flat = gradients_of(chain, x)
    assert_same(gradients_of(steps, x), [np.stack(flat[i::6]) for i in range(6)], 1e-8)


def test_recompute_trains_networks_in_bfloat16():
    conditioner = functools.partial(networks.MLP, hidden_units=(4,), dtype="bfloat16")
    steps = Steps(lambda: AffineCoupling((4,), conditioner=conditioner), 2, (4,), recompute=True)
    assert all(gradient is not None for gradient in gradients_of(steps, normal(3, 4)))


def test_batch_statistics_are_those_of_whole_batches():
    normalization = functools.partial(keras.layers.BatchNormalization, dtype="float64")
    conditioner = with_network(normalization)
    steps = Steps(lambda: AffineCoupling((4,), conditioner=conditioner, dtype="float64"), 2, (4,))
    at = normal(1030, 4, dtype="float64")
    whole = steps.inverse_and_log_det(at, training=True)
    for rows in (1030, None):
        signature = [tf.TensorSpec([rows, 4], tf.float64)]
        infer = tf.function(lambda x: steps.inverse_and_log_det(x, training=True), input_signature=signature)
        assert_same(infer(at), whole, 1e-10)
    assert all(np.isfinite(weight.numpy()).all() for weight in steps.keras_weights())


def test_losses_of_calls_are_refused():
    conditioner = with_network(lambda: keras.layers.Dense(4, activity_regularizer="l2", dtype="float64"))
    steps = Steps(lambda: AffineCoupling((4,), conditioner=conditioner, dtype="float64"), 2, (4,))
    with pytest.raises(ValueError, match="a conditioner adds a loss when it is called"):
        steps.inverse(normal(3, 4, dtype="float64"))


def test_copies_have_the_values():
    steps, _ = twins("vector", 2)
    copied = steps.copy(name="other")
    assert_same(copied.inverse_and_log_det(batch("vector")), steps.inverse_and_log_det(batch("vector")), 1e-12)
