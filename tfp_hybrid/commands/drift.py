"""`drift`: tests a file of inputs for drift."""

import dataclasses
import os
import pathlib

import numpy as np

from tfp_hybrid.commands import monitors
from tfp_hybrid.commands.inputs import read_inputs
from tfp_hybrid.models import DensityModel, side_inputs
from tfp_hybrid.serving.saved import load_model, load_rejector
from tfp_hybrid.tables import Date
from tfp_hybrid.tables.targets import Target
from tfp_hybrid.uncertainty import drift as tests
from tfp_hybrid.uncertainty import pictures
from tfp_hybrid.uncertainty.scores import NegativeLogProb, Score


def drift(
    model: str | os.PathLike,
    file: str | os.PathLike,
    *,
    reference: str | os.PathLike | None = None,
    classifier: bool = False,
    significance: float = 0.05,
    picture: str | os.PathLike | None = None,
) -> dict:
    """Tests whether the inputs in a file are distributed like held-out training rows, or two monitors are alike.

    With a file of such rows, `reference`, a `drift.DriftDetector` compares z, the scores, the predictions and the
    columns of the inputs with theirs.

    A run keeps only the scores of its held-out rows. So without `reference`, two tests compare the rejector's scores,
    the default one after `train`: the KS test compares their distributions, and the typicality test their means.
    Inputs from another population with the same scores are not detected.

    Two `.json` files of `uncertainty.Monitor` are compared without a model: the scores of the second with those of the
    first by the KS test, and the shares of abstentions.

    Args:
      model: Folder of a run, or file of a saved model or rejector; or of the monitor that is the reference.
      file: Inputs, in a `.npz` file with an array x, a `.csv` or a `.parquet` file; or a second monitor.
      reference: A file of inputs without drift that were not used in training, at best ten times as many; or None.
      classifier: Whether to train a classifier to distinguish the inputs from the reference, too.
      significance: False-alarm rate: of each test, or with `reference` of all tests together. Drift is reported if the
        p-value is lower.
      picture: A `.png`, `.svg` or `.pdf` file for a picture; None draws nothing. It shows both distributions of the
        score; or with `reference` how far each column moved, if the inputs are vectors; or of monitors their windows.

    Returns:
      A dict with "score", the title of the score; "reference_rows" and "rows", the numbers of held-out and new inputs;
      and "tests", a list with a dict of "name", "statistic", "p_value", "effect_size" and "drifted" for each test.
      With `reference`, "tests" and "columns" are lists with a dict for each row of the tables of `DriftReport`, and
      "p_value" and "drifted" are the result of all tests together. Means of dates are text, as in ISO 8601. For
      monitors, "monitors" is a list with the `Monitor.summary` of both, and "file".

    Raises:
      ValueError: If a file cannot be read or written, if the model cannot take the inputs, or if the monitors are of
        different rejectors.
    """
    picture = None if picture is None else pathlib.Path(picture)
    if picture is not None and picture.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--picture {picture} ends in {picture.suffix!r}; wanted .png, .svg or .pdf.")
    if picture is not None and not picture.parent.is_dir():
        raise ValueError(f"--picture {picture} cannot be written, because the folder {picture.parent} does not exist.")
    if not 0 <= significance <= 1:
        raise ValueError(f"--significance is {significance}; wanted a rate between 0 and 1.")
    if classifier and reference is None:
        raise ValueError("--classifier needs --reference; wanted a file of inputs that were held out.")
    paths = pathlib.Path(model), pathlib.Path(file)
    if any(map(monitors.is_monitor, paths)):
        if reference is not None:
            raise ValueError(
                f"--reference is {reference}; wanted none, since two monitors are compared with each other."
            )
        return monitors.compare(*paths, significance, picture)
    loaded, metrics = load_model(model)
    side_inputs.check_none(loaded, "drift")
    rejector = load_rejector(model, loaded)
    names, target = metrics.get("feature_names"), Target.from_metrics(metrics)
    new = read_inputs(file, loaded, names, target)
    if reference is not None:
        score = NegativeLogProb() if rejector is None else rejector.score
        before = read_inputs(reference, loaded, names, target)
        if names and loaded.feature_names is None and before.ndim == 2:
            loaded.feature_names = names
        return _against_reference(loaded, score, before, new, classifier, significance, picture)
    if rejector is None:
        raise ValueError(
            f"{model} has no rejector with reference scores; wanted the folder of a run, a saved Rejector, or "
            "--reference FILE."
        )
    scores = rejector.score.score(loaded, new)
    answers = [tests.ks_test(rejector.reference, scores), tests.typicality_test(rejector.reference, scores)]
    if picture is not None:
        pictures.save(pictures.drift_picture(rejector.reference, scores, rejector.score.title), picture)
    return {
        "score": rejector.score.title,
        "reference_rows": len(rejector.reference),
        "rows": len(scores),
        "tests": [dataclasses.asdict(test) | {"drifted": test.drifted(significance)} for test in answers],
    }


def _against_reference(
    model: DensityModel,
    score: Score,
    reference: np.ndarray,
    new: np.ndarray,
    classifier: bool,
    significance: float,
    picture: pathlib.Path | None,
) -> dict:
    report = tests.DriftDetector(model, [score]).fit(reference).test(new, classifier=classifier)
    if picture is not None:
        figure = (
            pictures.drift_columns(report, significance)
            if len(report.columns)
            else pictures.drift_picture(score.score(model, reference), score.score(model, new), score.title)
        )
        pictures.save(figure, picture)
    found = {"tests": report.tests, "columns": _with_dates(report.columns, model).reset_index()}
    return {
        "score": score.title,
        "reference_rows": report.reference_rows,
        "rows": report.rows,
        "p_value": report.p_value,
        "drifted": report.drifted(significance),
    } | {
        name: [row | {"drifted": row["corrected_p_value"] < significance} for row in table.to_dict("records")]
        for name, table in found.items()
    }


def _with_dates(table, model):
    """Returns the table of columns with the means of dates, in days since 1970, as ISO 8601."""
    columns = model.inputs_spec.columns
    means = ["reference_mean", "new_mean"]
    table = table.astype(dict.fromkeys(means, object)) if len(table) else table
    for column in () if columns is None else columns.columns:
        if isinstance(column.kind, Date):
            days = table.loc[column.name, means].to_numpy(float)
            table.loc[column.name, means] = column.kind.format(days, "object").fillna(np.nan).to_numpy(object)
    return table
