"""Crafted files: what a `.keras` file names is built and called only if it is listed."""

import json

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp
from helpers import change_config, integer_model, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import trusted
from tfp_hybrid.serialization import deserialize, serialize
from tfp_hybrid.uncertainty import WAIC, Rejector

tfb, tfd = tfp.bijectors, tfp.distributions
KIND = "tfp_hybrid_kind"


def function(module, name):
    """How a Keras configuration names a function."""
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def tfp_object(name, **arguments):
    return {KIND: "object", "class": name, "arguments": arguments}


def in_keras(config):
    return {KIND: "keras", "config": config}


def network(*layers):
    first = {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 1]}}
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [first, *layers]}}


@pytest.fixture
def crafted(tmp_path):
    """Writes a saved model whose configuration was changed."""

    def crafted(change):
        path = tmp_path / "model.keras"
        tiny_model().save(path)
        change_config(path, change)
        return path

    return crafted


@pytest.fixture
def called():
    """Whether `keras.config.set_epsilon` was called."""
    before = keras.config.epsilon()
    yield lambda: keras.config.epsilon() is not before
    keras.config.set_epsilon(before)


SET_EPSILON = function("keras.config", "set_epsilon")
LAMBDA = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "f", "function": SET_EPSILON}}


def with_inline(config):
    call = in_keras(SET_EPSILON)
    config["config"]["distribution"]["arguments"]["bijector"] = tfp_object(
        "tfp.bijectors.Inline", forward_fn=call, inverse_fn=call, forward_min_event_ndims=1
    )


def with_network_in_flow(config):
    config["config"]["distribution"]["arguments"]["bijector"] = tfp_object(
        "tfp.bijectors.RealNVP", num_masked=1, shift_and_log_scale_fn=in_keras(network(LAMBDA))
    )


def with_head(config):
    config["config"]["head"] = network(LAMBDA)


def with_schedule(config):
    config["config"]["generative_weight"] = in_keras(SET_EPSILON)


def with_metric(config):
    config["compile_config"]["metrics"] = [SET_EPSILON]


@pytest.mark.parametrize("change", [with_inline, with_network_in_flow, with_head, with_schedule, with_metric])
def test_a_crafted_file_calls_no_function_of_keras(crafted, called, change):
    path = crafted(change)
    with pytest.raises(ValueError, match="may not name keras.config.set_epsilon"):
        keras.models.load_model(path)
    assert not called()


def test_a_crafted_coroutine_is_not_called(crafted):
    def change(config):
        config["config"]["distribution"] = tfp_object(
            "tfp.distributions.JointDistributionCoroutine",
            model=in_keras(function("keras.config", "disable_traceback_filtering")),
        )

    path = crafted(change)
    with pytest.raises(ValueError, match="JointDistributionCoroutine is not among the classes of TFP"):
        keras.models.load_model(path)
    assert keras.config.is_traceback_filtering_enabled()


@pytest.mark.parametrize(
    "module", ["keras.config", "keras.src.saving.serialization_lib", "keras._tf_keras.keras.config"]
)
@pytest.mark.parametrize("as_class", [False, True])
def test_safe_mode_cannot_be_turned_off(module, as_class):
    """By Keras itself, too: what needs the version that pyproject.toml asks for."""
    name = "enable_unsafe_deserialization"
    config = function(module, name) | ({"class_name": name, "config": {}} if as_class else {})
    for load in (keras.saving.deserialize_keras_object, trusted.check_config):
        with pytest.raises(ValueError, match=name):
            load(config)


@pytest.mark.parametrize(
    "config",
    [
        function("keras.datasets.mnist", "load_data"),
        function("keras.utils", "get_file"),
        function("keras.models", "load_model"),
        function("keras.activations", "deserialize"),
        function("builtins", "get"),
        function("keras.applications", "ResNet50"),
        {"module": "keras.config", "class_name": "set_epsilon", "config": {}},
        {"a": [{"b": SET_EPSILON}]},
        SET_EPSILON | {trusted.KIND: "object", "class": "tfp.bijectors.Exp", "arguments": {}},
        SET_EPSILON | {trusted.KIND: "shared", "key": 0},
        SET_EPSILON | {trusted.KIND: "keras"},
        in_keras({"module": "keras.layers", "class_name": "Dense", "config": {"units": 1, "activation": SET_EPSILON}}),
    ],
)
def test_functions_that_are_not_listed_are_refused(config):
    with pytest.raises(ValueError, match="a saved model may not name"):
        trusted.check_config(config)


@keras.saving.register_keras_serializable(package="trusted")
def doubled(x):
    return 2.0 * x


@pytest.mark.parametrize(
    "activation", ["relu", keras.activations.gelu, keras.ops.tanh, doubled, keras.layers.LeakyReLU(0.2)]
)
def test_layers_with_functions_that_are_listed_are_taken(activation):
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, activation, kernel_regularizer="l2")])
    flow = tfb.RealNVP(1, shift_and_log_scale_fn=hy.networks.ShiftAndLogScale(network))
    z = np.array([[0.5, -1.0]], "float32")
    flow.forward(z)
    again = deserialize(json.loads(json.dumps(serialize(flow))))
    again.forward(z)
    hy.ModuleLayer(again).set_weights(hy.ModuleLayer(flow).get_weights())
    np.testing.assert_allclose(again.forward(z), flow.forward(np.array(z)), rtol=1e-6)


def test_functional_networks_with_operations_are_taken():
    x = keras.Input((2,))
    model = keras.Model(x, keras.ops.concatenate([keras.layers.Dense(2)(x), keras.ops.exp(x) + 1.0], -1))
    trusted.check_config(json.loads(json.dumps(keras.saving.serialize_keras_object(model))))


def test_a_class_that_is_not_listed_is_named_when_saving():
    joint = tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0)])
    with pytest.raises(
        TypeError, match=r"(?s)Cannot save the model: p\[0\] is .*JointDistributionSequential is not among"
    ):
        serialize([joint], "p")


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    model = tiny_model()
    model.compile(keras.optimizers.Adam(), metrics=[keras.utils.normalize])
    with pytest.raises(TypeError, match="Cannot save the model: .*may not name .*normalize"):
        model.save(tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


def nested(depth):
    config = tfp_object("tfp.bijectors.Exp")
    for _ in range(depth // 2):  # an object and its arguments
        config = tfp_object("tfp.bijectors.Invert", bijector=config)
    return config


def test_nesting_is_bounded(crafted):
    assert isinstance(deserialize(nested(60)), tfb.Invert)
    for depth in (140, 900, 100_000):
        with pytest.raises(ValueError, match="nested more than 128 levels deep"):
            deserialize(nested(depth))
    bijector = tfb.Exp()
    for _ in range(900):
        bijector = tfb.Invert(bijector)
    with pytest.raises(TypeError, match="Cannot save the model: .*(nested|recursion)"):
        serialize(bijector)

    def change(config):
        config["config"]["distribution"]["arguments"]["bijector"] = nested(900)

    with pytest.raises(ValueError, match="nested more than 128 levels deep"):
        keras.models.load_model(crafted(change))


def test_the_number_of_values_is_bounded(monkeypatch):
    monkeypatch.setattr(trusted, "MAX_VALUES", 1000)
    deserialize(serialize(np.zeros(900)))
    with pytest.raises(ValueError, match="more than 1,000 values"):
        deserialize({KIND: "array", "dtype": "float32", "value": [[0.0] * 10] * 100})
    with pytest.raises(TypeError, match="more than 1,000 values"):
        serialize(np.zeros((40, 30)))


def test_what_is_shared_counts_as_often_as_it_is_used():
    """Forty chains, each of twice the one before: a small file, and 2**40 bijectors to go through."""
    parts = [tfp_object("tfp.bijectors.Exp") | {"key": 0}]
    for key in range(1, 41):
        twice = {KIND: "list", "value": 2 * [{KIND: "shared", "key": key - 1}]}
        parts.append(tfp_object("tfp.bijectors.Chain", bijectors=twice) | {"key": key})
    with pytest.raises(ValueError, match="more than 16,777,216 values"):
        deserialize({KIND: "list", "value": parts})


@pytest.mark.parametrize(
    "config",
    [
        {KIND: "object", "class": ["x"], "arguments": {}},
        {"module": "keras.layers", "class_name": "Dense", "registered_name": ["a"], "config": {}},
        {"module": "keras.layers", "class_name": "Dense", "registered_name": {"a": 1}, "config": {}},
    ],
)
def test_names_are_strings(config):
    with pytest.raises(ValueError, match="wanted a string"):
        trusted.check_config(config)


@pytest.mark.parametrize("dtype", ["(1000000,)f4", "U100000000", "object", "string", "resource"])
def test_arrays_hold_as_many_numbers_as_are_written(dtype):
    with pytest.raises(ValueError, match="saved model"):
        deserialize({KIND: "array", "dtype": dtype, "value": [1.0]})


@pytest.mark.parametrize(
    "arguments",
    [
        {"activation": {KIND: "dict", "value": {"module": "os", "class_name": "function", "config": "getcwd"}}},
        {"activation": "deserialize"},
        {"kernel_initializer": "zeros"},
    ],
)
def test_keras_2_gets_no_configuration_from_a_file(arguments):
    arguments = {KIND: "dict", "value": {"params": 2, "event_shape": 2} | arguments}
    with pytest.raises(ValueError, match="the saved AutoregressiveNetwork has the"):
        deserialize({KIND: "autoregressive_network", "arguments": arguments})


@pytest.mark.parametrize(
    "config",
    [
        {KIND: "shared", "key": 5},
        {KIND: "object", "class": "tfp.bijectors.Shift", "arguments": {"nonsense": 1}},
        {KIND: "object", "class": "tfp.bijectors.Shift"},
        {KIND: "variable"},
        {KIND: ["a"]},
        {"value": 1},
    ],
)
def test_a_damaged_configuration_is_a_value_error(config):
    with pytest.raises(ValueError, match="saved model"):
        deserialize(config)


def test_models_stay_far_from_the_bounds():
    def depth(config):
        parts = config.values() if isinstance(config, dict) else config if isinstance(config, (list, tuple)) else ()
        return 1 + max(map(depth, parts), default=0)

    flow = hy.bijectors.Glow((32, 32, 1), levels=4, steps=2, hidden_units=4, quantization_levels=256)
    deep = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2))
    for model in (deep, Rejector(integer_model(), WAIC([integer_model()]))):
        assert depth(keras.saving.serialize_keras_object(model)) < trusted.MAX_DEPTH / 2


def test_every_listed_class_is_one_of_tfp():
    listed = {f"{prefix}.{name}" for prefix, (_, names) in trusted._LISTED.items() for name in names.split()}
    assert listed == set(trusted._CLASSES)
    assert all(isinstance(found, type) for found in trusted._CLASSES.values())
