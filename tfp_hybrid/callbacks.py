"""Callbacks for training hybrid models."""

import math

import keras


class StopOnNonFinite(keras.callbacks.Callback):
    """Stops training, with the step and the likely cause, when the loss is NaN or infinite.

    `HybridModel.fit` adds it. It raises before the epoch's end, so that no checkpoint is overwritten.

    Raises:
      FloatingPointError: from `fit`.
    """

    def on_train_batch_end(self, batch, logs=None):
        logs = logs or {}
        if math.isfinite(float(logs.get("loss", 0.0))):
            return
        step = int(self.model.optimizer.iterations)
        if not math.isfinite(float(logs.get("log_prob_x", 0.0))):
            part = "log p(x)"
            cause = "the flow diverged (learning rate too high, or a batch with extreme inputs)"
        else:
            part = "log p(y|x)"
            cause = "the head diverged (learning rate too high, or a label outside of its support)"
        raise FloatingPointError(
            f"The loss became {float(logs['loss'])} at step {step}, in {part}. Likely cause: {cause}. Lower the "
            "learning rate, set `clipnorm` on the optimizer, or check that batch's data. Training has stopped; "
            "checkpoints of earlier epochs are as they were."
        )
