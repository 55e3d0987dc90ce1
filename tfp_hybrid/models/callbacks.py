"""Callbacks for training hybrid models, and the state that they go back to."""

import math

import keras
import numpy as np


class State:
    """The values of a compiled model's variables and of its optimizer's, to go back to."""

    def __init__(self, model):
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._variables = [*model.variables, *model.optimizer.variables]
        self._values = [keras.ops.convert_to_numpy(variable).copy() for variable in self._variables]

    def restore(self):
        """Gives the variables these values again."""
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)


class StopOnNonFinite(keras.callbacks.Callback):
    """Stops training, with the step and the likely cause, when the loss or a weight is NaN or infinite.

    Weights and optimizer go back to what they were after the last good epoch, or before training. It raises before the
    epoch's end, so that no checkpoint is overwritten. `HybridModel.fit` adds it.

    Raises:
      FloatingPointError: from `fit`.
    """

    def on_train_begin(self, logs=None):
        self._good, self._since = State(self.model), "before training"

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            self._stop(f"The loss became {loss}", logs)

    def on_epoch_end(self, epoch, logs=None):
        """Also what the epoch's last update did, before any checkpoint of it is written."""
        loss = float((logs or {}).get("val_loss", 0.0))
        if not math.isfinite(loss):
            self._stop(f"The validation loss became {loss}", {k[4:]: v for k, v in logs.items() if k[:4] == "val_"})
        if not all(np.isfinite(weight.numpy()).all() for weight in self.model.trainable_variables):
            self._stop("A weight became NaN or infinite", {})
        self._good, self._since = State(self.model), f"after epoch {epoch + 1}"

    def _stop(self, what, logs):
        step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        if not math.isfinite(float(logs.get("log_prob_x", 0.0))):
            part = "log p(x)"
            cause = "the flow diverged (learning rate too high, or a batch with extreme inputs)"
        elif "log_prob_x" in logs:
            part = "log p(y|x)"
            cause = "the head diverged (learning rate too high, or a label outside of its support)"
        else:
            part = "training"
            cause = "the flow or the head diverged (learning rate too high, or extreme inputs or labels)"
        self._good.restore()
        raise FloatingPointError(
            f"{what} at step {step}, in {part}. Likely cause: {cause}. Lower the "
            "learning rate, set `clipnorm` on the optimizer, or check that batch's data. Training has stopped; weights "
            f"and optimizer are again as they were {self._since}, and checkpoints of earlier epochs as they were."
        )
