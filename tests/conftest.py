"""Fixtures of all tests."""

import keras
import pytest
import tensorflow as tf

# Two devices, for `tf.distribute`; must come before TensorFlow starts. All else runs on the first.
CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, 2 * [tf.config.LogicalDeviceConfiguration()])


@pytest.fixture(autouse=True)
def seeded():
    """Each test starts from the same seed."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def policy():
    """Sets a global dtype policy; the one before comes back."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)
