"""`shift` against two Gaussians, whose ratio is known, and mixtures whose classes have other frequencies."""

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import shift

tfd, tfb = tfp.distributions, tfp.bijectors
MEAN, SIZE = np.array([0.32, 0.0, 0.24], "float32"), 3


def gaussian(mean):
    return hy.DensityModel(hy.flow_distribution(tfb.Shift(mean), tfd.MultivariateNormalDiag(np.zeros(SIZE, "float32"))))


def rows(count, seed=0, mean=0):
    return (np.random.default_rng(seed).normal(size=(count, SIZE)) + mean).astype("float32")


def test_weights_are_the_ratio_of_two_gaussians():
    """E_s[w^2] = exp(|m|^2), so n weighted rows are worth n exp(-|m|^2)."""
    count = round(10_000 * np.exp(MEAN @ MEAN))
    x = rows(count)
    found = shift.importance_weights(gaussian(0 * MEAN), gaussian(MEAN), x, largest=np.inf)
    normal = scipy.stats.multivariate_normal
    wanted = np.exp(normal(MEAN, 1.0).logpdf(x) - normal(np.zeros(SIZE), 1.0).logpdf(x))
    np.testing.assert_allclose(found.values, wanted, rtol=1e-4)
    assert found.clipped == 0
    assert found.effective_sample_size == pytest.approx(10_000, rel=0.02)
    np.testing.assert_allclose(np.average(x, axis=0, weights=found.values), MEAN, atol=5 / 100)


def test_weights_are_clipped():
    x = rows(1000)
    source, target = gaussian(0 * MEAN), gaussian(10 * MEAN)
    exact = shift.importance_weights(source, target, x, largest=np.inf).values
    found = shift.importance_weights(source, target, x)
    largest = np.sqrt(1000) * exact.mean()
    np.testing.assert_allclose(found.values, np.minimum(exact, largest))
    assert found.clipped == np.sum(exact > largest) > 0
    assert shift.importance_weights(source, target, x, largest=2.0).values.max() == 2


def test_ratios_beyond_all_numbers_have_an_effective_sample_size():
    """Of which it is that of the same ratios, moved to where they are numbers."""
    x, far = rows(200), np.array([60.0, 0, 0], "float32")
    near = shift.importance_weights(gaussian(0 * far), gaussian(np.float32([0.5, 0, 0])), x)
    source, target = gaussian(far), gaussian(far + np.float32([0.5, 0, 0]))  # log ratios of about -30 for rows at 0
    moved = shift.importance_weights(source, target, x)
    assert moved.effective_sample_size == pytest.approx(near.effective_sample_size, rel=1e-3)
    for places in ((gaussian(0 * far), gaussian(far)), (gaussian(far), gaussian(0 * far))):
        found = shift.report(*places, x, rows(200, 1, far))
        assert 1 <= found.effective_sample_size < 30 and "nan" not in str(found)
    with pytest.raises(ValueError, match=r"x: row \d+ has the weight exp\(\d+.*infinite; wanted a finite `largest`"):
        shift.importance_weights(gaussian(far), gaussian(0 * far), x)
    clipped = shift.importance_weights(gaussian(far), gaussian(0 * far), x, largest=3.0)
    np.testing.assert_allclose(clipped.values, 3.0)
    assert clipped.effective_sample_size == 200 and clipped.clipped == 200


def test_report_says_how_far_the_places_are():
    models = gaussian(0 * MEAN), gaussian(MEAN)
    found = shift.report(*models, rows(4000), rows(4000, 1, MEAN))
    assert found.divergence == pytest.approx(MEAN @ MEAN / 2, abs=4 * found.standard_error)
    assert found.p_value < 1e-6 and "a shift (p =" in str(found)
    assert found.effective_sample_size == pytest.approx(4000 * np.exp(-MEAN @ MEAN), rel=0.1)
    none = shift.report(*models, rows(4000), rows(4000, 1))
    assert none.p_value > 0.01 and "no shift" in str(none)


def test_frequencies_of_classes_are_found():
    keras.utils.set_random_seed(0)
    latent = hy.latents.ClassMixture(3, (2,), separation=2.0)
    model = hy.HybridModel(tfd.TransformedDistribution(latent, tfb.Shift([1.0, -1.0])), hy.heads.ClassPosterior(latent))
    wanted = np.array([0.7, 0.1, 0.2])
    y = np.random.default_rng(0).choice(3, 4000, p=wanted)
    x = model.sample(4000, seed=0, y=y)["x"].numpy()
    found = shift.label_shift(model, x, np.full(3, 1 / 3))
    np.testing.assert_allclose(found, np.bincount(y) / 4000, atol=0.02)
    for wrong in ([0.5, 0.5], [0.5, 0.5, 0.0], [1.0, 1.0, 1.0]):
        with pytest.raises(ValueError, match="wanted 3 positive frequencies"):
            shift.label_shift(model, x, wrong)
    with pytest.raises(ValueError, match="wanted a classifier"):
        shift.label_shift(tiny_model(hy.heads.Normal()), x, [0.5, 0.5])


def test_a_flow_follows_its_rows_and_the_head_stays():
    x, y = blobs(256)
    model = tiny_model(optimizer=keras.optimizers.Adam(0.01))
    model.fit(x, y, epochs=20, verbose=0)
    head = [weight.numpy() for weight in model.head.weights]
    moved = x + np.float32([2, -1])
    before = model.log_prob(moved).mean(), (model.predict(moved, verbose=0).argmax(1) == y).mean()
    history = shift.adapt(model, moved, epochs=60, learning_rate=0.01, verbose=0)
    assert history.history["log_prob_x"][-1] > before[0] + 1 and model.log_prob(moved).mean() > before[0] + 1
    assert (model.predict(moved, verbose=0).argmax(1) == y).mean() > before[1]
    for one, other in zip(model.head.weights, head, strict=True):
        np.testing.assert_array_equal(one, other)


def test_columns_of_a_frame_are_matched_by_name():
    x, y = blobs(64)
    frame = pd.DataFrame(x * [1, 3], columns=["a", "b"])
    model = tiny_model()
    model.fit(frame, y, verbose=0)
    swapped = shift.adapt(model, frame[["b", "a"]], epochs=1, learning_rate=1e-9, verbose=0)
    assert swapped.history["log_prob_x"][-1] == pytest.approx(model.log_prob(frame).mean(), abs=1e-3)
    with pytest.raises(ValueError, match="'a'"):
        shift.adapt(model, frame.rename(columns={"a": "z"}), epochs=1, verbose=0)


def test_frequencies_that_do_not_converge_are_said(monkeypatch):
    monkeypatch.setattr("tfp_hybrid.shift._ITERATIONS", 2)
    x, _ = blobs(64)
    with pytest.warns(UserWarning, match="has not converged after 2 steps"):
        shift.label_shift(tiny_model(), x + 1, [0.3, 0.7])


def test_a_model_of_two_devices_is_adapted():
    x, _ = blobs(64)
    one = tiny_model()
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()).scope():
        two = tiny_model()
    for model in (one, two):
        model.adapt(x)
        shift.adapt(model, x + 1, epochs=1, verbose=0)
    np.testing.assert_allclose(two.log_prob(x), one.log_prob(x), atol=0.02)  # rows come in another order


def test_a_mixture_stays_where_it_is():
    keras.utils.set_random_seed(0)
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    latent = hy.latents.ClassMixture(2, flow.latent_shape)
    model = hy.HybridModel(hy.flow_distribution(flow, latent), hy.heads.ClassPosterior(latent))
    x, _ = blobs(64)
    model.adapt(x)
    before = [weight.numpy() for weight in latent.keras_weights()]
    shift.adapt(model, x + 1, epochs=2, verbose=0)
    for weight, old in zip(latent.keras_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
        assert weight.trainable == (weight.name != "component_logits")


def test_wrong_use_is_explained():
    x, _ = blobs(8)
    model = tiny_model()
    for wrong in (0, "a", True):
        with pytest.raises(ValueError, match=f"largest is {wrong!r}; wanted a"):
            shift.importance_weights(model, model, x, largest=wrong)
    with pytest.raises(ValueError, match="x_target has 1 rows; wanted at least 2"):
        shift.report(model, model, x, x[:1])
    for wrong in (None, "a", {}):
        with pytest.raises(ValueError, match=f"prior is {wrong}; wanted 2 positive"):
            shift.label_shift(model, x, wrong)
    with pytest.raises(ValueError, match="source is a NoneType; wanted a HybridModel or a DensityModel"):
        shift.importance_weights(None, model, x)
    with pytest.raises(ValueError, match="target is a str; wanted a HybridModel or a DensityModel"):
        shift.importance_weights(model, "a", x)
    with pytest.raises(ValueError, match=r"x_target has shape \(8, 1\).*\(By the model `source`"):
        shift.report(model, model, x, x[:, :1])
    with pytest.raises(ValueError, match="x_source is empty"):
        shift.report(model, model, x[:0], x)
    with pytest.raises(ValueError, match="row 2 has log p"):
        shift.importance_weights(model, model, np.where(np.arange(8)[:, None] == 2, np.float32(1e30), x))
    with pytest.raises(ValueError, match="epochs is 0"):
        shift.adapt(model, x, epochs=0)
