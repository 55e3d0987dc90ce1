"""Seeds, settings that change after `compile`, and what is said before training."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, integer_model, tiny_model, weights_of

import tfp_hybrid as hy

tfb, tfd = tfp.bijectors, tfp.distributions
X, Y = blobs(32)


@pytest.mark.integration
@pytest.mark.parametrize("make", [tiny_model, integer_model])
def test_equal_seeds_give_equal_draws(make):
    model = make()
    first, second, other = model.sample(5, seed=3), model.sample(5, seed=3), model.sample(5, seed=4)
    np.testing.assert_array_equal(first["x"], second["x"])
    np.testing.assert_array_equal(first["y"], second["y"])
    assert (first["x"].numpy() != other["x"].numpy()).any()
    assert (model.sample(5)["x"].numpy() != model.sample(5)["x"].numpy()).any()


def test_seeds_that_are_pairs_and_large_numbers():
    model = tiny_model()
    for seed in ((1, 2), 2**40, np.int64(7)):
        np.testing.assert_array_equal(model.sample(3, seed=seed)["x"], model.sample(3, seed=seed)["x"])


@pytest.mark.parametrize(("options", "name"), [(dict(n=-1), "n"), (dict(n=1.5), "n"), (dict(seed=-3), "seed")])
def test_bad_arguments_of_sample(options, name):
    with pytest.raises(ValueError, match=f"{name} is .*; wanted a whole number, at least 0"):
        tiny_model().sample(**options)


def stepped(model, x=X, y=Y):
    model.fit(x, y, batch_size=32, shuffle=False, verbose=0)
    return weights_of(model)


@pytest.mark.integration
@pytest.mark.parametrize(("before", "after"), [(0.0, 0.2), (0.2, 0.0), (0.2, lambda step: 0.7)])
def test_lambda_set_after_compile_is_trained_with(before, after):
    """As in a model that was made with it, also once a step has been compiled."""
    model, wanted = (
        tiny_model(generative_weight=weight, optimizer=keras.optimizers.SGD(0.1)) for weight in (before, after)
    )
    start = weights_of(model)
    stepped(model)
    model.evaluate(X, Y, verbose=0)
    model.generative_weight = after
    model.set_weights(start)
    for one, other in zip(stepped(model), stepped(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0), wanted.evaluate(X, Y, verbose=0), rtol=1e-5)


@pytest.mark.integration
def test_lambda_set_by_a_callback_holds_from_the_next_step():
    class Off(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.generative_weight = [1.0, 0.0][epoch]

    model = tiny_model(optimizer=keras.optimizers.SGD(0.0))
    loss = model.fit(X, Y, batch_size=32, epochs=2, callbacks=[Off()], verbose=0).history["loss"]
    np.testing.assert_allclose(loss[0] - loss[1], -model.log_prob(X).mean(), rtol=1e-4)


@pytest.mark.parametrize("weight", [-5, float("nan"), "small", None])
def test_bad_lambda_after_compile(weight):
    model = tiny_model()
    with pytest.raises(ValueError, match="`generative_weight` is .*; wanted lambda >= 0, finite"):
        model.generative_weight = weight
    assert model.generative_weight == 1.0


@pytest.mark.integration
def test_weighting_set_after_compile():
    model, wanted = (
        tiny_model(generative_weight=0.2, weighting=weighting, optimizer=keras.optimizers.SGD(0.1))
        for weighting in ("density", "jacobian")
    )
    start = weights_of(model)
    stepped(model)
    model.weighting = "jacobian"
    model.set_weights(start)
    for one, other in zip(stepped(model), stepped(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="`weighting` is 'label'; wanted one of"):
        model.weighting = "label"


def stock_template_model():
    template = tfb.real_nvp_default_template([4])
    flow = tfb.RealNVP(num_masked=1, shift_and_log_scale_fn=template)
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), flow)
    model = hy.HybridModel(p_x, hy.heads.Categorical(2))
    model.compile(keras.optimizers.SGD(0.01))
    return model


def test_what_cannot_be_saved_is_said_before_training():
    model, said = stock_template_model(), []

    class FirstStep(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            said.append([str(warning.message) for warning in caught if "save" in str(warning.message)])

    with pytest.warns(UserWarning, match="`save` will not work: .*shift_and_log_scale_fn") as caught:
        model.fit(X, Y, callbacks=[FirstStep()], verbose=0)
    assert len(said[0]) == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "`save`")
        model.fit(X, Y, verbose=0)  # once is enough


@pytest.mark.integration
def test_what_can_be_saved_says_nothing(recwarn):
    tiny_model().fit(X, Y, verbose=0)
    assert not [warning for warning in recwarn if "save" in str(warning.message)]


@pytest.mark.nightly  # test_density_model.py has the same for p(x) alone
@pytest.mark.parametrize("rows", [65, 33])
def test_a_replica_without_rows_leaves_training_as_on_one_device(rows):
    """Of 65 rows in batches of 16, the last has one row: one of two replicas gets none."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
    x, y = blobs(rows)
    weights = np.linspace(0.5, 2.0, rows).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(16)
    histories, trained = [], []
    for scope in (strategy.scope(), tf.distribute.get_strategy().scope()):
        with scope:
            head = hy.heads.Categorical(2, kernel_regularizer=keras.regularizers.L2(0.1))
            model = tiny_model(head, optimizer=keras.optimizers.SGD(0.1))
        histories.append(model.fit(data, epochs=2, validation_data=data, verbose=0).history)
        trained.append(weights_of(model))
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for name, values in histories[1].items():
        np.testing.assert_allclose(histories[0][name], values, rtol=1e-4, err_msg=name)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:`layer.updates`")
def test_scikit_learn_wrappers_take_the_model():
    names = np.array(["left", "right"])
    classifier = keras.wrappers.SKLearnClassifier(tiny_model(hy.heads.Categorical(2, one_hot=True)))
    classifier.fit(X, names[Y], epochs=20, verbose=0)
    probabilities = classifier.model_.predict(X, verbose=0)
    np.testing.assert_array_equal(classifier.predict(X), names[probabilities.argmax(-1)])
    assert classifier.score(X, names[Y]) > 0.6
    regressor = keras.wrappers.SKLearnRegressor(tiny_model(hy.heads.Normal())).fit(X, X[:, 0], epochs=60, verbose=0)
    assert regressor.score(X, X[:, 0]) > 0.5


@pytest.mark.integration
def test_one_hot_labels_train_as_integers_do():
    one_hot, integers = (
        tiny_model(hy.heads.Categorical(2, one_hot=flag), optimizer=keras.optimizers.SGD(0.1)) for flag in (True, False)
    )
    for one, other in zip(stepped(one_hot, y=np.eye(2)[Y]), stepped(integers), strict=True):
        np.testing.assert_array_equal(one, other)
    for bad in (Y, np.eye(3)[Y], np.full((32, 2), 0.5), np.ones((32, 2))):
        with pytest.raises(
            ValueError,
            match=r"y has shape .*; wanted one-hot rows of shape \('n', 2\), since .* one_hot=True",
        ):
            one_hot.fit(X, bad, verbose=0)
    assert hy.heads.Categorical.from_config(one_hot.head.get_config()).one_hot
