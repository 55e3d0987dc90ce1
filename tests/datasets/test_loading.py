import doctest

import numpy as np
import pytest

from tfp_hybrid import datasets
from tfp_hybrid.datasets import loading


def test_unknown_name():
    with pytest.raises(ValueError, match="'cifar' is unknown; wanted one of digits, .*, simulation"):
        datasets.load("cifar")


def test_names():
    assert set(datasets.NAMES) == {
        "digits",
        "fashion_mnist",
        "flights",
        "mnist",
        "not_mnist",
        "simulation",
    }


@pytest.mark.integration
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.nightly if name == "fashion_mnist" else ()) for name in datasets.NAMES],
)
def test_contract(name, real_data):
    """What every model and experiment relies on, whatever the set."""
    if name not in ("digits", "simulation") and not (real_data / "tfds").is_dir():
        pytest.skip(f"no tfds folder in {real_data}")
    dataset = datasets.load(name, data_dir=real_data / "tfds")
    assert dataset.name == name and dataset.description
    for x, y in (dataset.train, dataset.validation, dataset.test):
        assert y.shape == (len(x),)
        assert x.shape[1:] == dataset.test[0].shape[1:]
        assert x.flags.writeable and y.flags.writeable and x.flags.c_contiguous
        if dataset.task == "classification":
            assert x.dtype == np.uint8 and y.dtype == np.int32
            if len(x):
                assert x.max() < dataset.quantization_levels
                assert y.min() >= 0 and y.max() < dataset.num_classes
        else:
            assert x.dtype == y.dtype == np.float32
            assert np.isfinite(x).all() and np.isfinite(y).all()
            assert len(dataset.feature_names) == x.shape[1]
            assert dataset.num_classes is None and dataset.quantization_levels is None
    assert len(dataset.test[0]) > 0


def test_seed_reaches_the_simulation():
    one, other = (datasets.load("simulation", seed=seed).test[1] for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_example_in_the_docstring():
    assert doctest.testmod(loading).attempted > 0
    assert doctest.testmod(loading).failed == 0
