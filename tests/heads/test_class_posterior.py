"""`ClassPosterior` in a model: one set of weights, saved once."""

import keras
import numpy as np
import pytest
from helpers import blobs, tiny_model

import tfp_hybrid as hy


def model_of(**options):
    keras.utils.set_random_seed(0)
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    latent = hy.latents.ClassMixture(3, flow.latent_shape, **options)
    model = hy.HybridModel(hy.flow_distribution(flow, latent), hy.heads.ClassPosterior(latent))
    model.compile(keras.optimizers.Adam(1e-2))
    return model


@pytest.mark.parametrize("scales", ["shared", "own"])
def test_trains_saves_and_loads(scales, tmp_path):
    model = model_of(scales=scales, components=2)
    x, y = blobs(64)
    history = model.fit(x, y, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    np.testing.assert_array_equal(loaded.log_prob(x), model.log_prob(x))
    assert loaded.head.mixture is loaded.distribution.distribution
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    loaded.fit(x, y, epochs=1, verbose=0)
    np.testing.assert_array_equal(loaded.head.mixture.means, loaded.distribution.distribution.means)


def test_joint_is_that_of_p_x_and_the_head():
    model = model_of()
    x, y = blobs(16)
    p_y, log_prob = model.predict_distribution(x)
    latent, encoding = model.head.mixture, model.encode(x)
    of_class = latent.given(y).log_prob(encoding.z) + encoding.log_det
    np.testing.assert_allclose(p_y.log_prob(y) + log_prob, of_class + np.log(1 / 3), rtol=1e-4)


def test_a_mixture_of_another_model_is_refused():
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    mixture = hy.latents.ClassMixture(3, flow.latent_shape)
    with pytest.raises(ValueError, match="`mixture` is not the latent distribution of the model"):
        hy.HybridModel(hy.flow_distribution(flow), hy.heads.ClassPosterior(mixture))
    with pytest.raises(ValueError, match="z has 2 entries; wanted the mixture's 3"):
        hy.HybridModel(hy.flow_distribution(flow), hy.heads.ClassPosterior(hy.latents.ClassMixture(2, (3,))))


def test_what_needs_a_kernel_is_refused():
    mixture = hy.latents.ClassMixture(3, (2,))
    for argument in ("kernel_regularizer", "weight_stddev", "num_classes", "posterior"):
        with pytest.raises(ValueError, match=f"`{argument}` is .*; wanted none, since the mixture has all weights"):
            hy.heads.ClassPosterior(mixture, **{argument: "l2"})
    with pytest.raises(ValueError, match="`mixture` is 3; wanted a `latents.ClassMixture`"):
        hy.heads.ClassPosterior(3)
    with pytest.raises(ValueError, match="`head` is ClassPosterior, which has no kernel"):
        hy.heads.Variational(hy.heads.ClassPosterior(mixture), train_size=20)
    model = model_of()
    x, y = blobs(16)
    with pytest.raises(ValueError, match="ClassPosterior has no kernel"):
        hy.bayes.fit(model, x, y)
    with pytest.raises(ValueError, match="the head is ClassPosterior; wanted one of"):
        hy.uncertainty.calibrate(model, x, y)


def test_densities_of_classes_add_up_and_samples_are_of_their_class():
    model = model_of()
    x, y = blobs(64, classes=3)
    model.fit(x, y, epochs=20, verbose=0)
    each = np.stack([model.log_prob_given(x, np.full(64, k)) for k in range(3)], 1)
    weights = np.asarray(keras.ops.softmax(model.head.mixture.class_logits))
    np.testing.assert_allclose(np.log(np.exp(each) @ weights), model.log_prob(x), rtol=1e-4, atol=1e-4)
    one = model.sample(5, seed=3, y=2)
    np.testing.assert_array_equal(one["x"], model.sample(5, seed=3, y=2)["x"])
    assert one["x"].shape == (5, 2) and (one["y"].numpy() == 2).all()
    apart = model_of(separation=8.0)
    apart.adapt(x)
    drawn = apart.sample(300, seed=0, y=np.arange(300) % 3)
    assert (apart.predict(drawn["x"], verbose=0).argmax(1) == np.arange(300) % 3).mean() > 0.95
    for wrong in (3, -1, [0, 1], 0.5):
        with pytest.raises(ValueError, match="^y (is|has)"):
            model.sample(3, y=wrong)
    with pytest.raises(ValueError, match="The latent distribution is .*, which has no classes"):
        tiny_model().sample(3, y=0)
    with pytest.raises(ValueError, match="The latent distribution is .*, which has no classes"):
        tiny_model().log_prob_given(x, y)


def test_scores_are_those_of_the_predicted_class(tmp_path):
    model = model_of()
    x, y = blobs(64, classes=3)
    model.fit(x, y, epochs=5, verbose=0)
    predicted = model.predict(x, verbose=0).argmax(1)
    wanted = -model.log_prob_given(x, predicted)
    np.testing.assert_allclose(hy.uncertainty.ClassNegativeLogProb().score(model, x), wanted, rtol=1e-5)
    typical = hy.uncertainty.ClassTypicality().fit(model, x)
    entropy = np.array([wanted[predicted == k].mean() if (predicted == k).any() else wanted.mean() for k in range(3)])
    np.testing.assert_allclose(typical.score(model, x), np.abs(wanted - entropy[predicted]), rtol=1e-4, atol=1e-5)
    rejector = hy.uncertainty.Rejector(model, typical).fit_threshold(x, quantile=0.9)
    rejector.save(tmp_path / "rejector.keras")
    loaded = keras.models.load_model(tmp_path / "rejector.keras")
    found, wanted = (one.predict(x, verbose=0)["score"] for one in (loaded, rejector))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="has no classes"):
        hy.uncertainty.ClassNegativeLogProb().score(tiny_model(), x)


def test_a_head_of_other_classes_has_no_density_of_them():
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    p_x = hy.flow_distribution(flow, hy.latents.ClassMixture(2, flow.latent_shape))
    x, y = blobs(8)
    for head, said in ((hy.heads.Categorical(5), "Categorical 5"), (hy.heads.Normal(), "Normal none")):
        model = hy.HybridModel(p_x, head)
        with pytest.raises(ValueError, match=f"has 2 classes, and the head {said}; wanted"):
            model.log_prob_given(x, y)
    with pytest.raises(ValueError, match="has 2 classes, and the head Categorical 5"):
        hy.uncertainty.ClassNegativeLogProb().score(hy.HybridModel(p_x, hy.heads.Categorical(5)), x)
