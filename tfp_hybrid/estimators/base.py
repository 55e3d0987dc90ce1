"""`TableEstimator`, what the estimators have in common: a table in, a trained model, log p(x) of rows out."""

import contextlib
import functools
import pathlib
import random
import tempfile
import warnings

import keras
import numpy as np
import pandas as pd
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from tfp_hybrid import arguments, bijectors, networks
from tfp_hybrid.flows import flow_distribution
from tfp_hybrid.models import DensityModel, checks, side_inputs
from tfp_hybrid.tables import Columns, frames, infer_kinds

tfb = tfp.bijectors

_FEWEST_TO_HOLD_OUT = 20  # rows, of which a part is held out to stop
_MANY = 2000  # rows, from which on a classifier needs less regularization
_DROPOUT = 0.3  # of a classifier of few rows
_MUCH = 0.1  # nats for each entry of z
_ROWS = 1024  # of a batch of predictions
_NO_Y = "no_validation"  # as scikit-learn calls it
_ARRAYS = {"dtype": "float64", "ensure_all_finite": "allow-nan"}


class TableEstimator(BaseEstimator):
    """Trains a model of the columns of a table; a subclass sets the arguments as attributes, and has `fit`."""

    few_rows_overfit = False

    def _validated(self, X, y=_NO_Y, **options):
        """The table as a DataFrame, and y, `(n,)`; checked."""
        self.is_of_frame_ = _is_frame(X)
        if not self.is_of_frame_:
            made = validate_data(self, X, y, **options, **_ARRAYS)
            X, y = (made, None) if isinstance(y, str) else made
            return pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])]), y
        X = frames.as_frame(X, "X")
        validate_data(self, X, skip_check_array=True)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        if not isinstance(y, str):
            y = column_or_1d(y, warn=True)
            check_consistent_length(X, y)
            missing = pd.isna(y)
            if missing.any():
                raise ValueError(f"y has no value in row {int(missing.argmax())}; wanted one for each row.")
            y = y.astype(float) if options.get("y_numeric") else y
        return X, None if isinstance(y, str) else y

    def _train(self, make, X, y, sample_weight, side=None):
        """Trains a model until held-out rows have not got better for a while.

        Args:
          make: A function of p(x), the size of z and the number of training rows that returns the model.
          X: The columns of the density.
          y: The responses, or None.
          sample_weight: Their weights, or None.
          side: The side inputs of the model by name.

        Returns:
          The training rows and the held-out rows, each as inputs, responses and weights. If there are too few rows to
          hold some out, both are all rows.
        """
        if sample_weight is not None:
            sample_weight = checks.sample_weights(np.asarray(sample_weight), len(X), x_argument="X")
            if not sample_weight.any():
                raise ValueError("sample_weight is zero for all rows; wanted at least one positive weight.")
        rows, few = len(X), len(X) < _MANY and self.few_rows_overfit
        couplings = self.couplings if self.couplings is not None else 2 if few else 4
        units = self.hidden_units if self.hidden_units is not None else int(np.clip(np.sqrt(rows), 8, 64))
        counts = {"couplings": couplings, "hidden_units": units, "epochs": self.epochs, "patience": self.patience}
        counts |= {"draws": self.draws}
        for name, count in counts.items():
            arguments.check_count(count, name, least=0 if name == "patience" else 1)
        arguments.check_batch_size(self.batch_size)
        arguments.check_number(self.learning_rate, "learning_rate", 0, open=True)
        arguments.check_fraction(self.validation_fraction, "validation_fraction")
        chance = check_random_state(self.random_state)
        with _seeded(chance.randint(2**31 - 1)):
            order = chance.permutation(rows)
            held_out = int(round(self.validation_fraction * rows)) if rows >= _FEWEST_TO_HOLD_OUT else 0
            chosen = order[held_out:], order[:held_out]
            given = {str(name): kind for name, kind in (self.kinds or {}).items()}
            kinds = infer_kinds(X.loc[:, [str(name) not in given for name in X]], "X") | given
            # Levels are in the order of the responses of the training rows only, or they would tell of the others.
            at = chosen[0] if X.iloc[chosen[0]].notna().any().all() else order  # a column may be nearly empty
            learned_from, responses = X.iloc[at], None if y is None else y[at]
            columns = Columns.from_frame(learned_from, kinds, responses, "float64")
            x = columns.to_array(X, "X")
            flow = _flow(columns, couplings, units, _DROPOUT if few else 0.0)
            model = make(flow_distribution(flow), columns.latent_shape[0], len(chosen[0]))
            if side:
                x = checks.inputs({side_inputs.X: x} | side, model, "X", training=True)
            parts = [
                tuple(None if part is None else side_inputs.take(part, at) for part in (x, y, sample_weight))
                for at in chosen
            ]
            model.compile(keras.optimizers.Adam(self.learning_rate, clipnorm=10.0))
            monitor = "val_loss" if held_out else "loss"
            callbacks = [
                keras.callbacks.ReduceLROnPlateau(monitor, factor=0.3, patience=max(1, self.patience // 2)),
                keras.callbacks.EarlyStopping(monitor, patience=self.patience, restore_best_weights=True),
            ]
            options = {"validation_data": parts[1]} if held_out else {}
            batch_size = self.batch_size or int(np.clip(rows // 100, 16, 1024))
            history = model.fit(
                *parts[0][:2],
                sample_weight=parts[0][2],
                batch_size=batch_size,
                epochs=self.epochs,
                callbacks=callbacks,
                verbose=self.verbose,
                **options,
            ).history
        _warn_of_overfitting(history, columns.latent_shape[0])
        self.model_, self.columns_, self.n_iter_ = model, columns, len(history["loss"])
        self.held_out_ = chosen[1 if held_out else 0]
        return parts[0], parts[1 if held_out else 0]

    def _rows(self, X):
        check_is_fitted(self)
        side = list(self.model_.side_inputs)
        if _is_frame(X):
            return checks.inputs(frames.as_frame(X, "X"), self.model_, "X")
        if side:
            raise ValueError(f"X is a {type(X).__name__}; wanted a DataFrame, since {side} are names of columns.")
        return validate_data(self, X, reset=False, **_ARRAYS)

    def _passes(self, x):
        """Yields log p(x), `(n,)`, and what the head sees, `(n, d)`, of each draw of the noise."""
        for number in range(self.draws if self.columns_.is_random else 1):
            with self.columns_.draw(number):
                batches = [(batch.log_prob, batch.features) for batch in self.model_.encode_batches(x, _ROWS)]
            yield tuple(tf.concat(parts, 0) for parts in zip(*batches, strict=True))

    def score_samples(self, X):
        """Returns log p(x) of each row in nats, `(n,)`; higher is more usual."""
        return self._log_prob(self._rows(X))

    def _log_prob(self, x):
        log_prob = np.stack([log_prob for log_prob, _ in self._passes(x)])
        return scipy.special.logsumexp(log_prob, axis=0) - np.log(len(log_prob))

    def sample(self, n_samples=1, random_state=None):
        """Draws rows from p(x), `(n_samples, n_features)`: a DataFrame if `fit` was given one."""
        check_is_fitted(self)
        seed = check_random_state(random_state).randint(2**31 - 1)
        drawn = DensityModel.sample(self.model_, n_samples, seed)  # not `HybridModel.sample`, which draws y, too
        return self.columns_.to_frame(drawn) if self.is_of_frame_ else drawn.numpy()

    def __getstate__(self):
        state = super().__getstate__()
        if "model_" in state:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "model.keras"
                state["model_"].save(path)
                state = {key: value for key, value in state.items() if key != "columns_"}
                state["model_"] = path.read_bytes()
        return state

    def __setstate__(self, state):
        if "model_" in state:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "model.keras"
                path.write_bytes(state["model_"])
                model = keras.models.load_model(path)
                state = state | {"model_": model, "columns_": model.inputs_spec.columns}
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        tags.input_tags.allow_nan = True
        return tags


def _is_frame(X):
    return frames.is_frame(X) or hasattr(X, "__dataframe__")


def _flow(columns, couplings, units, dropout):
    size = columns.latent_shape[0]
    if size == 1:  # nothing to couple
        parts = [bijectors.ActNorm((1,), "float64"), bijectors.Spline((1,), dtype="float64")]
    else:
        options = {"hidden_units": (units, units), "activation": "tanh", "dropout": dropout, "dtype": "float64"}
        conditioner = functools.partial(networks.MLP, **options)
        parts = []
        for first in range(0, couplings, 2):
            pair = min(2, couplings - first)
            # Columns in the same half see each other only through the other half, so the halves change.
            parts += [tfb.Permute(_shuffled(size))] if first else []
            parts.append(bijectors.RealNVP(size, couplings=pair, conditioner=conditioner, dtype="float64"))
    return bijectors.FusedChain([columns, *parts], columns.event_shape)


def _shuffled(size):
    """The order in which every second entry comes first."""
    return np.concatenate([np.arange(0, size, 2), np.arange(1, size, 2)]).astype("int32")


def _warn_of_overfitting(history, size):
    """Warns if log p(x) of held-out rows was clearly better before, while that of the training rows rose."""
    if "val_log_prob_x" not in history or "log_prob_x" not in history:
        return
    stop = int(np.nanargmin(history["val_loss"]))
    held_out, trained = (np.array(history[name]) for name in ("val_log_prob_x", "log_prob_x"))
    best = int(np.nanargmax(held_out[: stop + 1]))
    fallen = held_out[best] - held_out[stop]
    if fallen > _MUCH * size and trained[stop] > trained[best]:
        warnings.warn(
            f"log p(x) of the held-out rows has fallen by {fallen:.3g} nats while that of the training rows rose, so "
            "the density overfits. Use a larger generative_weight, fewer couplings or fewer hidden_units.",
            stacklevel=4,
        )


@contextlib.contextmanager
def _seeded(seed):
    """Seeds Keras, and leaves the generators of Python and numpy as they were."""
    before = random.getstate(), np.random.get_state()
    try:
        keras.utils.set_random_seed(seed)
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
