"""The report of a run, a self-contained HTML file with tables and pictures."""

import pathlib

import jinja2

from tfp_hybrid import files
from tfp_hybrid.commands.predictions import Predictions
from tfp_hybrid.datasets import Dataset
from tfp_hybrid.models import HybridModel
from tfp_hybrid.uncertainty import classification, pictures

REPORT = "report.html"
_LABELS = {
    "error": "error",
    "rmse": "RMSE",
    "nll": "−log p(y|x) [nats]",
    "log_prob_x": "log p(x) [nats]",
    "bits_per_dim": "bits/dim",
    "entropy": "entropy of p(y|x) [nats]",
}


def write(
    path: pathlib.Path,
    model: HybridModel,
    dataset: Dataset,
    metrics: dict,
    history: dict[str, list[float]],
    test: Predictions,
    outside: dict[str, Predictions],
):
    """Writes the report.

    Args:
      path: Path of the HTML file.
      model: The trained `HybridModel`, from which samples are drawn.
      dataset: The `Dataset`.
      metrics: Content of `metrics.json`.
      history: Columns of the training history.
      test: `Predictions` for the test rows.
      outside: `Predictions` for each out-of-distribution set, by name.
    """
    log_probs = {f"{dataset.name} (test)": test.log_prob_x}
    log_probs |= {name: answers.log_prob_x for name, answers in outside.items()}
    drawn = [
        ("Learning curves", "Training curves are means over each epoch. Validation curves are for held-out rows.")
        + (pictures.learning_curves(history),),
        ("Density of the inputs", "log p(x) of test rows and of out-of-distribution inputs.")
        + (pictures.log_prob_histograms(log_probs),),
        ("Samples", "Inputs drawn from the model's p(x).") + (_samples(model, dataset, metrics["config"]["seed"]),),
        _reliability(model, dataset, test),
    ]
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("tfp_hybrid.commands", "."), autoescape=True
    ).get_template("report.html.jinja")
    images = [{"title": t, "caption": c, "png": pictures.png(figure)} for t, c, figure in drawn]
    files.write(path, template.render(metrics, labels=_LABELS, figures=images))


def _samples(model, dataset, seed):
    names = dataset.feature_names
    if names is None:
        return pictures.image_grid(model.sample(40, seed)["x"], dataset.quantization_levels)
    return pictures.column_histograms(dataset.test[0], model.sample(2000, seed)["x"].numpy(), names)


def _reliability(model, dataset, test):
    title = "Reliability"
    if dataset.task == "classification":
        caption = "Accuracy on test rows against the model's confidence, in ten groups of equal size."
        curve = classification.reliability(test.mean, dataset.test[1], bins=10, strategy="mass")
        return title, caption, pictures.reliability_diagram({"model": curve})
    caption = "Fraction of test rows in the central predictive interval of each level."
    x, y = dataset.test
    return title, caption, pictures.coverage_diagram({"model": model.predict_distribution(x)[0]}, y)
