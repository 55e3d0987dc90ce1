"""Checks on import that Keras uses the TensorFlow backend."""

import os

# Importing Keras fails if the selected backend is not installed, so the environment variable is checked first.
if (_backend := os.environ.get("KERAS_BACKEND") or "tensorflow") == "tensorflow":
    import keras

    _backend = keras.config.backend()
if _backend != "tensorflow":
    raise ImportError(
        f"tfp_hybrid needs Keras with the tensorflow backend, but the backend is {_backend!r}. Set the environment "
        "variable KERAS_BACKEND=tensorflow before Keras is imported, or set the backend in ~/.keras/keras.json."
    )
