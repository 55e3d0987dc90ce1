"""Whatever way data come to a model, they are checked, and the same data give the same results."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from helpers import blobs, integer_model, tiny_model, weights_of

import tfp_hybrid as hy

X, Y = blobs(32)
IMAGES = np.random.default_rng(0).integers(4, size=(8, 4, 4, 1))
DIGITS = np.arange(8) % 3


def with_nan(x, row):
    x = x.astype("float32")
    x[row] = np.nan
    return x


@pytest.fixture(scope="module")
def models():
    return {"vector": tiny_model(), "image": integer_model()}


UNLABELLED = {
    "call": lambda model, x: model(x),
    "call of a tensor": lambda model, x: model(tf.constant(x)),
    "predict": lambda model, x: model.predict(x, verbose=0),
    "predict_on_batch": lambda model, x: model.predict_on_batch(x),
    "predict_distribution": lambda model, x: model.predict_distribution(x),
    "log_prob": lambda model, x: model.log_prob(x),
    "encode": lambda model, x: model.encode(x),
    "encode while training": lambda model, x: model.encode(x, training=True),
    "adapt": lambda model, x: model.adapt(x),
    "predict of a data set": lambda model, x: model.predict(tf.data.Dataset.from_tensors(x), verbose=0),
    "log_prob of a data set": lambda model, x: model.log_prob(tf.data.Dataset.from_tensors(x)),
}
LABELLED = {
    "fit": lambda model, x, y: model.fit(x, y, verbose=0),
    "evaluate": lambda model, x, y: model.evaluate(x, y, verbose=0),
    "train_on_batch": lambda model, x, y: model.train_on_batch(x, y),
    "test_on_batch": lambda model, x, y: model.test_on_batch(x, y),
}
REFUSED = {
    "scaled": ("image", IMAGES / 3.0, "holds fractions such as .*; wanted integers 0 .. 3"),
    "out of range": ("image", IMAGES + 1, "has values from 1 to 4; wanted integers 0 .. 3"),
    "NaN images": ("image", with_nan(IMAGES, 5), r"holds nan at index \[5, 0, 0, 0\]; wanted finite"),
    "NaN": ("vector", with_nan(X[:8], 5), r"holds nan at index \[5, 0\]; wanted finite"),
    "shape": ("vector", np.zeros((8, 3)), r"has shape \(8, 3\); wanted \('n', 2\)"),
    "empty": ("vector", X[:0], "is empty; wanted at least one row"),
    "complex": ("vector", X[:8] * 1j, "has dtype complex64; wanted real numbers"),
}


@pytest.mark.parametrize("refused", REFUSED)
@pytest.mark.parametrize("entry", UNLABELLED)
def test_every_entry_refuses_what_log_prob_refuses(models, entry, refused):
    kind, x, message = REFUSED[refused]
    before = weights_of(models[kind])
    with pytest.raises(ValueError, match=f"x {message}"):
        UNLABELLED[entry](models[kind], x)
    assert all((one == other).all() for one, other in zip(weights_of(models[kind]), before, strict=True))


@pytest.mark.parametrize("refused", ["scaled", "NaN images"])
@pytest.mark.parametrize("entry", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_every_labelled_entry_refuses_it_too(models, entry, refused):
    kind, x, message = REFUSED[refused]
    before = weights_of(models[kind])
    with pytest.raises(ValueError, match=f"x {message}"):
        LABELLED[entry](models[kind], x, DIGITS)
    assert all((one == other).all() for one, other in zip(weights_of(models[kind]), before, strict=True))


@pytest.mark.parametrize("entry", ["train_on_batch", "test_on_batch"])
def test_single_batches_check_labels(models, entry):
    with pytest.raises(ValueError, match="y has labels from 1 to 2; wanted 0 .. 1"):
        LABELLED[entry](models["vector"], X, Y + 1)
    with pytest.raises(ValueError, match="y is missing"):
        LABELLED[entry](models["vector"], X, None)


class Batches(keras.utils.PyDataset):
    def __init__(self, *columns):
        super().__init__()
        self.columns = columns

    def __len__(self):
        return len(self.columns[0]) // 8

    def __getitem__(self, index):
        return tuple(column[8 * index : 8 * index + 8] for column in self.columns)


DATA_SETS = {
    "tf.data": lambda *columns: tf.data.Dataset.from_tensor_slices(columns).batch(8),
    "PyDataset": Batches,
    "generator": lambda *columns: (Batches(*columns)[i] for i in range(len(columns[0]) // 8)),
}
BAD_LATER = {
    "NaN": (with_nan(X, 21), Y, r"Batch 2 of the data set.*x holds nan at index \[5, 0\]; wanted finite"),
    "label": (X, np.where(np.arange(32) == 21, 7, Y), "Batch 2 of the data set.*y has labels from 0 to 7"),
    "absurd": (np.where(np.arange(64).reshape(32, 2) == 42, 1e30, X), Y, r"Batch 2.*x holds 1e\+30 at index \[5, 0\]"),
}


@pytest.fixture(scope="module")
def weights_after_two_batches():
    good = tiny_model(optimizer=keras.optimizers.SGD(0.1))
    good.fit(X[:16], Y[:16], batch_size=8, shuffle=False, verbose=0)
    return weights_of(good)


@pytest.mark.integration
@pytest.mark.parametrize(
    "kind, bad", [*(("tf.data", bad) for bad in BAD_LATER), ("PyDataset", "label"), ("generator", "NaN")]
)
def test_a_later_batch_is_named_and_the_weights_stay(weights_after_two_batches, kind, bad):
    """They are those after the batches before."""
    x, y, message = BAD_LATER[bad]
    model = tiny_model(optimizer=keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match=message):
        model.fit(DATA_SETS[kind](x, y), steps_per_epoch=4, verbose=0)
    for one, other in zip(weights_of(model), weights_after_two_batches, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.integration
@pytest.mark.parametrize("kind", DATA_SETS)
def test_a_later_batch_is_named_by_evaluate_and_predict(models, kind):
    x, y, message = BAD_LATER["NaN"]
    with pytest.raises(ValueError, match=message):
        models["vector"].evaluate(DATA_SETS[kind](x, y), verbose=0)
    with pytest.raises(ValueError, match=message):
        models["vector"].predict(DATA_SETS[kind](x, y), verbose=0)
    with pytest.raises(ValueError, match=message.replace("x holds", "x_val holds")):
        models["vector"].fit(X[:8], Y[:8], validation_data=DATA_SETS[kind](x, y), verbose=0)


def test_a_later_batch_is_named_by_scores(models):
    data = DATA_SETS["tf.data"](with_nan(X, 21))
    for entry in (models["vector"].log_prob, models["vector"].predict_distribution):
        with pytest.raises(ValueError, match=r"Batch 2 of the data set.*x holds nan at index \[5, 0\]"):
            entry(data)


@pytest.mark.integration
@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"steps_per_execution": 3}])
def test_of_several_bad_batches_the_first_is_named(options):
    """TensorFlow has read on when the first one is refused."""
    x = X.copy()
    x[12:] = np.nan
    model = tiny_model(compile=False)
    model.compile(keras.optimizers.SGD(0.1), **options)
    with pytest.raises(ValueError, match=r"Batch 1 of the data set.*x holds nan at index \[4, 0\]"):
        model.fit(DATA_SETS["tf.data"](x, Y), verbose=0)


@pytest.mark.integration
@pytest.mark.parametrize("entry", ["call", "encode"])
def test_gradients_with_respect_to_inputs(models, entry):
    """Those of the same function inside of a `tf.function`, where nothing is checked."""

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = models["vector"](x) if entry == "call" else models["vector"].encode(x).log_prob
        return tape.gradient(value, x)

    eager = gradient(tf.constant(X))
    np.testing.assert_allclose(eager, tf.function(gradient)(tf.constant(X)), rtol=1e-4, atol=1e-5)
    assert np.isfinite(eager).all()


def test_variables_are_inputs(models):
    np.testing.assert_allclose(models["vector"](tf.Variable(X)), models["vector"].predict(X, verbose=0), rtol=1e-5)


def test_a_subclass_may_answer_with_several_parts():
    class Both(hy.HybridModel):
        def call(self, x, training=False):
            return {"mean": super().call(x, training), "rows": tf.shape(x)[0]}

    model = tiny_model()
    found = Both(model.distribution, model.head).predict(X, batch_size=32, verbose=0)
    np.testing.assert_allclose(found["mean"], model.predict(X, verbose=0), rtol=1e-5)


@pytest.mark.parametrize("kind", DATA_SETS)
def test_data_sets_predict_what_arrays_do(models, kind):
    wanted = models["vector"].predict(X, verbose=0)
    np.testing.assert_array_equal(models["vector"].predict(DATA_SETS[kind](X, Y), verbose=0), wanted)


def test_arguments_that_go_with_arrays_only(models):
    data = DATA_SETS["tf.data"](X, Y)
    for options, name in (
        (dict(y=Y), "y"),
        (dict(sample_weight=np.ones(32)), "sample_weight"),
        (dict(validation_split=0.5), "validation_split"),
    ):
        with pytest.raises(ValueError, match=f"^{name} is .*, but x is a data set; wanted"):
            models["vector"].fit(data, **options, verbose=0)


def test_ragged_and_sparse_elements_are_refused(models):
    ragged = tf.data.Dataset.from_tensors((tf.ragged.constant([[1.0], [2.0, 3.0]]), tf.constant([0, 1])))
    with pytest.raises(ValueError, match="data set of RaggedTensorSpec; wanted batches of dense tensors"):
        models["vector"].fit(ragged, verbose=0)


FORMS_OF_LABELS = {
    "vector": lambda y: y,
    "column": lambda y: y[:, None],
    "series": lambda y: pd.Series(y, index=np.arange(len(y))[::-1]),
    "frame": lambda y: pd.DataFrame({"label": y}),
    "list": list,
    "tensor": tf.constant,
    "uint8": lambda y: y.astype("uint8"),
}


@pytest.mark.integration
def test_forms_of_labels_in_turn():
    """One model, one fit after the other, with and without a validation split: as if all had one form."""
    model, plain = (tiny_model(optimizer=keras.optimizers.SGD(0.1)) for _ in range(2))
    for form, split in zip(FORMS_OF_LABELS.values(), itertools.cycle([0.0, 0.25])):
        got = model.fit(X, form(Y), validation_split=split, shuffle=False, verbose=0).history
        wanted = plain.fit(X, Y, validation_split=split, shuffle=False, verbose=0).history
        assert got == wanted and ("val_nll" in got) == (split > 0)
        assert model.evaluate(X, form(Y), verbose=0) == plain.evaluate(X, Y, verbose=0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, "half", 0.99])
def test_bad_validation_split(models, fraction):
    with pytest.raises(ValueError, match="validation_split is "):
        models["vector"].fit(X, Y, validation_split=fraction, verbose=0)


BATCH_SIZES = [-3, 0, 1.5, "a", True, np.nan, [8]]


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("entry", ["fit", "evaluate", "predict", "log_prob", "predict_distribution", "rejector"])
def test_bad_batch_sizes(models, entry, batch_size):
    model = models["vector"]
    calls = {
        "fit": lambda: model.fit(X, Y, batch_size=batch_size, verbose=0),
        "evaluate": lambda: model.evaluate(X, Y, batch_size=batch_size, verbose=0),
        "predict": lambda: model.predict(X, batch_size=batch_size, verbose=0),
        "log_prob": lambda: model.log_prob(X, batch_size=batch_size),
        "predict_distribution": lambda: model.predict_distribution(X, batch_size=batch_size),
        "rejector": lambda: hy.uncertainty.Rejector(model, hy.uncertainty.NegativeLogProb()).fit_threshold(
            X, quantile=0.9, batch_size=batch_size
        ),
    }
    with pytest.raises(ValueError, match="batch_size is .*; wanted a whole number, at least 1"):
        calls[entry]()


COUNTS = {
    "Score.fit": lambda model, count: hy.uncertainty.Typicality().fit(model, X, batch_size=count),
    "Score.score": lambda model, count: hy.uncertainty.NegativeLogProb().score(model, X, batch_size=count),
    "calibrate": lambda model, count: hy.uncertainty.calibrate(model, X, Y, batch_size=count),
    "LikelihoodRatio": lambda model, count: hy.uncertainty.LikelihoodRatio(batch_size=count),
    "epochs": lambda model, count: hy.uncertainty.LikelihoodRatio(epochs=count),
    "OODMonitor": lambda model, count: hy.uncertainty.OODMonitor(X, {"far": X}, every=count),
    "ExpectedCalibrationError": lambda model, count: hy.uncertainty.ExpectedCalibrationError(bins=count),
    "from_parquet": lambda model, count: hy.datasets.from_parquet("rows.parquet", ["a"], "b", count),
    "from_tfrecord": lambda model, count: hy.datasets.from_tfrecord("rows.tfrecord", ["a"], "b", count),
}


@pytest.mark.parametrize("count", [-3, 0, 1.5, "a", True])
@pytest.mark.parametrize("entry", COUNTS)
def test_bad_counts_elsewhere(models, entry, count):
    with pytest.raises(ValueError, match=f"is {count!r}; wanted a whole number, at least 1"):
        COUNTS[entry](models["vector"], count)


def test_bad_validation_batch_size(models):
    with pytest.raises(ValueError, match="validation_batch_size is 0; wanted a whole number, at least 1"):
        models["vector"].fit(X, Y, validation_data=(X, Y), validation_batch_size=0, verbose=0)


WEIGHTS = {
    "NaN": (np.where(np.arange(32) == 3, np.nan, 1.0), "holds nan at index .3.; wanted finite"),
    "infinite": (np.where(np.arange(32) == 3, np.inf, 1.0), "holds inf at index .3.; wanted finite"),
    "absurd": (np.full(32, 1e30), r"holds 1e\+30 at index .0.; wanted magnitudes below 1.8e\+19"),
    "negative": (np.where(np.arange(32) == 3, -1.0, 1.0), "holds -1.0 at index 3; wanted numbers >= 0"),
    "scalar": (2.0, r"is 2.0; wanted an array of shape \(32,\)"),
    "word": ("balanced", r"is 'balanced'; wanted an array of shape \(32,\)"),
    "words": (np.full(32, "heavy"), "has dtype <U5; wanted numbers >= 0"),
    "short": (np.ones(31), "has 31 rows but x has 32; they must match"),
    "matrix": (np.ones((32, 2)), r"has shape \(32, 2\); wanted \(32,\)"),
    "masked": (np.ma.masked_array(np.ones(32), np.arange(32) == 3), "is masked at index .3."),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("entry", ["fit", "evaluate", "train_on_batch", "test_on_batch", "validation_data"])
def test_bad_sample_weights(models, entry, name):
    weights, message = WEIGHTS[name]
    model, before = models["vector"], weights_of(models["vector"])
    calls = {
        "fit": lambda: model.fit(X, Y, sample_weight=weights, verbose=0),
        "evaluate": lambda: model.evaluate(X, Y, sample_weight=weights, verbose=0),
        "train_on_batch": lambda: model.train_on_batch(X, Y, sample_weight=weights),
        "test_on_batch": lambda: model.test_on_batch(X, Y, sample_weight=weights),
        "validation_data": lambda: model.fit(X, Y, validation_data=(X, Y, weights), verbose=0),
    }
    suffix = "_val" if entry == "validation_data" else ""
    with pytest.raises(ValueError, match=f"sample_weight{suffix} {message}".replace("x has", f"x{suffix} has")):
        calls[entry]()
    assert all((one == other).all() for one, other in zip(weights_of(model), before, strict=True))


@pytest.mark.integration
def test_bad_sample_weights_of_a_later_batch():
    model = tiny_model()
    weights = np.where(np.arange(32) == 21, -1.0, 1.0)
    with pytest.raises(ValueError, match="Batch 2 of the data set.*sample_weight holds -1.0 at index 5"):
        model.fit(DATA_SETS["tf.data"](X, Y, weights), verbose=0)


CLASS_WEIGHTS = {
    "missing": ({0: 1.0}, "lacks the class 1"),
    "unknown": ({0: 1.0, 1: 1.0, 2: 1.0}, "has the key 2"),
    "names": ({"a": 1.0, "b": 2.0}, "has the key 'a'"),
    "list": ([1.0, 2.0], r"is \[1.0, 2.0\]; wanted a dict"),
    "word": ("balanced", "is 'balanced'; wanted a dict"),
    "NaN": ({0: np.nan, 1: 1.0}, "of class 0 is nan; wanted a finite number >= 0"),
    "negative": ({0: 1.0, 1: -1.0}, "of class 1 is -1.0; wanted a finite number >= 0"),
    "huge": ({0: 10**400, 1: 1.0}, "of class 0 is 10+; wanted a finite number >= 0 and below"),
    "word for a weight": ({0: "much", 1: 1.0}, "of class 0 is 'much'; wanted a finite number"),
}


@pytest.mark.parametrize("name", CLASS_WEIGHTS)
@pytest.mark.parametrize("entry", ["fit", "train_on_batch"])
def test_bad_class_weights(models, entry, name):
    weights, message = CLASS_WEIGHTS[name]
    with pytest.raises(ValueError, match=f"class_weight {message}"):
        getattr(models["vector"], entry)(X, Y, class_weight=weights)


def test_class_weights_of_a_regressor():
    with pytest.raises(ValueError, match="class_weight is .*, but the head Normal has no classes to weight"):
        tiny_model(hy.heads.Normal()).fit(X, X[:, 0], class_weight={0: 1.0}, verbose=0)


@pytest.mark.integration
@pytest.mark.parametrize("kind", DATA_SETS)
def test_class_weights_of_data_sets_are_those_of_arrays(kind):
    weights = {0: 0.5, 1: 3.0}
    model, wanted = (tiny_model(optimizer=keras.optimizers.SGD(0.1)) for _ in range(2))
    model.fit(DATA_SETS[kind](X, Y), class_weight=weights, shuffle=False, verbose=0)
    wanted.fit(X, Y, batch_size=8, sample_weight=np.where(Y, 3.0, 0.5), shuffle=False, verbose=0)
    for one, other in zip(weights_of(model), weights_of(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_masked_entries_are_refused_and_others_taken(models):
    masked = np.ma.masked_array(X, np.arange(64).reshape(32, 2) == 7)
    with pytest.raises(ValueError, match=r"x is masked at index \[3, 1\]; wanted no masked entry"):
        models["vector"].log_prob(masked)
    with pytest.raises(ValueError, match=r"y is masked at index \[3\]"):
        models["vector"].fit(X, np.ma.masked_array(Y, np.arange(32) == 3), verbose=0)
    np.testing.assert_array_equal(models["vector"].log_prob(np.ma.masked_array(X)), models["vector"].log_prob(X))


@pytest.mark.parametrize("entry", ["fit", "train_on_batch"])
def test_finite_but_absurd_rows_are_found_before_training(models, entry):
    x = X.copy()
    x[5, 1] = 1e30
    before = weights_of(models["vector"])
    with pytest.raises(ValueError, match=r"x holds 1e\+30 at index \[5, 1\]; wanted magnitudes below 1.8e\+19"):
        getattr(models["vector"], entry)(x, Y)
    assert all((one == other).all() for one, other in zip(weights_of(models["vector"]), before, strict=True))
    assert models["vector"].log_prob(x)[5] == -np.inf


def test_absurd_responses_are_found_before_training():
    y = np.where(np.arange(32) == 5, -1e30, X[:, 0])
    with pytest.raises(ValueError, match=r"y holds -1e\+30 at index \[5\]"):
        tiny_model(hy.heads.Normal()).fit(X, y, verbose=0)


def test_a_likelihood_ratio_checks_every_batch(models):
    images = np.concatenate([IMAGES, IMAGES + 40])
    data = tf.data.Dataset.from_tensor_slices(images).batch(8)
    with pytest.raises(ValueError, match="Batch 1 of the data set.*x has values from 40 to 43"):
        hy.uncertainty.LikelihoodRatio(epochs=1).fit(models["image"], data)
