"""`drift`: tests a file of inputs for drift."""

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
    """Tests whether the inputs in a file are distributed like the held-out training rows.

    The tests compare the rejector's scores of the inputs, which are -log p(x) after `train`: the KS test compares the
    distributions of the scores, and the typicality test their means. Inputs from another population with the same
    scores are not detected.

    Args:
      model: Folder of a run, or file of a saved rejector.
      file: Inputs, in a `.npz` file with an array x, a `.csv` or a `.parquet` file.
      significance: False-alarm rate of each test. Drift is reported if the p-value is lower.
      picture: A `.png`, `.svg` or `.pdf` file for a picture of both distributions; None draws nothing.

    Returns:
      A dict with "score", the title of the score; "reference_rows" and "rows", the numbers of held-out and new inputs;
      and "tests", a list with a dict of "name", "statistic", "p_value", "effect_size" and "drifted" for each test.

    Raises:
      ValueError: If a file cannot be read or written, or the model cannot take the inputs.
    """
    picture = None if picture is None else pathlib.Path(picture)
    if picture is not None and picture.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--picture {picture} ends in {picture.suffix!r}; wanted .png, .svg or .pdf.")
    if picture is not None and not picture.parent.is_dir():
        raise ValueError(f"--picture {picture} cannot be written, because the folder {picture.parent} does not exist.")
    if not 0 <= significance <= 1:
        raise ValueError(f"--significance is {significance}; wanted a rate between 0 and 1.")
    loaded, metrics = load_model(model)
    rejector = load_rejector(model, loaded)
    if rejector is None:
        raise ValueError(
            f"{model} has no rejector with reference scores; wanted the folder of a run, or a saved Rejector."
        )
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
