"""`Scorer`: a saved model as one picklable callable on tables."""

import dataclasses
import functools
import os
import threading
from collections.abc import Sequence

import numpy as np

from tfp_hybrid.models import DensityModel, checks, side_inputs
from tfp_hybrid.serving import saved, tables
from tfp_hybrid.serving.answers import Answers
from tfp_hybrid.tables import frames
from tfp_hybrid.tables.targets import Target

_LOADED = 4  # models, at most, that a process holds
_LOCK = threading.RLock()


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Maps a table of inputs to a table of answers, by a saved model.

    It is for engines that call a function on parts of a table in many processes, such as Ray, Spark, Beam and Dask: it
    is pickled as its path and settings alone, and the model is loaded at the first call in each process, once for all
    its scorers. All processes must find the model at the same path; one that finds another model there raises an error.

    The columns of the answers are "prediction", "probability", "uncertainty", "log_prob_x" and so on; see
    `serving.answers.Answers`. For a run on a table, predictions are the classes as they were there.

    Args:
      path: Folder of a run, or file of a saved `HybridModel`, `DensityModel` or `Rejector`.
      abstain_below: Percentile of the held-out rows, 0 to 100, below which to abstain; None uses the rejector's
        threshold.
      keep: Names of columns of the input that the answers repeat, such as a key of the rows: most engines do not keep
        the order of rows.

    Call arguments:
      table: A pandas DataFrame, a `pyarrow.Table` or `RecordBatch`, or a dict of arrays, with a column for each
        feature. Columns are found by name if the model knows their names, and are taken in their order otherwise (for
        images, row by row). The columns `keep` are inputs only if the model knows their names; the target of a run on a
        table is none. Whole inputs, such as images, are one array "x" of a dict, `(n, *input_shape)`, or a column "x"
        of lists of an Arrow table. Side inputs are the columns of their names.

    Returns:
      A table of the same kind, whose rows are in the order of the inputs: the columns `keep`, then the answers. A
      DataFrame has the same index.

    Raises:
      ValueError: If there is no model at `path`, or it was replaced since; or if the model cannot take the table.

    Attributes:
      digest: The checksum of the saved files.

    Example:

    >>> import pandas, tempfile
    >>> from tfp_hybrid import serving
    >>> model = HybridModel(flow_distribution(bijectors.RealNVP((2,))), heads.Categorical(3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.keras")
    ...     scorer = serving.Scorer(folder, keep=["id"])
    ...     list(scorer(pandas.DataFrame({"id": [7, 8], "width": [0.1, 0.2], "height": [1.0, 2.0]})))
    ['id', 'prediction', 'probability', 'uncertainty', 'log_prob_x']
    """

    path: str | os.PathLike
    abstain_below: float | None = None
    keep: Sequence[str] = ()
    digest: str = dataclasses.field(init=False, repr=False)

    def __post_init__(self):
        if self.abstain_below is not None and not 0 <= self.abstain_below <= 100:
            raise ValueError(f"abstain_below is {self.abstain_below}; wanted a percentile between 0 and 100.")
        if isinstance(self.keep, str) or not all(isinstance(name, str) for name in self.keep):
            raise ValueError(f"keep is {self.keep!r}; wanted a list of names of columns.")
        frames.check_once(list(self.keep), "keep")
        path = os.path.abspath(self.path)
        for name, value in {"path": path, "keep": tuple(self.keep), "digest": saved.digest(path)}.items():
            object.__setattr__(self, name, value)

    def __call__(self, table):
        x = self.inputs(table)
        if not side_inputs.count(x):
            return self._with_kept(table, self._empty)
        return self.finish(table, x, self.answers.compute(x))

    @property
    def answers(self) -> Answers:
        """The loaded model, which all scorers of the same files share in this process."""
        answers = self._loaded[0]
        if answers.rejector is None and self.abstain_below is not None:
            raise ValueError(
                f"abstain_below is {self.abstain_below}, but {self.path} has no rejector; wanted the folder of a run."
            )
        return answers

    @property
    def target(self) -> Target | None:
        """The response of a run on a table, which is no input; None for other models."""
        return self._loaded[1]

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """The names of the columns of the inputs; None if columns are taken in their order."""
        return self._loaded[2]

    def inputs(self, table) -> np.ndarray | dict[str, np.ndarray]:
        """Returns the checked inputs in a table, `(n, *input_shape)`; with side inputs, a dict unless there is no row.

        Raises:
          ValueError: If the model cannot take them.
        """
        present, model = tables.names(table), self.answers.model
        frames.check_once(present, "table")
        missing = [name for name in self.keep if name not in present]
        if missing:
            raise ValueError(f"table lacks the columns {missing} of `keep`; it has {present}.")
        side = list(model.side_inputs)
        if not set(side) <= set(present):
            missing = [name for name in side if name not in present]
            raise ValueError(f"table lacks the columns {missing}; wanted those of the side inputs, {side}.")
        known = () if self.feature_names is None else self.feature_names
        others = (*self.keep, None if self.target is None else self.target.name)
        chosen = [name for name in present if name not in side and (name in known or name not in others)]
        x = self._x(table, chosen, known)
        if not len(x):
            return np.empty((0, *(length or 1 for length in model.inputs_spec.shape)))
        if side:
            x = {side_inputs.X: x} | {name: self._beside(table, name) for name in side}
        return checks.inputs(x, model, "table")

    def _x(self, table, chosen, known):
        """The columns of x as an array, or as a DataFrame where a model of a table or no row has to be read."""
        spec = self.answers.model.inputs_spec
        if len(chosen) == 1 or ("x" in chosen and "x" not in known):
            x = tables.array(table, "x" if "x" in chosen else chosen[0], spec.shape)
            if x is not None:
                return x
        frame = tables.frame(table, chosen)
        if spec.columns is not None or not len(frame):
            return frame
        size = np.prod(spec.shape)
        if not known and len(chosen) != size:
            raise ValueError(f"table has {len(chosen)} columns; wanted {size} for inputs of {spec.shape}.")
        return frames.to_array(frame, known or None, "table").reshape(-1, *spec.shape)

    def _beside(self, table, name):
        """A side input of a table, `(n, ...)`."""
        shape = self.answers.model.side_inputs[name].shape
        if not shape.rank:
            return tables.frame(table, [name])[name].to_numpy()
        values = tables.array(table, name, tuple(shape))
        if values is None:
            raise ValueError(
                f"table: the column {name!r} holds no arrays of shape {tuple(shape)}; wanted a dict of arrays, or an "
                "Arrow table with a column of lists."
            )
        return values

    def finish(self, table, x: np.ndarray | dict, computed: dict[str, np.ndarray]):
        """Returns the answers about a table, from its inputs x and what `answers.compute` returned for them."""
        return self._with_kept(table, self.answers.table(x, computed, self.abstain_below))

    def _with_kept(self, table, answers):
        twice = [name for name in self.keep if name in answers]
        if twice:
            raise ValueError(f"keep is {list(self.keep)}, but {twice[0]!r} is a column of the answers; rename it.")
        return tables.like(table, self.keep, answers)

    @property
    def _loaded(self):
        with _LOCK:  # threads of one process wait for the first
            return _load(self.path, self.digest)

    @property
    def _empty(self):
        model, spec = self.answers.model, self.answers.model.inputs_spec
        x = np.zeros((1, *(length or 1 for length in spec.shape)), spec.stored_dtype("float32"))
        if model.side_inputs:
            side = {name: value.numpy() for name, value in model.example_side_inputs().items()}
            x = {side_inputs.X: x} | model.check_side_inputs(side)
        return {name: column[:0] for name, column in self.answers(x).items()}


@functools.lru_cache(_LOADED)
def _load(path, digest):
    if saved.digest(path) != digest:
        raise ValueError(f"{path} has another model than when the Scorer was made; make a new Scorer.")
    model, metrics = saved.load_model(path, DensityModel)
    rejector, target = saved.load_rejector(path, model), Target.from_metrics(metrics)
    answers = Answers(model, rejector, None if target is None else target.classes)
    names = model.feature_names or metrics.get("feature_names")
    return answers, target, None if names is None else tuple(names)
