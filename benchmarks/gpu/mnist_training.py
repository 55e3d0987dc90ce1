"""Trains the hybrid model of MNIST by `jax.lax.scan` over its exported step: `work`, a part of a run.

The number of steps follows from the card: the learning rate is a cosine of the time that has passed. An epoch is one
call. After an epoch with a loss that is not finite, training goes back to the last good one, at half the rate.
"""

import functools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.gpu import bundle
from benchmarks.gpu.augmentation import random_affine
from benchmarks.gpu.program import Program

WEIGHTS = "mnist_weights.npz"
WARM_UP_STEPS = 300
LAST_RATE = 0.01  # of the peak
RESERVE = 8.0  # seconds before the deadline in which the weights are written
REPORT_SECONDS, SAVE_SECONDS = 5.0, 60.0


def work(context):
    """Compiles, waits, trains, and writes the weights."""
    entry = context.bundle.manifest["mnist"]
    training = Training(context, entry)
    context.emit("compiled", module="mnist", loop=training.loop, compile_s=training.compile_s)
    context.wait()
    training.fit()


class Training:
    """The training of one model.

    Args:
      context: of the part.
      entry: of the model, in the bundle's manifest.
    """

    def __init__(self, context, entry):
        self._context, self._entry, self._settings = context, entry, entry["settings"]
        self._first = len(entry["inputs"])
        self._aliases = {int(argument): int(result) for argument, result in entry["aliases"].items()}
        self._program = Program(context.bundle.text(entry))
        with np.load(context.bundle.folder / bundle.MNIST_IMAGES) as data:
            self._data = jnp.asarray(data["x"]), jnp.asarray(data["y"])
        self.steps = len(self._data[0]) // self._settings["batch"]  # of an epoch
        self._weights = [jax.device_put(value) for value in context.bundle.values(entry)[self._first :]]
        self.loop, self._epoch, self.compile_s = self._compiled()

    def fit(self):
        """Trains until the time is over."""
        context, settings = self._context, self._settings
        seconds = min(settings["seconds"], context.remaining() - RESERVE)
        weights, good, key = self._weights, _copies(self._weights), jax.random.key(settings["seed"])
        peak, epoch, step, step_s, restarts = settings["learning_rate"], 0, 0, 0.0, 0
        started = reported = saved = time.time()
        epoch_times = []
        while True:
            elapsed = time.time() - started
            if epoch and elapsed + self.steps * step_s > seconds:
                break
            rates = self._rates(peak, step, elapsed, step_s, seconds)
            key, epoch_key = jax.random.split(key)
            before = [float(weights[i - self._first]) for pair in self._entry["metrics"].values() for i in pair]
            fraction = np.interp(elapsed / seconds, (0, 1), settings["augmented_fraction"])
            weights, losses = self._epoch(weights, *self._data, epoch_key, rates, jnp.float32(fraction))
            losses = np.asarray(losses)
            now = time.time()
            epoch_times.append(now - started - elapsed)
            step_s = float(np.median(epoch_times[-5:])) / self.steps
            if not np.isfinite(losses).all():
                restarts += 1
                context.emit("diverged", epoch=epoch, step=step, learning_rate=peak, restarts=restarts)
                if restarts > 5:
                    break
                weights, peak = _copies(good), peak / 2
                epoch += 1
                continue
            good = _copies(weights)
            epoch, step = epoch + 1, step + self.steps
            if now - reported > REPORT_SECONDS or epoch == 1 or context.quick:
                reported = now
                context.emit(
                    "training",
                    epoch=epoch,
                    step=step,
                    seconds=now - started,
                    loss=float(losses.mean()),
                    learning_rate=float(rates[-1]),
                    step_s=step_s,
                    **self._metrics(before, weights),
                )
            if now - saved > SAVE_SECONDS:
                saved = now
                self._save(good)
        self._save(good)
        context.emit(
            "trained",
            seconds=time.time() - started,
            epochs=epoch,
            steps=step,
            batch=settings["batch"],
            step_s=step_s,
            items_per_s=settings["batch"] / step_s if step_s else None,
            compile_s=self.compile_s,
            loop=self.loop,
            parameters=self._entry["parameters"],
            restarts=restarts,
        )

    def _rates(self, peak, step, elapsed, step_s, seconds):
        """The learning rates of the steps of the next epoch, float32."""
        i = np.arange(self.steps)
        done = np.minimum((elapsed + i * step_s) / seconds, 1.0)
        cosine = LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + np.cos(math.pi * done))
        return jnp.asarray(peak * cosine * np.minimum((step + i + 1) / WARM_UP_STEPS, 1.0), jnp.float32)

    def _metrics(self, before, weights):
        """Means over the epoch, from the model's own running sums."""
        sums = iter(before)
        found = {}
        for name, (total, count) in self._entry["metrics"].items():
            old_total, old_count = next(sums), next(sums)
            rows = float(weights[count - self._first]) - old_count
            found[name] = (float(weights[total - self._first]) - old_total) / rows if rows > 0 else None
        return found

    def _batch(self, images, labels, key, rows, fraction):
        x = images[rows].astype(jnp.float32)
        return random_affine(key, x, fraction, self._settings["shift"]), labels[rows]

    def _order(self, key, rows):
        return jax.random.permutation(key, rows)[: self.steps * self._settings["batch"]].reshape(self.steps, -1)

    def _with_rate(self, weights, rate):
        position = self._entry["learning_rate"] - self._first
        return [rate if i == position else weight for i, weight in enumerate(weights)]

    def _updated(self, weights, results):
        first, aliases = self._first, self._aliases
        return [results[aliases[i + first]] if i + first in aliases else w for i, w in enumerate(weights)]

    def _compiled(self):
        """How an epoch is looped, the function of an epoch, and the seconds that its compilation took."""
        start = time.perf_counter()
        key, rates = jax.random.key(0), jnp.zeros(self.steps, jnp.float32)
        try:
            jitted = jax.jit(self._scanned_epoch, donate_argnums=0)
            epoch = jitted.lower(self._weights, *self._data, key, rates, jnp.float32(0)).compile()
            return "scan", epoch, time.perf_counter() - start
        except Exception as error:
            self._context.emit("fallback", what="mnist by scan", error=str(error)[:300])
        start = time.perf_counter()
        epoch = functools.partial(self._looped_epoch, self._program.executable(jax.devices()[0]), jax.jit(self._batch))
        return "executable", epoch, time.perf_counter() - start

    def _scanned_epoch(self, weights, images, labels, key, rates, fraction):
        order_key, key = jax.random.split(key)

        def body(weights, step):
            rows, step_key, rate = step
            x, y = self._batch(images, labels, step_key, rows, fraction)
            weights = self._with_rate(weights, rate)
            results = self._program.call(x, y, *weights)
            return self._updated(weights, results), results[0]

        keys = jax.random.split(key, self.steps)
        return lax.scan(body, list(weights), (self._order(order_key, len(images)), keys, rates))

    def _looped_epoch(self, execute, make_batch, weights, images, labels, key, rates, fraction):
        order_key, key = jax.random.split(key)
        losses = []
        for rows, step_key, rate in zip(
            self._order(order_key, len(images)), jax.random.split(key, self.steps), rates, strict=True
        ):
            x, y = make_batch(images, labels, step_key, rows, fraction)
            results = execute([x, y, *self._with_rate(weights, rate)])
            weights = self._updated(weights, results)
            losses.append(results[0])
        return weights, jnp.stack(losses)

    def _save(self, weights):
        """Writes the Keras weights, in the order of `model.weights`."""
        chosen = {f"w{k}": np.asarray(weights[i - self._first]) for k, i in enumerate(self._entry["weights"]) if i >= 0}
        temporary = self._context.out / f"new_{WEIGHTS}"
        np.savez(temporary, **chosen)
        temporary.replace(self._context.out / WEIGHTS)


def _copies(weights):
    return [jnp.array(weight, copy=True) for weight in weights]
