"""Fixtures of all tests."""

import contextlib
import gc
import os
import pathlib
import time

import keras
import pytest
import tensorflow as tf

# Two devices, for `tf.distribute`; must come before TensorFlow starts. All else runs on the first.
CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, 2 * [tf.config.LogicalDeviceConfiguration()])

with contextlib.suppress(ImportError):  # private: each op of a graph notes where it was made, a tenth of the time
    from tensorflow.python.util import tf_stack

    HERE = tf_stack.extract_stack()
    tf_stack.extract_stack = lambda *_, **__: HERE

UNFREED = pytest.StashKey[float]()  # seconds of tests since the last collection
SECONDS_TO_FREE = 3.0


@pytest.fixture(autouse=True)
def seeded():
    """Each test starts from the same seed."""
    keras.utils.set_random_seed(0)


@pytest.hookimpl(tryfirst=True)  # before any fixture is made
def pytest_runtest_setup(item):
    """TensorFlow optimizes graphs of commands and of tests with a marker only; in all, it took a fifth of the time."""
    optimized = item.path.parent.name == "commands" or any(map(item.get_closest_marker, ("integration", "nightly")))
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not optimized})


def pytest_collection_finish():
    """Garbage collection need not look at the libraries again, and less often at what a test is building."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Frees what tests leave after some seconds of them: TensorFlow may take a minute to delete an old iterator.

    (Its thread for tuning can miss the notice to end, and then sleeps for its period, which grows to 60 s.) What stays
    is not looked at again: that took a sixth of the time of all tests.
    """
    started = time.monotonic()
    result = yield
    seconds = item.session.stash.get(UNFREED, 0.0) + time.monotonic() - started
    if seconds > SECONDS_TO_FREE:
        gc.collect()
        gc.freeze()
    item.session.stash[UNFREED] = seconds if seconds <= SECONDS_TO_FREE else 0.0
    return result


DATA = pathlib.Path(
    os.environ.get("TFP_HYBRID_TEST_DATA", pathlib.Path(__file__).resolve().parents[2] / "shared" / "data")
)


def pytest_report_header():
    """Says once which tests run, and what is skipped without real data."""
    return [
        "tests: unit by default; -m 'not nightly' for unit and integration, -m nightly, or -m '' for all",
        f"real data: {DATA}"
        if DATA.is_dir()
        else f"no real data: {DATA} does not exist (set TFP_HYBRID_TEST_DATA); tests of real files are skipped",
    ]


@pytest.fixture(scope="session")
def real_data():
    """The folder with real data, read-only by agreement."""
    if not DATA.is_dir():
        pytest.skip(f"no real data: {DATA} does not exist (set TFP_HYBRID_TEST_DATA)")
    return DATA


@pytest.fixture(scope="session")
def tiny_rejector():
    """A rejector of -log p(x) that keeps 96 % of `blobs(4000)[0][:1000]`; not to be changed."""
    from helpers import blobs, tiny_model

    from tfp_hybrid.uncertainty import NegativeLogProb, Rejector

    return Rejector(tiny_model(), NegativeLogProb()).fit_threshold(blobs(4000)[0][:1000], quantile=0.96)


@pytest.fixture
def eagerly():
    """`tf.function`s run eagerly: for formulas, a trace takes up to ten times as long as the operations in it."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def policy():
    """Sets a global dtype policy; the one before comes back."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where all data have to be present, a test that skips for want of them fails."""
    report = yield
    peer_is_missing = "is not installed" in str(report.longrepr)  # of the benchmarks: no data
    if report.skipped and os.environ.get("TFP_HYBRID_REQUIRE_DATA") and not peer_is_missing:
        report.outcome, report.longrepr = "failed", f"skipped although data are required: {report.longrepr}"
    return report
