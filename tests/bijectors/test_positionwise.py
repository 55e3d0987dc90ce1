"""`Positionwise` and `PositionMLP`: the flows at all positions, each by itself."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import normal, randomize

import tfp_hybrid as hy
from tfp_hybrid.bijectors import Positionwise, RealNVP
from tfp_hybrid.networks import PositionMLP
from tfp_hybrid.position_encoding import AppendPosition


def flow(conditioner=None, positions=(2, 3), recompute=False):
    inner = RealNVP((4,), couplings=4, hidden_units=None, conditioner=conditioner, recompute=recompute)
    made = Positionwise((*positions, 4), inner)
    randomize(made.trainable_variables)
    return made


def conditional(positions=(2, 3), **kwargs):
    return flow(functools.partial(PositionMLP, positions=positions, encoding_size=8, hidden_units=(8,)), **kwargs)


def test_log_prob_is_the_sum_over_positions():
    made = flow()
    x = normal(5, 2, 3, 4)
    at_each = hy.flow_distribution(made.bijector).log_prob(x)
    np.testing.assert_allclose(hy.flow_distribution(made).log_prob(x), tf.reduce_sum(at_each, [1, 2]), rtol=1e-5)


def test_one_position_changes_its_own_log_prob_only():
    made = conditional()
    x = normal(1, 2, 3, 4).numpy()
    changed = x.copy()
    changed[0, 1, 2] += 1
    (z, log_det), (moved, moved_log_det) = map(made.inverse_and_log_det_at_positions, (x, changed))
    differs = (np.abs(moved - z).max(-1) > 1e-6)[0]
    assert differs.sum() == 1 and differs[1, 2]
    assert np.flatnonzero(np.abs(moved_log_det - log_det) > 1e-6).tolist() == [5]


def test_the_same_vector_differs_between_positions_only_with_a_condition():
    x = tf.tile(normal(1, 1, 1, 4), [1, 2, 3, 1])
    for made, expected in ((flow(), 1), (conditional(), 6)):
        log_dets = made.inverse_and_log_det_at_positions(x)[1].numpy().ravel()
        assert len(np.unique(np.round(log_dets, 5))) == expected


def test_recomputed_gradients_are_the_same():
    gradients = []
    for recompute in (False, True):
        keras.utils.set_random_seed(0)
        made = conditional(recompute=recompute)
        with tf.GradientTape() as tape:
            z, log_det = made.inverse_and_log_det(normal(3, 2, 3, 4))
            loss = tf.reduce_sum(z**2) - tf.reduce_sum(log_det)
        gradients.append(tape.gradient(loss, made.trainable_variables))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.nightly
def test_positions_are_learned(tmp_path):
    """The mean of the rows' vectors depends on the row; only the flow that knows the position has their density."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(400, 2, 3, 4)) + 4 * np.arange(2)[:, None, None]).astype("float32")
    found = {}
    for name, made in (("without", flow()), ("with", conditional())):
        keras.utils.set_random_seed(0)
        model = hy.DensityModel(hy.flow_distribution(made))
        model.compile(keras.optimizers.Adam(1e-2))
        model.fit(x, epochs=60, batch_size=100, verbose=0)
        found[name] = model.log_prob(x).mean()
    entropy = -24 * 0.5 * np.log(2 * np.pi * np.e)
    assert entropy - 0.5 < found["with"] < entropy + 0.5
    assert found["without"] < entropy - 2
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.log_prob(x[:9]), model.log_prob(x[:9]))


def test_encodings_of_positions_are_distinct():
    encoded = AppendPosition(8)(tf.zeros((1, 7, 5, 2))).numpy()[0, ..., 2:].reshape(35, 8)
    assert len(np.unique(np.round(encoded, 5), axis=0)) == 35 and np.abs(encoded).max() <= 1


def test_as_many_maps_as_vectors_are_needed_are_adapted_to():
    whitening = hy.bijectors.Whitening((512,))
    for flow_of_vectors in (whitening, hy.bijectors.PrincipalComponents(512, RealNVP((8,)))):
        flow = Positionwise((14, 14, 512), flow_of_vectors)
        p_h = hy.flow_distribution(hy.bijectors.FusedChain([flow], (14, 14, 512)))
        assert hy.flows.rows_to_adapt(p_h) == flow.rows_to_adapt == -(-32 * 512 // 196)
    assert Positionwise((50, 50, 4), RealNVP((4,))).rows_to_adapt == 64


@pytest.mark.parametrize("size", [0, 2, 6, 4.0])
def test_a_size_that_is_no_multiple_of_four_is_refused(size):
    with pytest.raises(ValueError, match=f"`size` is {size}; wanted a multiple of 4"):
        AppendPosition(size)


def test_a_size_may_be_of_numpy():
    assert AppendPosition(np.int64(4)).get_config()["size"] == 4


def test_wrong_shapes_are_refused():
    for shape in ((4,), 4, (0, 5, 4), (None, 5, 4)):
        with pytest.raises(ValueError, match=r"`event_shape` is .*; wanted \(H, W, C\)"):
            Positionwise(shape, RealNVP((4,)))
    with pytest.raises(ValueError, match="`bijector` is None; wanted a `tfb.Bijector`"):
        Positionwise((2, 3, 4), None)
    for positions in (4, (3,), (0, 3), (2, 3, 1)):
        with pytest.raises(ValueError, match="PositionMLP: `positions` is .*; wanted"):
            PositionMLP((4,), 2, positions)
    with pytest.raises(ValueError, match=r"PositionMLP: `input_shape` is \(4, 6, 4\); wanted \(c,\)"):
        RealNVP((4, 6, 4), conditioner=functools.partial(PositionMLP, positions=(2, 3)), levels=1)
    for inner in (RealNVP((5,)), hy.bijectors.ActNorm((2, 3, 4))):
        with pytest.raises(ValueError, match=r"`bijector` has the event shape .*; wanted \(4,\)"):
            Positionwise((2, 3, 4), inner)
    elsewhere = functools.partial(PositionMLP, positions=(5, 5))
    inner = RealNVP((4,), conditioner=elsewhere)
    for made, shape in ((inner, (7, 4)), (Positionwise((2, 3, 4), inner), (7, 2, 3, 4))):
        with pytest.raises(ValueError, match=r"for a map of vectors, \(5, 5, 2\), but .* wanted .* `Positionwise`"):
            made.inverse(tf.zeros(shape))
