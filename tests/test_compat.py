"""Each private name of TensorFlow, TFP and Keras that the package uses; a failure says what it breaks."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, integer_model, normal, tiny_model
from tensorflow.python.framework.func_graph import FuncGraph

import tfp_hybrid as hy
from tfp_hybrid import _compat

tfb, tfd = tfp.bijectors, tfp.distributions


def test_xla_context_is_known():
    """Without it, layers that XLA takes in another form are traced in the wrong one."""
    seen = {}

    def note(x, key):
        seen[key] = _compat.is_for_xla()
        return x

    tf.function(note)(tf.zeros(1), "graph")
    tf.function(note, jit_compile=True)(tf.zeros(1), "xla")
    note(tf.zeros(1), "eager")
    assert seen == {"graph": False, "xla": True, "eager": False}


def test_a_frozen_function_has_neither_variables_nor_captured_tensors():
    """Without it, what an ONNX graph needs besides its input would be more inputs of it."""
    scale, shift = tf.Variable(2.0), tf.constant(np.arange(200.0, dtype="float32"))
    spec = tf.TensorSpec((None, 200), tf.float32)
    frozen = _compat.frozen(tf.function(lambda x: scale * x + shift, input_signature=[spec]).get_concrete_function())
    assert len(frozen.inputs) == 1 and not {"ReadVariableOp", "PartitionedCall"} & {
        node.op for node in frozen.graph.as_graph_def().node
    }
    (found,) = frozen(tf.ones((1, 200)))
    np.testing.assert_array_equal(found, 2 + np.arange(200.0)[np.newaxis])


@_compat.custom_gradient
def cubed(x):
    return x**3, lambda dy: 3 * x**2 * dy


def gradient(function):
    return lambda x: tfp.math.value_and_gradient(function, x)[1]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_custom_gradient_is_that_of_tensorflow(jit_compile):
    """In eager execution, in a function, in a gradient in a function, and the second derivative."""
    x = tf.constant([1.0, 2.0])
    inner = tf.function(cubed, jit_compile=jit_compile)
    outer = tf.function(gradient(inner), jit_compile=jit_compile)
    for function in (gradient(cubed), gradient(inner), outer):
        np.testing.assert_allclose(function(x), [3, 12])
        np.testing.assert_allclose(gradient(function)(x), [6, 12])


def test_graphs_with_a_custom_gradient_are_freed():
    """Without it, each model that was trained stays in memory until the process ends."""
    function = tf.function(gradient(cubed))
    graph = weakref.ref(function.get_concrete_function(tf.TensorSpec((2,))).graph)
    assert graph() is not None
    del function
    gc.collect()
    assert graph() is None


def test_a_gradient_is_kept_once_and_only_by_its_own_graph():
    """Not by the graph in which another function was traced meanwhile."""

    def step(x):
        with _compat.gradients_freed_with_graph():
            other.append(tf.function(cubed).get_concrete_function(tf.TensorSpec(())))
            return cubed(x)

    other, x = [], tf.constant(2.0)
    function = tf.function(gradient(step))
    assert float(function(x)) == 12
    del function
    gc.collect()
    assert float(gradient(other[0])(x)) == 12


@pytest.mark.parametrize("make", [lambda: tiny_model(couplings=1), integer_model])
def test_models_are_freed_with_their_graphs(make):
    """Although TensorFlow keeps gradients and the Python functions of data sets, and TFP caches log-dets."""

    def use():
        model = make()
        images = np.random.default_rng(0).integers(0, 4, (32, 4, 4, 1)), np.arange(32) % 3
        x, y = images if make is integer_model else blobs(32)
        model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(16), verbose=0)
        model.log_prob(x)
        x = tf.cast(x, model.distribution.dtype)
        tf.function(lambda x: (model.flow.inverse(x), model.flow.inverse_log_det_jacobian(x, x.shape.rank - 1)))(x)
        return weakref.ref(model)

    def graphs():
        gc.collect()
        return sum(isinstance(item, FuncGraph) for item in gc.get_objects())

    use()
    before = graphs()
    model = use()
    assert graphs() == before and model() is None


@pytest.mark.parametrize("inner", [lambda: hy.bijectors.ActNorm((2,)), tfb.Exp])
def test_chain_and_invert_are_recognized(inner):
    """Without it, our bijectors inside stock ones are evaluated twice, and not adapted."""
    parts = [inner(), tfb.Shift(1.0)]
    assert _compat.parts_of_chain(tfb.Chain(parts)) == parts and _compat.parts_of_chain(parts[0]) is None
    assert _compat.inverted(tfb.Invert(parts[0])) is parts[0] and _compat.inverted(parts[1]) is None


def test_the_cache_gives_value_and_log_det_from_one_call():
    """Without it, `forward` and `forward_log_det_jacobian` each evaluate the network."""

    class Doubled(_compat.CachedBijector):
        calls = 0

        def __init__(self):
            super().__init__(forward_min_event_ndims=0, parameters={})

        def forward_and_log_det(self, z, training=False):
            type(self).calls += 1
            return 2 * z, tf.math.log(2.0) * tf.ones_like(z)

        def _forward_log_det_jacobian(self, z):
            raise AssertionError("the cache has it")

    bijector, z = Doubled(), normal(3)
    x = bijector.forward(z)
    np.testing.assert_allclose(bijector.forward_log_det_jacobian(z), np.log(2) * np.ones(3), rtol=1e-6)
    np.testing.assert_allclose(x, 2 * z)
    assert Doubled.calls == 1


def test_parameters_can_be_set():
    """Without it, a bijector is copied and saved with a function in place of its network."""
    bijector = tfb.Shift(1.0)
    _compat.set_parameter(bijector, "shift", tf.constant(2.0))
    assert float(bijector.copy().shift) == 2.0


def test_modules_ignore_attributes():
    """Without it, placeholders of weights, and TensorFlow's own bookkeeping, are searched for weights."""

    @_compat.ignoring("template")
    class Holder(tf.Module):
        def __init__(self):
            self.template, self.kept = tf.Variable(1.0), tf.Variable(2.0)

    holder = Holder()
    assert holder.variables == (holder.kept,)
    assert "template" in _compat.ignored_attributes(holder) and "template" not in _compat.ignored_attributes(
        tf.Module()
    )


def test_untracked_attributes_stay_what_they_are():
    """Without it, TensorFlow would wrap a dictionary of traced functions, and refuse keys that are not strings."""
    module, value = hy.bijectors.ActNorm((2,)), {("a", True): 1}
    module.kept = _compat.untracked(module, value)
    assert module.kept == value and type(module.kept) is dict


def test_tracked_layers_are_trained_and_not_saved_by_name(tmp_path):
    """Without it, the networks inside a TFP object are not trained, or stand in a file by their layers' names."""
    outer, inner = keras.layers.Layer(), keras.layers.Dense(2)
    inner.build((None, 3))
    _compat.track(outer, [inner])
    assert len(outer.trainable_weights) == 2
    outer.trainable = False
    assert not inner.trainable
    assert not any(attribute.startswith("Dense") for attribute in vars(outer))


def test_a_sublayer_of_a_built_layer_is_replaced():
    """Without it, a head could not get a posterior once it is built, or would keep the weights of a former one."""
    outer, first, second = keras.layers.Dense(4), keras.layers.Dense(2), keras.layers.Dense(3)
    for layer in (outer, first, second):
        layer.build((None, 3))
    for inner in (first, second, first, None, second):
        _compat.replace_sublayer(outer, "inner", inner)
    assert outer.inner is second and outer.weights[2:] == second.weights
    with pytest.raises(ValueError, match="cannot add new elements of state"):
        outer.other = first
    _compat.replace_sublayer(outer, "inner", None)
    assert outer.inner is None and len(outer.weights) == 2


def test_loss_tracker_is_what_logs_call_loss():
    """Without it, the loss that `fit` reports is not ours."""
    model = tiny_model()
    assert _compat.loss_tracker(model) is model.metrics[0] and model.metrics[0].name == "loss"


@pytest.mark.parametrize("better", ["up", "down"])
def test_callbacks_ask_for_the_direction(better):
    """Without it, `EarlyStopping` stops training when a metric gets better."""

    @_compat.directed(better)
    class Directed(keras.metrics.Mean):
        pass

    metric = Directed(name="directed")
    assert _compat.direction(metric) == better and _compat.direction(keras.metrics.Mean()) is None
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    class Compared(Directed):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(y_pred)

    model.compile("sgd", "mse", metrics=[Compared(name="compared")])
    stopping = keras.callbacks.EarlyStopping("val_compared", patience=5)
    x = np.zeros((4, 1))
    model.fit(x, x, validation_data=(x, x), verbose=0, callbacks=[stopping])
    assert bool(stopping.monitor_op(1.0, 0.0)) == (better == "up")


@pytest.mark.integration
def test_fit_says_that_its_validation_data_were_checked():
    """Without it, `fit` would check its own validation batches once more, and refuse them."""
    asked = []

    class Noting(hy.HybridModel):
        def evaluate(self, *args, **kwargs):
            asked.append(kwargs.get(_compat.CACHED_EVALUATION))
            return super().evaluate(*args, **kwargs)

    x, y = blobs(8)
    model = Noting(tiny_model(compile=False).distribution, hy.heads.Categorical(2))
    model.compile("sgd")
    model.fit(x, y, validation_data=(x, y), verbose=0)
    assert asked == [True]


def test_deferred_tensors_say_what_they_are_made_from():
    """Without it, a `TransformedVariable`, such as a trained scale, cannot be saved."""
    exp = tfb.Exp()
    deferred = tfp.util.DeferredTensor(tf.Variable(0.5), exp)
    source, transform = _compat.deferred_parts(deferred)
    np.testing.assert_allclose(transform(source), np.exp(0.5), rtol=1e-6)


@pytest.mark.parametrize("order", ["left-to-right", "right-to-left", [2, 1, 3]])
def test_autoregressive_networks_say_what_they_were_made_with(order):
    """Without it, `tfb.MaskedAutoregressiveFlow` of TFP's own network cannot be saved."""
    options = dict(params=2, event_shape=[3], hidden_units=[5, 4], input_order=order, activation="tanh", use_bias=False)
    network = tfb.AutoregressiveNetwork(**options)
    network.build((None, 3))
    arguments = _compat.autoregressive_arguments(network)
    again = tfb.AutoregressiveNetwork(**arguments)
    again.build((None, 3))
    again.set_weights(network.get_weights())
    np.testing.assert_allclose(again(normal(4, 3)), network(normal(4, 3)), rtol=1e-6)
    assert set(arguments) == set(_compat.AUTOREGRESSIVE_ARGUMENTS) and arguments["use_bias"] is False
    network = tfb.AutoregressiveNetwork(params=2, event_shape=[3], hidden_degrees="random")
    assert _compat.autoregressive_arguments(network) is None


def test_stored_arguments_are_found():
    """Without it, objects of TFP that do not keep `parameters`, such as kernels, cannot be saved."""
    kernel = tfp.math.psd_kernels.ExponentiatedQuadratic(length_scale=2.0)
    assert float(_compat.stored_argument(kernel, "length_scale")) == 2.0
    assert _compat.stored_argument(tfp.glm.Binomial(3.0), "total_count") == 3.0


def test_operations_are_named_by_their_private_module():
    """Without it, a functional network with an operation such as `keras.ops.exp` would be refused on loading."""
    x = keras.Input((2,))
    layers = keras.saving.serialize_keras_object(keras.Model(x, keras.ops.exp(x)))["config"]["layers"]
    assert any(layer["module"].startswith(_compat.PRIVATE_MODULES) for layer in layers)
