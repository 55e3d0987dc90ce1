import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, normal, randomize, tiny_model
from stock_flows import STOCK_FLOWS

import tfp_hybrid as hy
from tfp_hybrid.serialization import deserialize, serialize
from tfp_hybrid.uncertainty import Rejector

tfb, tfd = tfp.bijectors, tfp.distributions


def round_trip(value):
    return deserialize(json.loads(json.dumps(serialize(value))))


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 2.5, "text", float("inf"), [1, (2.0, "a")], {"key": [None, {"inner": 1}]}],
)
def test_plain_values(value):
    assert round_trip(value) == value and type(round_trip(value)) is type(value)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
def test_arrays_and_variables_are_exact(dtype):
    array = np.asarray(normal(2, 3, dtype="float64") * 1e3).astype(dtype)
    for value in (array, tf.constant(array), tf.Variable(array, trainable=False, name="v")):
        again = round_trip(value)
        np.testing.assert_array_equal(again, array)
        assert tf.as_dtype(again.dtype) == dtype
    assert isinstance(again, tf.Variable) and not again.trainable and again.name == "v:0"
    assert round_trip(tf.TensorShape([2, None])).as_list() == [2, None]
    assert round_trip(tf.float64) == tf.float64


BIJECTORS = {
    "chain": lambda: tfb.Chain([tfb.Shift([1.0, 2.0]), tfb.Scale(3.0)]),
    "invert": lambda: tfb.Invert(tfb.Softplus(hinge_softness=2.0)),
    "permute": lambda: tfb.Permute([1, 0]),
    "sigmoid": lambda: tfb.Sigmoid(low=-30.0, high=30.0),
    "batch_norm_free": lambda: tfb.Blockwise([tfb.Exp(), tfb.Shift(2.0)], block_sizes=[1, 1]),
    "tril": lambda: tfb.ScaleMatvecTriL(tf.Variable([[1.0, 0.0], [0.5, 2.0]])),
    "power": lambda: tfb.Yeojohnson(0.5) if hasattr(tfb, "Yeojohnson") else tfb.SinhArcsinh(0.3, 1.2),
    "ours": lambda: hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(4,), additive=True),
    "ours_in_stock": lambda: tfb.Chain([tfb.Scale(2.0), tfb.Invert(hy.bijectors.InvertibleLinear((2,)))]),
}


@pytest.mark.parametrize("name", BIJECTORS)
def test_bijectors(name):
    bijector = BIJECTORS[name]()
    randomize(bijector.trainable_variables)
    again = round_trip(bijector)
    # Keras stores the weights of its layers beside the configuration.
    for one, other in zip(bijector.variables, again.variables, strict=True):
        other.assign(one)
    z = normal(5, 2)
    np.testing.assert_allclose(again.forward(z), bijector.forward(z), rtol=1e-6)
    np.testing.assert_allclose(
        again.forward_log_det_jacobian(z, event_ndims=1), bijector.forward_log_det_jacobian(z, event_ndims=1), rtol=1e-5
    )
    assert type(again) is type(bijector)


@pytest.mark.parametrize("name", [name for name in STOCK_FLOWS if name != "real_nvp_closure"])
def test_distributions(name):
    x, _ = blobs(6)
    distribution = STOCK_FLOWS[name]()
    distribution.log_prob(x)
    randomize(hy.ModuleLayer(distribution).weights)
    again = round_trip(distribution)
    again.log_prob(x)
    hy.ModuleLayer(again).set_weights(hy.ModuleLayer(distribution).get_weights())
    np.testing.assert_allclose(again.log_prob(x), distribution.log_prob(x), rtol=1e-5)


def test_what_is_shared_stays_shared():
    scale = tf.Variable([2.0, 3.0])
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    coupling = hy.bijectors.AffineCoupling((2,), conditioner=network)
    chain = tfb.Chain([tfb.Scale(scale), coupling, tfb.Shift(scale), tfb.Invert(coupling)])
    again = round_trip(chain)
    parts = again.bijectors
    assert parts[0].scale is parts[2].shift
    assert parts[1] is parts[3].bijector
    assert len(again.trainable_variables) == len(chain.trainable_variables) == 3


class Undefined(tfb.Bijector):
    def __init__(self):
        super().__init__(forward_min_event_ndims=0, inverse_min_event_ndims=0, parameters={})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, lambda x: x]}, r"\['a'\]\[1\] is <function .*register_keras_serializable"),
        (tfb.Chain([tfb.Exp(), Undefined()]), r"bijectors\[1\] is <.*Undefined.*Keras layer"),
        (tfb.Inline(forward_fn=abs, forward_min_event_ndims=0), r"forward_fn is <built-in function abs>"),
    ],
)
def test_what_cannot_be_saved_is_named_by_its_place(value, message):
    with pytest.raises(TypeError, match=f"(?s)Cannot save the model: {message}"):
        serialize(value)


def test_unknown_class_is_named():
    config = json.loads(json.dumps(serialize(tfb.Exp())).replace("bijectors.Exp", "bijectors.Expo"))
    with pytest.raises(ValueError, match=r"'tfp.bijectors.Expo', which is not defined here"):
        deserialize(config)


@pytest.mark.parametrize("name", ["os.system", "tfp.bijectors.tf", "builtins.eval", "tfp.math.psd_kernels.os"])
def test_no_other_code_is_called(name):
    with pytest.raises(ValueError, match="not defined here"):
        deserialize({"tfp_hybrid_kind": "object", "class": name, "arguments": {}})


@keras.saving.register_keras_serializable(package="tests")
def scaled(x, units, **kwargs):
    return 2.0 * x, 0.1 * x


def test_registered_function():
    again = round_trip(tfb.RealNVP(1, shift_and_log_scale_fn=scaled))
    z = normal(3, 2)
    np.testing.assert_allclose(again.forward(z)[:, 1], z[:, 1] * np.exp(0.1 * z[:, 0]) + 2 * z[:, 0], rtol=1e-5)


class OptionalScale(hy.bijectors.FusedBijector):
    """A user's bijector with an option that can be switched off."""

    def __init__(self, scale=2.0, name="optional_scale"):
        super().__init__((3,), parameters=dict(locals()), name=name)
        self.scale = scale


def test_an_argument_that_is_none_where_the_default_is_not_stays_none():
    assert round_trip(OptionalScale(None)).scale is None
    assert round_trip(OptionalScale()).scale == 2.0
    assert round_trip(OptionalScale(3.0)).scale == 3.0


@pytest.mark.parametrize("name", ["model.h5", "model.hdf5"])
@pytest.mark.parametrize("make", [tiny_model, lambda: Rejector(tiny_model())])
def test_the_older_format_is_refused_before_writing(make, name, tmp_path):
    with pytest.raises(ValueError, match=f"filepath is '.*{name}'; wanted a name that ends in .keras"):
        make().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [np.array(["a"]), tf.constant(["a"]), np.array([None])])
def test_arrays_of_other_things_than_numbers_cannot_be_saved(value):
    with pytest.raises(TypeError, match="(?s)Cannot save the model: x is .*pass numbers"):
        serialize(value, "x")
