import numpy as np
import sklearn.datasets

from tfp_hybrid.datasets import digits


def test_parts_are_scikit_learns_rows_in_order():
    source = sklearn.datasets.load_digits()
    dataset = digits.load()
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(x) for x, _ in parts] == [1000, 350, 447]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    np.testing.assert_array_equal(x[..., 0], source.images)
    np.testing.assert_array_equal(y, source.target)


def test_types_and_levels():
    dataset = digits.load()
    x, y = dataset.train
    assert x.shape == (1000, 8, 8, 1) and x.dtype == np.uint8
    assert y.dtype == np.int32
    assert x.max() == dataset.quantization_levels - 1 == 16
    assert dataset.num_classes == len(dataset.class_names) == len(np.unique(y))
