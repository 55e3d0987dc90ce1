"""What a model says over several draws of the noise that its flow adds to x."""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.bijectors.noise import RowNoise
from tfp_hybrid.models.encoding import Encoding, encode_batches


def log_probs(model, x, batch_size: int | None, draws: int) -> np.ndarray:
    """Computes `DensityModel.log_prob`."""
    found = []
    for passes in _passes(model, x, batch_size, draws):
        of_draws = [one.log_prob for one in passes]
        found.append(tf.reduce_logsumexp(of_draws, 0) - math.log(len(of_draws)))
    return np.concatenate(found)


def predictions(model, x, batch_size: int | None, draws: int, verbose="auto") -> np.ndarray:
    """Computes `HybridModel.predict` with several draws."""
    bar, found = keras.utils.Progbar(None, verbose=1 if verbose == "auto" else verbose), []
    for passes in _passes(model, x, batch_size, draws):
        found.append(tf.reduce_mean([model.head.mean(one.p_y) for one in passes], 0))
        bar.add(1)
    bar.update(len(found), finalize=True)  # which ends the line
    return np.concatenate(found)


def _passes(model, x, batch_size, draws) -> Iterator[Iterator[Encoding]]:
    """Yields for each batch its passes with several draws of the flow's noise; one pass of a flow without noise.

    A pass is made when it is asked for, so that memory holds the latents of one draw.
    """
    arguments.check_count(draws, "draws")
    noisy = [part for part in model.distribution.submodules if isinstance(part, RowNoise)]
    for batch in encode_batches(model, x, batch_size):  # once, since a data set may give other rows the next time
        yield itertools.chain([batch], (_again(batch, noisy, draw) for draw in range(1, draws if noisy else 1)))


def _again(batch, noisy, draw):
    """The pass of the same inputs with another draw of the noise."""
    with contextlib.ExitStack() as stack:
        for part in noisy:
            stack.enter_context(part.draw(draw))
        found = batch.model.encode_checked(batch.with_condition(batch.x))
    return dataclasses.replace(found, side=batch.side)
