"""Batches of arrays."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import blobs, tiny_model, weights_of

from tfp_hybrid.pipeline import batches, untuned

ROWS = np.arange(10), np.arange(10.0) ** 2


def columns(dataset):
    return [np.concatenate(column) for column in zip(*dataset.as_numpy_iterator(), strict=True)]


def test_rows_in_their_order():
    dataset = batches(ROWS, 4)
    assert [len(x) for x, _ in dataset] == [4, 4, 2] and dataset.cardinality() == 3
    for got, wanted in zip(columns(dataset), ROWS, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_shuffled_rows_stay_together_and_come_once():
    keras.utils.set_random_seed(0)
    dataset = batches(ROWS, 4, shuffle=True)
    first, second = columns(dataset), columns(dataset)
    for x, y in (first, second):
        np.testing.assert_array_equal(np.sort(x), ROWS[0])
        np.testing.assert_array_equal(x**2, y)
    assert (first[0] != second[0]).any()
    keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(columns(batches(ROWS, 4, shuffle=True))[0], first[0])


def test_batches_of_32_as_in_keras():
    assert [len(x) for (x,) in batches((np.zeros(40),))] == [32, 8]


def test_other_options_stay():
    options = tf.data.Options()
    options.deterministic = False
    dataset = untuned(tf.data.Dataset.range(3).with_options(options))
    assert dataset.options().autotune.enabled is False and dataset.options().deterministic is False


@pytest.mark.integration
@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_arrays_train_as_keras_own_batches_of_them(weighted):
    x, y = blobs(50)
    weight = np.linspace(0.1, 2.0, 50) if weighted else None
    arrays, dataset = tiny_model(), tiny_model()
    rows = (x, y, weight) if weighted else (x, y)
    of_arrays = arrays.fit(
        x, y, 16, 2, sample_weight=weight, shuffle=False, validation_data=rows, validation_batch_size=20, verbose=0
    )
    own = tf.data.Dataset.from_tensor_slices(rows)
    of_dataset = dataset.fit(own.batch(16), epochs=2, validation_data=own.batch(20), verbose=0)
    for one, other in zip(weights_of(arrays), weights_of(dataset), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for name, values in of_dataset.history.items():
        np.testing.assert_allclose(of_arrays.history[name], values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        arrays.evaluate(x, y, batch_size=16, sample_weight=weight, verbose=0),
        dataset.evaluate(own.batch(16), verbose=0),
        rtol=1e-5,
    )
    np.testing.assert_allclose(arrays.predict(x, 16, verbose=0), dataset.predict(own.batch(16), verbose=0), rtol=1e-5)


def test_too_few_sample_weights():
    x, y = blobs(50)
    with pytest.raises(ValueError, match="sample_weight has 49 rows but x has 50; they must match"):
        tiny_model().fit(x, y, sample_weight=np.ones(49))
