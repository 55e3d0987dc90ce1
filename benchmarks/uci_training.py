"""Fits of one model on many divisions of a set, all with the same program, and stopped by held-out rows."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

Rows = tuple[np.ndarray, np.ndarray]


class Trainer:
    """Fits a hybrid model again and again; XLA compiles its steps once.

    Args:
      make: Makes a compiled `HybridModel`, whose optimizer is built.
      seeds: The seeds of the initial weights, one for each member of an ensemble.
      batch: The rows of a batch.
      steps_between_checks: How many steps pass between two looks at the held-out rows.
      checks: The most looks.
      patience: How many looks without a lower NLL end a fit.

    Attributes:
      model: The model, with the weights of the last fit.
    """

    def __init__(
        self,
        make: Callable[[], keras.Model],
        seeds: list[int],
        batch: int,
        steps_between_checks: int,
        checks: int,
        patience: int,
    ):
        self._batch, self._between, self._checks, self._patience = batch, steps_between_checks, checks, patience
        self._starts = []
        for seed in seeds:
            keras.utils.set_random_seed(seed)
            self.model = make()
            self._variables = [*self.model.variables, *self.model.optimizer.variables]
            self._starts.append([variable.numpy() for variable in self._variables])
        model = self.model

        @tf.function(jit_compile=True, autograph=False)
        def steps(x, y):
            def step(i):
                model.train_step((x[i], y[i]))
                return i + 1

            tf.while_loop(lambda i: i < steps_between_checks, step, [0])

        self._steps = steps
        self._latent = tf.function(lambda x: model.encode(x).features, autograph=False, reduce_retracing=True)

    def train(
        self,
        rows: Rows,
        held_out: Rows,
        member: int,
        rng: np.random.Generator,
        prepare: Callable[[keras.Model], None] = lambda model: None,
    ):
        """Fits the model to `rows`, and leaves it with the weights of the lowest NLL on `held_out`.

        Args:
          rows: x and y of the training rows.
          held_out: x and y of the rows that end the fit.
          member: The position of its initial weights in `seeds`.
          rng: Draws the batches, epoch by epoch.
          prepare: Sets what the model takes from the training rows; it is called with the initial weights.
        """
        for variable, value in zip(self._variables, self._starts[member], strict=True):
            variable.assign(value)
        prepare(self.model)
        x, y = rows
        trained = self.model.trainable_variables
        lowest, best, since = np.inf, [variable.numpy() for variable in trained], 0
        for _ in range(self._checks):
            count = self._between * self._batch
            epochs = [rng.permutation(len(y)) for _ in range(-(-count // len(y)))]
            chosen = np.concatenate(epochs)[:count].reshape(self._between, self._batch)
            self._steps(tf.constant(x[chosen]), tf.constant(y[chosen]))
            nll = -self.distribution(held_out[0]).log_prob(held_out[1]).numpy().mean()
            if nll < lowest:
                lowest, best, since = nll, [variable.numpy() for variable in trained], 0
            else:
                since += 1
            if since == self._patience or not np.isfinite(nll):
                break
        for variable, value in zip(trained, best, strict=True):
            variable.assign(value)

    def distribution(self, x: np.ndarray):
        """Returns p(y|x) of the model."""
        return self.model.head(self._latent(tf.constant(x)))
