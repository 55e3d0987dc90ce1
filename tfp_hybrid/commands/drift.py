"""Testing a file of inputs, as a whole, for drift."""

import dataclasses
import os
import pathlib

from tfp_hybrid.commands.inputs import read_inputs
from tfp_hybrid.commands.saved import load_model, load_rejector
from tfp_hybrid.uncertainty import drift as tests
from tfp_hybrid.uncertainty import pictures


def drift(
    model: str | os.PathLike,
    file: str | os.PathLike,
    *,
    significance: float = 0.05,
    picture: str | os.PathLike | None = None,
) -> dict:
    """Tests whether the inputs in a file, as a whole, look like held-out training rows.

    They are compared by the rejector's score of each input: -log p(x), after `train`. KS compares the distributions of
    the scores, typicality their means. The tests see scores only: inputs from another population that are as likely
    pass.

    Args:
      model: the folder of a run, or a file with a saved rejector.
      file: inputs, `.npz` with an array x, `.csv` or `.parquet`.
      significance: false-alarm rate; a lower p-value is called drift.
      picture: a `.png`, `.svg` or `.pdf` file for the two distributions; None draws nothing.

    Returns:
      "score": title of the score; "reference_rows" and "rows": numbers of held-out and of new inputs; "tests": for
      each test a dict with "name", "statistic", "p_value", "effect_size" and "drifted".

    Raises:
      ValueError: for files that cannot be read or written, and inputs that the model cannot take.
    """
    picture = None if picture is None else pathlib.Path(picture)
    if picture is not None and picture.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--picture {picture} ends in {picture.suffix!r}; wanted .png, .svg or .pdf.")
    if picture is not None and not picture.parent.is_dir():
        raise ValueError(f"--picture {picture}: there is no folder {picture.parent}.")
    if not 0 <= significance <= 1:
        raise ValueError(f"--significance is {significance}; wanted a rate, 0 to 1.")
    loaded, metrics = load_model(model)
    rejector = load_rejector(model, loaded)
    if rejector is None:
        raise ValueError(f"{model} has no rejector with a reference; wanted a run's folder, or a saved Rejector.")
    new = rejector.score.score(loaded, read_inputs(file, loaded, metrics.get("feature_names")))
    answers = [tests.ks_test(rejector.reference, new), tests.typicality_test(rejector.reference, new)]
    if picture is not None:
        pictures.save(pictures.drift_picture(rejector.reference, new, rejector.score.title), picture)
    return {
        "score": rejector.score.title,
        "reference_rows": len(rejector.reference),
        "rows": len(new),
        "tests": [dataclasses.asdict(test) | {"drifted": test.drifted(significance)} for test in answers],
    }
