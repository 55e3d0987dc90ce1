"""Checks, when it is imported, that Keras has the TensorFlow backend."""

import os

# Keras fails to import if the backend that it was told to use is not installed.
if (_backend := os.environ.get("KERAS_BACKEND") or "tensorflow") == "tensorflow":
    import keras

    _backend = keras.config.backend()
if _backend != "tensorflow":
    raise ImportError(
        f"tfp_hybrid needs Keras with the tensorflow backend; it is {_backend!r}. Set the environment "
        "variable KERAS_BACKEND=tensorflow before Keras is imported, or set it in ~/.keras/keras.json."
    )
