"""Rows without a label add lambda log p(x) to the objective, and nothing to what is said of p(y|x)."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from helpers import blobs, tiny_model, weights_of

import tfp_hybrid as hy
from tfp_hybrid.uncertainty import calibrate

HEADS = {
    "categorical": (hy.heads.Categorical, (2,), {}),
    "bernoulli": (hy.heads.Bernoulli, (), {}),
    "normal": (hy.heads.Normal, (), {}),
    "normal of two": (hy.heads.Normal, ((2,),), {}),
    "heteroscedastic": (hy.heads.HeteroscedasticNormal, (), {}),
    "mixture": (hy.heads.NormalMixture, (), {}),
    "gamma": (hy.heads.ExponentialFamily, ("GammaSoftplus",), {}),
    "poisson": (hy.heads.ExponentialFamily, ("Poisson",), {}),
    "ordinal": (hy.heads.Ordinal, (2,), {}),
    "zero inflated": (hy.heads.ZeroInflated, (), {}),
    "variational": (lambda: hy.heads.Variational(hy.heads.Normal(), 64), (), {}),
    "partly observed": (lambda: hy.heads.PartlyObserved(hy.heads.Normal((2,))), (), {}),
}


def case(name, rows=40):
    """A head, rows, their labels, and the labels of which the last 25 are missing, with what marks them."""
    make, arguments, options = HEADS[name]
    head = make(*arguments, **options)
    x, y = blobs(rows)
    marker = -1 if head.integer_labels else np.nan
    if not head.classifies:
        y = y + 1.0 if name in ("gamma", "poisson", "zero inflated") else y + x[:, 0]
    if head.event_shape:
        y = np.stack([y, -y], 1)
    hidden = y.astype(float if np.isnan(marker) else int)
    hidden[15:] = marker
    return head, x, y, hidden, marker


@pytest.mark.parametrize("name", HEADS)
def test_what_is_said_of_labelled_rows_is_said_of_them_alone(name):
    head, x, y, hidden, marker = case(name)
    model = tiny_model(head, missing_label=marker)
    model.adapt(x, hidden)
    found = model.evaluate(x, hidden, 40, verbose=0, return_dict=True)
    alone = model.evaluate(x[:15], y[:15], 15, verbose=0, return_dict=True)
    for metric in (model.nll_tracker.name, model.head_metric.name):
        assert found[metric] == pytest.approx(alone[metric], rel=1e-5)
    log_prob = model.log_prob(x).mean()
    penalty = sum(map(float, model.losses))
    wanted = alone["nll"] * 15 / 40 - model.generative_weight * log_prob + penalty
    assert found["loss"] == pytest.approx(wanted, rel=1e-4)
    assert found["log_prob_x"] == pytest.approx(log_prob, rel=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_those_of_both_parts(name):
    """One step of SGD equals the steps of labelled rows on log p(y|x) and of all rows on log p(x), by hand."""
    head, x, y, hidden, marker = case(name)
    model = tiny_model(head, missing_label=marker, optimizer=keras.optimizers.SGD(1.0))
    model.adapt(x, hidden)
    before = [weight.numpy() for weight in model.trainable_weights]
    with tf.GradientTape() as tape:
        z = model.encode(x, training=True)
        labels = head.prepare_labels(tf.constant(y[:15].astype("float32" if not head.integer_labels else "int32")))
        nll = -tf.reduce_sum(head.training_log_prob(z.features[:15], labels)) / 40
        loss = nll - model.generative_weight * tf.reduce_mean(z.log_p_z + z.log_det) + sum(model.losses)
    gradients = tape.gradient(loss, model.trainable_weights)
    model.fit(x, hidden, batch_size=40, shuffle=False, verbose=0)
    for weight, old, gradient in zip(model.trainable_weights, before, gradients, strict=True):
        np.testing.assert_allclose(weight, old - gradient, rtol=1e-4, atol=1e-5)


def test_only_log_p_x_learns_from_a_batch_without_labels():
    x, y = blobs(40)
    y[:8] = -1
    model = tiny_model(missing_label=-1)
    model.adapt(x)
    kernel = model.head.kernel.numpy()
    model.fit(tf.data.Dataset.from_tensor_slices((x[:8], y[:8])).batch(8), verbose=0)
    np.testing.assert_array_equal(model.head.kernel, kernel)
    before = model.log_prob(x)
    model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(8), verbose=0)
    assert np.abs(model.head.kernel.numpy() - kernel).max() > 0 and np.abs(model.log_prob(x) - before).max() > 0


def test_metrics_of_compile_are_over_labelled_rows():
    x, y = blobs(40)
    hidden = np.r_[y[:15], np.full(25, -1)]
    model = tiny_model(missing_label=-1)
    model.compile("adam", metrics=["accuracy", keras.metrics.SparseCategoricalCrossentropy(name="entropy")])
    found = model.evaluate(x, hidden, 16, verbose=0, return_dict=True)
    weight = np.r_[np.full(15, 2.0), np.full(25, 9.0)]
    weighted = model.evaluate(x, hidden, 16, verbose=0, return_dict=True, sample_weight=weight)
    predicted = model.predict(x[:15], verbose=0)
    wanted = -np.log(predicted[np.arange(15), y[:15]]).mean()
    assert found["entropy"] == pytest.approx(wanted, rel=1e-4)
    assert weighted["entropy"] == pytest.approx(wanted, rel=1e-4)
    history = model.fit(x, hidden, 16, verbose=0, validation_data=(x, hidden)).history
    assert {"entropy", "val_entropy", "val_nll"} <= history.keys()


def test_batches_hold_as_many_labels_as_asked_for():
    x, y = blobs(100)
    y[7:] = -1
    seen = []

    class Look(hy.HybridModel):
        def train_step(self, data):
            tf.py_function(lambda x, y: seen.append((x.numpy(), y.numpy())), data[:2], [])
            return super().train_step(data)

    keras.utils.set_random_seed(0)
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    model = Look(hy.flow_distribution(flow), hy.heads.Categorical(2), missing_label=-1)
    model.compile("adam", jit_compile=False)
    model.fit(x, y, batch_size=16, epochs=2, labelled_per_batch=4, verbose=0)
    assert len(seen) == 16  # 93 rows, 12 a batch, twice
    assert all((labels >= 0).sum() == 4 for _, labels in seen)
    for epoch in (seen[:8], seen[8:]):
        others = np.concatenate([rows[labels < 0] for rows, labels in epoch])
        np.testing.assert_array_equal(np.sort(others[:, 0]), np.sort(x[7:, 0]))
        few, counts = np.unique(np.concatenate([rows[labels >= 0] for rows, labels in epoch])[:, 0], return_counts=True)
        np.testing.assert_array_equal(few, np.sort(x[:7, 0]))
        assert set(counts) <= {4, 5}  # 32 places for 7 rows
    assert not np.array_equal(seen[0][0], seen[8][0])


def test_it_is_saved(tmp_path):
    x, y = blobs(40)
    y[5:] = -1
    model = tiny_model(missing_label=-1)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.missing_label == -1
    loaded.fit(x, y, verbose=0)


def test_integers_with_holes_of_pandas_are_taken():
    x, y = blobs(40)
    frame = pd.Series(y, dtype=float)
    frame[5:] = np.nan
    model, other = tiny_model(missing_label=np.nan), tiny_model(missing_label=-1)
    model.fit(x, frame, shuffle=False, verbose=0)
    other.fit(x, np.r_[y[:5], np.full(35, -1)], shuffle=False, verbose=0)
    for one, wanted in zip(weights_of(model), weights_of(other), strict=True):
        np.testing.assert_array_equal(one, wanted)


def test_a_posterior_is_of_labelled_rows():
    x, y = blobs(60)
    hidden = np.where(np.arange(60) < 30, y, -1)
    found, wanted = tiny_model(missing_label=-1), tiny_model()
    found.adapt(x)
    wanted.adapt(x)
    hy.bayes.fit(found, x, hidden)
    hy.bayes.fit(wanted, x[:30], y[:30])
    np.testing.assert_allclose(found.predict(x, verbose=0), wanted.predict(x, verbose=0), rtol=1e-4)


def test_what_cannot_be_learned_from_is_said():
    x, y = blobs(40)
    none = np.full(40, -1)
    model = tiny_model(missing_label=-1)
    with pytest.raises(ValueError, match="y holds -1 in all 40 rows; wanted a label in some of them"):
        model.fit(x, none, verbose=0)
    with pytest.raises(ValueError, match="y has labels from -1 to 1"):
        tiny_model().fit(x, np.r_[-1, y[1:]], verbose=0)
    with pytest.raises(ValueError, match="y has labels from -2 to 1"):
        model.fit(x, np.r_[-1, -2, y[2:]], verbose=0)
    with pytest.raises(ValueError, match="y has 39 rows but x has 40"):
        model.fit(x, none[1:], verbose=0)
    with pytest.raises(ValueError, match=r"y holds nan at index \[0\]; wanted finite numbers"):
        model.fit(x, np.r_[np.nan, y[1:]], verbose=0)
    with pytest.raises(ValueError, match="`missing_label` is 1, which is a label"):
        tiny_model(missing_label=1)
    for wrong in ("none", np.inf, True):
        with pytest.raises(ValueError, match=f"`missing_label` is {wrong!r}; wanted a number"):
            tiny_model(missing_label=wrong)
    hidden = np.r_[y[:5], none[5:]]
    for options, message in (
        ({"labelled_per_batch": 0}, "labelled_per_batch is 0; wanted a whole number, at least 1"),
        ({"labelled_per_batch": 8, "batch_size": 8}, "and batch_size 8; wanted fewer"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(x, hidden, verbose=0, **options)
    with pytest.raises(ValueError, match="but all rows have a label"):
        model.fit(x, y, verbose=0, labelled_per_batch=4)
    with pytest.raises(ValueError, match="but the model has no `missing_label`"):
        tiny_model().fit(x, y, verbose=0, labelled_per_batch=4)
    with pytest.raises(ValueError, match="but x is a data set"):
        model.fit(tf.data.Dataset.from_tensor_slices((x, hidden)).batch(8), verbose=0, labelled_per_batch=4)


def test_one_class_only_is_learned():
    x, y = blobs(40)
    hidden = np.where((y == 1) & (np.arange(40) < 20), 1, -1)
    model = tiny_model(missing_label=-1, optimizer=keras.optimizers.Adam(0.05))
    model.fit(x, hidden, epochs=20, verbose=0)
    assert (model.predict(x[hidden == 1], verbose=0).argmax(1) == 1).all()


@pytest.mark.parametrize("head", [hy.heads.Normal, hy.heads.Bernoulli])
def test_functions_of_keras_are_metrics_of_single_numbers(head):
    x, y = blobs(40)
    hidden = np.where(np.arange(40) < 15, y, np.nan)
    model = tiny_model(head(), missing_label=np.nan)
    model.compile("adam", None, None, ["mae"])  # by position, as in Keras
    found = model.evaluate(x, hidden, 16, verbose=0, return_dict=True)
    wanted = np.abs(model.predict(x[:15], verbose=0).ravel() - y[:15]).mean()
    assert next(value for name, value in found.items() if "mae" in name or "absolute" in name) == pytest.approx(
        wanted, rel=1e-4
    )


def test_integers_as_floats_are_taken_where_none_is_missing_too():
    x, y = blobs(40)
    model = tiny_model(missing_label=np.nan)
    hidden = np.where(np.arange(40) < 16, y, np.nan).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, hidden)).batch(8)  # two batches without a hole
    history = model.fit(data, validation_data=(x, y.astype(float)), verbose=0).history
    assert history["val_nll"][0] > 0


@pytest.mark.parametrize("head", [hy.heads.Bernoulli, lambda: hy.heads.Categorical(2)])
def test_class_weights_are_of_labelled_rows(head):
    x, y = blobs(40)
    hidden = np.where(np.arange(40) < 16, y, -1)
    by_class, by_row = (tiny_model(head(), missing_label=-1) for _ in range(2))
    by_class.fit(x, hidden, class_weight={0: 1.0, 1: 3.0}, shuffle=False, verbose=0)
    by_row.fit(x, hidden, sample_weight=np.where(hidden == 1, 3.0, 1.0), shuffle=False, verbose=0)
    for one, other in zip(weights_of(by_class), weights_of(by_row), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_metric_is_of_no_label():
    x, y = blobs(40)
    hidden = np.where(np.arange(40) < 16, y, -1)
    model = tiny_model(missing_label=-1)
    with pytest.raises(ValueError, match="y holds -1 in all 24 rows"):
        model.evaluate(x[16:], hidden[16:], verbose=0)
    with pytest.raises(ValueError, match="y_val holds -1 in all 8 rows"):
        model.fit(x, hidden, validation_split=0.2, verbose=0)
    with pytest.raises(ValueError, match="y holds -1 in all rows"):
        hy.bayes.fit(model, x[16:], hidden[16:])
    normal = tiny_model(hy.heads.Normal(), missing_label=np.nan)
    late = tf.data.Dataset.from_tensor_slices((x, np.where(np.arange(40) < 16, np.nan, 100.0 + x[:, 0]))).batch(16)
    with pytest.raises(ValueError, match="The first batch of the data set has no label, from which Normal takes"):
        normal.fit(late, verbose=0)
    normal.adapt(x, 100 + x[:, 0])
    normal.fit(late, verbose=0)
    with pytest.raises(ValueError, match="labelled_per_batch is 3, but a DensityModel takes no labels"):
        density = hy.DensityModel(tiny_model().distribution)
        density.compile("adam")
        density.fit(x, labelled_per_batch=3, verbose=0)


@pytest.mark.parametrize(
    ("head", "label"),
    [
        (hy.heads.Bernoulli(), 1),
        (hy.heads.Ordinal(3), 2),
        (hy.heads.ExponentialFamily("Poisson"), 0),
        (hy.heads.ExponentialFamily("GammaExp"), 2.5),
    ],
)
def test_a_label_marks_no_missing_one(head, label):
    with pytest.raises(ValueError, match=f"`missing_label` is {label}, which is a label of the head"):
        tiny_model(head, missing_label=label)


def test_a_number_marks_missing_ones_of_all_numbers():
    x, y = blobs(40)
    model = tiny_model(hy.heads.Normal(), missing_label=-999)
    hidden = np.where(np.arange(40) < 16, 100 + x[:, 0], -999)
    model.fit(x, hidden, verbose=0)
    assert 95 < model.head.response_mean.numpy() < 105


def test_floats_of_pandas_are_taken_with_minus_one():
    x, y = blobs(40)
    hidden = pd.Series(np.where(np.arange(40) < 16, y, np.nan)).fillna(-1)
    assert hidden.dtype == float
    models = [tiny_model(missing_label=-1) for _ in range(2)]
    for model, labels in zip(models, (hidden, hidden.astype(int)), strict=True):
        model.fit(x, labels, shuffle=False, verbose=0)
    for one, other in zip(*map(weights_of, models), strict=True):
        np.testing.assert_array_equal(one, other)


def test_errors_count_all_rows_and_say_what_marks_a_missing_label():
    x, y = blobs(40)
    hidden = np.where(np.arange(40) < 30, np.nan, x[:, 0])
    hidden[35] = np.inf
    with pytest.raises(ValueError, match=r"y holds inf at index \[35\]"):
        tiny_model(hy.heads.Normal(), missing_label=np.nan).fit(x, hidden, verbose=0)
    with pytest.raises(ValueError, match=r"y has shape \(40,\).*one-hot"):
        tiny_model(hy.heads.Categorical(2, one_hot=True), missing_label=-1).fit(x, np.r_[-1, y[1:]], verbose=0)
    with pytest.raises(ValueError, match=r"take `HybridModel\(..., missing_label=...\)`"):
        tiny_model().fit(x, np.r_[-1, y[1:]], verbose=0)
    with pytest.raises(ValueError, match=r"take `HybridModel\(..., missing_label=...\)`"):
        tiny_model().fit(x, np.where(y > 0, "yes", None), verbose=0)
    with pytest.raises(ValueError, match="A row without a label has -1 here"):
        tiny_model(missing_label=-1).fit(x, np.r_[np.nan, y[1:]], verbose=0)


def test_a_data_set_without_labels_has_no_metrics_of_them():
    x, y = blobs(40)
    model = tiny_model(missing_label=-1)
    none = tf.data.Dataset.from_tensor_slices((x, np.full(40, -1))).batch(20)
    found = model.evaluate(none, verbose=0, return_dict=True)
    assert np.isnan([found["nll"], found["accuracy"]]).all()
    assert found["log_prob_x"] == pytest.approx(model.log_prob(x).mean(), rel=1e-4)
    history = model.fit(x, y, epochs=1, validation_data=none, verbose=0).history
    assert np.isnan(history["val_nll"]).all() and np.isfinite(history["nll"]).all()


def test_a_temperature_is_that_of_labelled_rows():
    x, y = blobs(60)
    y = (y + (np.arange(60) % 5 == 0)) % 2  # some are wrong
    models = [tiny_model(missing_label=-1) for _ in range(2)]
    for model in models:
        model.fit(x, y, epochs=5, verbose=0)
    models[1].set_weights(models[0].get_weights())
    hidden = np.where(np.arange(60) < 40, y, -1)
    assert calibrate(models[0], x, hidden) == pytest.approx(calibrate(models[1], x[:40], y[:40]), rel=1e-5)
    with pytest.raises(ValueError, match="y holds -1 in all 60 rows"):
        calibrate(models[0], x, np.full(60, -1))


def test_one_hot_rows_may_be_missing_inside_a_wrapper():
    x, y = blobs(40)
    y = np.eye(2, dtype=int)[y]
    y[15:] = -1
    model = tiny_model(hy.heads.Variational(hy.heads.Categorical(2, one_hot=True), 40), missing_label=-1)
    found = model.evaluate(x, y, 40, verbose=0, return_dict=True)["nll"]
    assert found == pytest.approx(model.evaluate(x[:15], y[:15], 15, verbose=0, return_dict=True)["nll"], rel=1e-5)
