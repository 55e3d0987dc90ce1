"""`StopOnNonFinite`: stops training when it diverges."""

import math

import keras
import numpy as np

from tfp_hybrid.callbacks.state import State


class StopOnNonFinite(keras.callbacks.Callback):
    """Stops training when the loss or a weight becomes NaN or infinite.

    `fit` then raises a FloatingPointError that gives the step and the likely cause. The weights and the optimizer are
    restored to their state after the last good epoch, or before training if there is none. The error is raised before
    other callbacks see the end of the epoch, so no checkpoint is overwritten. `DensityModel.fit` and `HybridModel.fit`
    add this callback.

    Raises:
      FloatingPointError: If the loss, the validation loss or a weight is not finite.
    """

    def on_train_begin(self, logs: dict | None = None):
        self._good, self._since = State(self.model), "before training"

    def on_train_batch_end(self, batch: int, logs: dict | None = None):
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            self._stop(f"The loss became {loss}", logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None):
        """Checks the validation loss, and the weights after the last update of the epoch."""
        loss = float((logs or {}).get("val_loss", 0.0))
        if not math.isfinite(loss):
            self._stop(f"The validation loss became {loss}", {k[4:]: v for k, v in logs.items() if k[:4] == "val_"})
        if not all(np.isfinite(weight.numpy()).all() for weight in self.model.trainable_variables):
            self._stop("A weight became NaN or infinite", {})
        self._good, self._since = State(self.model), f"after epoch {epoch + 1}"

    def _stop(self, what, logs):
        step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        of = getattr(self.model, "density_of", "x")
        if not math.isfinite(float(logs.get(f"log_prob_{of}", 0.0))):
            part = f"log p({of})"
            cause = "the flow diverged (learning rate too high, or a batch with extreme inputs)"
        elif f"log_prob_{of}" in logs:
            part = "log p(y|x)"
            cause = "the head diverged (learning rate too high, or a label outside its support)"
        else:
            part = "training"
            cause = "the flow or the head diverged (learning rate too high, or extreme inputs or labels)"
        self._good.restore()
        raise FloatingPointError(
            f"{what} at step {step}, in {part}. Likely cause: {cause}. Lower the "
            "learning rate, set `clipnorm` on the optimizer, or check that batch's data. Training has stopped. Weights "
            f"and optimizer were restored to their state {self._since}; checkpoints of earlier epochs are unchanged."
        )
