import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import normal, randomize

from tfp_hybrid.bijectors import Coupling, FusedChain, Spline, transformers


def test_it_starts_as_the_identity():
    x = normal(100, 2, dtype="float64")
    z, log_det = Spline((2,), dtype="float64").inverse_and_log_det(x)
    np.testing.assert_allclose(z, x, atol=1e-12)
    np.testing.assert_allclose(log_det, 0, atol=1e-12)


def test_it_is_tfps_spline_inside_and_the_identity_outside():
    spline = Spline((1,), bins=4, bound=2.0, dtype="float64")
    randomize(spline.keras_weights(), scale=1.0)
    x = tf.constant(np.linspace(-4, 4, 81)[:, np.newaxis])
    z = spline.inverse(x).numpy()[:, 0]
    outside = np.abs(x[:, 0]) >= 2
    np.testing.assert_allclose(z[outside], x.numpy()[outside, 0], atol=1e-9)
    assert (np.diff(z) > 0).all() and np.abs(z - x[:, 0]).max() > 0.1
    least = 1e-2
    widths, heights = (
        4 * (least / 4 + (1 - least) * np.exp(raw) / np.exp(raw).sum())
        for raw in (spline.raw_widths.numpy()[0], spline.raw_heights.numpy()[0])
    )
    slopes = least + (1 - least) * np.logaddexp(0, spline.raw_slopes.numpy()[0] + np.log(np.e - 1))
    stock = tfp.bijectors.RationalQuadraticSpline(widths, heights, slopes, range_min=-2)
    np.testing.assert_allclose(z, stock.forward(x[:, 0]), atol=1e-9)


@pytest.mark.parametrize("transformer", [transformers.RationalQuadraticSpline(4), transformers.CircularSpline(4)])
def test_entries_are_not_lost_in_graphs_of_any_batch_size(transformer):
    """One entry passes through and one is transformed: the sizes that TFP's splines forget."""
    couplings = [Coupling((2,), transformer, swap=swap) for swap in (False, True)]
    chain, x = FusedChain(couplings, (2,)), normal(5, 2)
    randomize(chain.keras_weights())
    function = tf.function(chain.inverse_and_log_det, [tf.TensorSpec((None, 2))], autograph=False)
    assert function.get_concrete_function().structured_outputs[0].shape[-1] == 2
    np.testing.assert_allclose(function(x)[0], chain.inverse(x), atol=1e-5)


@pytest.mark.parametrize("options, message", [({"bins": 1}, "`bins` is 1"), ({"bound": 0.0}, "`bound` is 0.0")])
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Spline((1,), **options)
