"""A Keras model that checks its data before any work is done."""

import math
import warnings

import keras
import numpy as np

from tfp_hybrid import _compat, arguments, workers
from tfp_hybrid.callbacks.backup import resuming
from tfp_hybrid.callbacks.non_finite import StopOnNonFinite
from tfp_hybrid.callbacks.place import Follow
from tfp_hybrid.callbacks.state import State
from tfp_hybrid.models import checks, data_sets, feeding, metrics
from tfp_hybrid.models.sources import Source, encoded, source
from tfp_hybrid.serialization import check_savable


class CheckedModel(_compat.DistributedModel):
    """The entries of `keras.Model`, with the same arguments, on checked data.

    A subclass has what `feeding.Feed` asks a model for, `distribution`, `head`, `inputs_spec` and `feature_names`; what
    `sources.encoded` asks for; and its own loss, which `loss` names.
    """

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
        cache="memory",
        labelled_per_batch=None,
    ):
        """As `keras.Model.fit`; checks the data first, and adapts the flow to it unless that was done before.

        `sample_weight` and `class_weight` weigh a row's whole objective, log p(x) included. Arrays are checked row by
        row before any work is done. Of a data set, the first batch is checked before training (a Normal head takes the
        scale of y from it), and each later one in its turn: one that the model cannot be trained on raises an error
        with its number, and the weights stay as the batches before it have left them.

        The columns of a DataFrame give the model its `feature_names`, if it has none; otherwise they are matched by
        name.

        A frozen encoder runs once, not in every epoch: its outputs for all rows are cached, also for the validation
        data. `cache` says where: "memory"; a folder, which bounds the memory, and whose files serve the next `fit` with
        the same rows; or None, which runs the encoder on every batch. Finite data sets are cached, too: their rows are
        put in batches as large as the first, and shuffled if `shuffle`. A data set with random augmentation needs
        None, since its first pass would be all that the flow ever sees. Labels and weights stay in memory.

        With a `missing_label`, of arrays of which few rows have a label, `labelled_per_batch` puts that many of them in
        each batch. An epoch then goes once through the rows without a label, and over and over through those with one.

        If the loss or a weight becomes NaN or infinite, training stops with an error, and weights and optimizer go back
        to the last good epoch, or to the state before training if there is none. Checkpoints written before
        (`keras.callbacks.ModelCheckpoint`) stay as they are. A model that cannot be saved warns before it is trained.

        Raises:
          ValueError: For data, weights or batch sizes that the model cannot be trained on; if an encoder's outputs are
            NaN, or if its weights have changed since the density was fitted to its outputs, or since they were cached.
          FloatingPointError: If the loss becomes NaN or infinite.
        """
        self._check_compiled("fit")
        for count, argument in ((batch_size, "batch_size"), (validation_batch_size, "validation_batch_size")):
            arguments.check_batch_size(count, argument)
        feed = feeding.Feed(self, training=True, class_weight=class_weight)
        val_batch_size, held_out = validation_batch_size or batch_size, None
        if data_sets.is_array(x) and validation_split and validation_data is None:
            rows, last_rows = feed.split_rows(x, y, sample_weight, validation_split)
            train = Source(feed, rows, None, batch_size, shuffle)
            held_out = Source(feed, last_rows, None, val_batch_size)
        else:
            if not data_sets.is_array(x):
                feeding.check_alone(y, sample_weight, validation_split)
            train = source(feed, x, y, sample_weight, batch_size, shuffle)
        val_feed = feeding.Feed(self, suffix="_val", names=feed.names)
        if validation_data is not None:
            columns = tuple(validation_data) if isinstance(validation_data, list) else validation_data
            held_out = source(val_feed, *keras.utils.unpack_x_y_sample_weight(columns), val_batch_size)
        train.check_labels()
        if held_out is not None:
            held_out.check_labels("y_val")
        train = train.with_quota(labelled_per_batch)
        self._take_feature_names(feed.names)
        self.check_encoder()
        train, held_out = encoded(self, cache, train, held_out, (steps_per_epoch, validation_steps), verbose)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*(callbacks if isinstance(callbacks, (list, tuple)) else [callbacks] if callbacks else ())]
        steps = {
            "initial_epoch": initial_epoch,
            "steps_per_epoch": steps_per_epoch,
            "steps_per_execution": self.steps_per_execution,
        }
        settings = train.settings() | steps | self.objective_settings
        with resuming(callbacks, self, settings) as place, feed.errors(), val_feed.errors():
            self._adapt_if_new(*train.rows[:2])
            workers.agree(self.distribute_strategy, self.changing_variables)
            self.remember_encoder()
            self._warn_if_not_savable()
            first = [StopOnNonFinite()]
            if place is not None:
                first.insert(0, Follow(place, initial_epoch, steps_per_epoch))
                initial_epoch = max(initial_epoch, place.epoch)
                self.make_train_function(force=True)
                self.train_function = first[0].passing_over(self.train_function)
            _insert(callbacks, first, self)
            metrics.set_directions(callbacks, self)
            try:
                history = super().fit(
                    train.batches(place),
                    epochs=epochs,
                    verbose=verbose,
                    callbacks=callbacks,
                    validation_data=None if held_out is None else held_out.batches(),
                    shuffle=False,  # done
                    initial_epoch=initial_epoch,
                    steps_per_epoch=steps_per_epoch,
                    validation_steps=validation_steps,
                    validation_freq=validation_freq,
                )
            finally:
                if place is not None:
                    self.train_function = None  # the next training is another one
        self.check_encoder()
        return history

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
        **kwargs,
    ):
        """As `keras.Model.evaluate`; checks the data first, as `fit` does."""
        options = dict(verbose=verbose, steps=steps, callbacks=callbacks, return_dict=return_dict)
        if kwargs.get(_compat.CACHED_EVALUATION):  # from `fit`, which has checked it
            return super().evaluate(x, y, batch_size, sample_weight=sample_weight, **options, **kwargs)
        self._check_compiled("evaluate")
        arguments.check_batch_size(batch_size)
        self.check_encoder()
        feed = feeding.Feed(self)
        data = source(feed, x, y, sample_weight, batch_size)
        data.check_labels()
        with feed.errors():
            return super().evaluate(data.batches(), **options, **kwargs)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """As `keras.Model.predict`; checks the inputs first."""
        arguments.check_batch_size(batch_size)
        self.check_encoder()
        feed = feeding.Feed(self, inputs_only=True)
        data = source(feed, x, batch_size=batch_size)
        with feed.errors():
            return super().predict(data.batches(), None, verbose, steps, callbacks)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """As `keras.Model.train_on_batch`; checks the batch first.

        Raises:
          ValueError: For a batch that the model cannot be trained on.
          FloatingPointError: If the loss is NaN or infinite; weights and optimizer are then as they were before.
        """
        self._check_compiled("train_on_batch")
        feed = feeding.Feed(self, training=True, class_weight=class_weight)
        batch = feed.rows(x, y, sample_weight)
        self._take_feature_names(feed.names)
        self.check_encoder()
        self.remember_encoder()
        before = State(self)
        logs = super().train_on_batch(*batch, return_dict=return_dict)
        loss = logs["loss"] if return_dict else np.ravel(logs)[0]
        if not math.isfinite(loss):
            before.restore()
            raise FloatingPointError(f"The loss became {loss}; weights and optimizer are as before this batch.")
        return logs

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """As `keras.Model.test_on_batch`; checks the batch first."""
        self._check_compiled("test_on_batch")
        self.check_encoder()
        return super().test_on_batch(*feeding.Feed(self).rows(x, y, sample_weight), return_dict=return_dict)

    def predict_on_batch(self, x):
        """As `keras.Model.predict_on_batch`; checks the batch first."""
        self.check_encoder()
        return super().predict_on_batch(checks.inputs(x, self))

    def __call__(self, x, *args, **kwargs):
        return super().__call__(checks.tensor(x, self), *args, **kwargs)

    @property
    def objective_settings(self) -> dict:
        """What the objective depends on beside weights and data, as JSON; a training goes on only with the same."""
        return {}

    def _check_compiled(self, method):
        if not self.compiled:
            raise ValueError(f"{method}: the model is not compiled; call `compile` with an optimizer first.")
        if self._given_loss is not None:
            raise ValueError(f"{type(self).__name__} has its own loss, {self.loss}; compile it without `loss`.")

    def _warn_if_not_savable(self):
        """Warns once, before the first training, if the trained model could not be saved."""
        if not getattr(self, "_checked_if_savable", False):
            self._checked_if_savable = True
            try:
                check_savable(self)
            except (TypeError, NotImplementedError, ValueError) as error:
                reason = " ".join(str(error).split("Example:")[0].split())
                warnings.warn(f"`save` will not work: {reason} (`save_weights` keeps the weights.)", stacklevel=3)


def _insert(callbacks, first, model):
    """Puts `first` before the other callbacks."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        for callback in first:
            callback.set_model(model)
        callbacks = callbacks.callbacks
    callbacks[:0] = first
