"""Two workers on this machine train as one process does, with Keras' own `fit`."""

import numpy as np
import pytest
import tensorflow as tf
import worker
from launching import results


def assert_equal(found, wanted, tolerance=1e-5):
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=tolerance, atol=tolerance, err_msg=name)


EQUAL = {"do": "equal", "flow": "real_nvp", "optimizer": "adam"}


def two_devices():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())


@pytest.fixture(scope="module")
def one():
    """A training by one device: five epochs of batches that two replicas share unequally, with weights of rows."""
    found = worker.equal(tf.distribute.get_strategy(), "real_nvp", "adam")
    assert found["fit_loss"][-1] < found["fit_loss"][0]
    return found


@pytest.mark.integration
def test_two_workers_train_as_one_device(one, tmp_path):
    processes = results([EQUAL, {"do": "noise"}], tmp_path, 2)
    for equal, _ in processes:
        assert_equal(equal, one)
    first, second = (noise["noise"] for _, noise in processes)
    assert first.shape == (1, 3, 2, 2, 1) and ((0 <= first) & (first < 1)).all()
    assert np.unique([first, second]).size == 2 * first.size, "each replica draws its own"


@pytest.mark.nightly
def test_two_devices_train_as_one(one):
    assert_equal(worker.equal(two_devices(), "real_nvp", "adam"), one)


@pytest.mark.integration
def test_a_replica_without_rows_changes_nothing():
    x, y, _ = (column[:17] for column in worker.rows())
    weights = []
    for strategy in (two_devices(), tf.distribute.get_strategy()):
        model = worker.model_of(strategy)
        model.fit(x, y, 16, shuffle=False, verbose=0)
        weights.append(worker.weights_of(model))
    assert_equal(*weights)


@pytest.mark.integration
def test_gradients_are_clipped_once_summed():
    """One step of SGD at rate 1 is as long as `clipnorm`: neither one for each replica, nor the gradient itself."""
    x, y, _ = worker.rows()
    model = worker.model_of(two_devices(), optimizer="sgd", rate=1.0, clipnorm=1e-3)
    model.adapt(x)
    before = worker.weights_of(model)
    model.fit(x, y, 83, shuffle=False, verbose=0)
    steps = [np.linalg.norm(value - before[name]) for name, value in worker.weights_of(model).items()]
    assert max(steps) == pytest.approx(1e-3, rel=1e-3), steps


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return results([{"do": "shuffled"}, {"do": "of_other_data"}], tmp_path_factory.mktemp("two"), 2)


@pytest.mark.nightly
def test_shuffled_rows_count_once_without_a_seed(two):
    first, second = (found[0] for found in two)
    assert_equal(first, second, 0)
    np.testing.assert_allclose(first["epochs"], first["rows"], rtol=1e-5)


@pytest.mark.nightly
def test_workers_with_other_rows_stay_equal(two):
    """Also with other numbers of batches."""
    first, second = (found[1] for found in two)
    assert_equal(first, second, 0)
    assert np.abs(np.diff(first["epochs"], axis=0)).max() > 1e-3


@pytest.mark.nightly
def test_what_is_made_of_a_model_that_two_workers_have_trained(tmp_path):
    wanted = worker.afterwards(tf.distribute.get_strategy())
    for (found,) in results([{"do": "afterwards"}], tmp_path, 2):
        assert_equal(found, wanted, 1e-4)


@pytest.mark.nightly
@pytest.mark.parametrize("flow", ["real_nvp", "glow"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_two_workers_train_any_flow_with_any_optimizer(flow, optimizer, tmp_path):
    wanted = worker.equal(tf.distribute.get_strategy(), flow, optimizer)
    for (found,) in results([{"do": "equal", "flow": flow, "optimizer": optimizer}], tmp_path, 2):
        assert_equal(found, wanted)
    assert_equal(worker.equal(two_devices(), flow, optimizer), wanted)
