"""The report of a run, a self-contained HTML file with tables and pictures."""

import dataclasses
import pathlib

import jinja2
import matplotlib.figure
import numpy as np

from tfp_hybrid import files
from tfp_hybrid.commands import predictions
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
    "abstains": "abstains",
}


def write(
    path: pathlib.Path,
    model: HybridModel,
    dataset: Dataset,
    metrics: dict,
    history: dict[str, list[float]],
    test: Predictions,
    outside: dict[str, Predictions],
    ood_sets: dict[str, np.ndarray],
    threshold: float,
):
    """Writes the report.

    Args:
      path: Path of the HTML file.
      model: The trained `HybridModel`, from which samples are drawn.
      dataset: The `Dataset`.
      metrics: Content of `metrics.json`.
      history: Columns of the training history.
      test: `Predictions` for the test rows, whose only score is the rejector's.
      outside: The same for each out-of-distribution set, by name.
      ood_sets: The inputs of each out-of-distribution set, by name.
      threshold: The score above which the rejector abstains.
    """
    sets = {f"{dataset.name} (test)": test} | outside
    drawn = [
        Picture(
            "How unusual the inputs are",
            f"The score ({metrics['score']}) of test rows and of out-of-distribution inputs.",
            pictures.score_histograms({name: _score(answers) for name, answers in sets.items()}, threshold),
        ),
        Picture(
            "Density of the inputs",
            "log p(x) of test rows and of out-of-distribution inputs.",
            pictures.log_prob_histograms({name: answers.log_prob_x for name, answers in sets.items()}),
        ),
        *_examples(dataset, test, outside, ood_sets, threshold),
        reliability_picture(model, dataset, test),
        Picture(
            "Samples",
            "Inputs drawn from the model's p(x).",
            _samples(model, dataset, metrics["config"]["seed"]),
        ),
        Picture(
            "Learning curves",
            "Training curves are means over each epoch. Validation curves are for held-out rows.",
            pictures.learning_curves(history),
        ),
    ]
    trust = [trusted("test rows", dataset, test, threshold, dataset.test[1])]
    trust += [trusted(name, dataset, answers, threshold) for name, answers in outside.items()]
    shown = {"pictures": drawn, "trust": trust, "threshold": threshold}
    files.write(path, render("report.html.jinja", metrics, **shown))


def render(template: str, metrics: dict, **shown) -> str:
    """Returns the page that a template makes from the metrics and further values."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("tfp_hybrid.commands", "."), autoescape=True)
    return environment.get_template(template).render(metrics, labels=_LABELS, percent=percent, **shown)


@dataclasses.dataclass
class Picture:
    """A figure with its title and caption."""

    title: str
    caption: str
    figure: matplotlib.figure.Figure

    @property
    def svg(self):
        """The figure as the text of an SVG element."""
        return pictures.svg(self.figure)


def percent(fraction: float) -> str:
    """Formats a fraction in percent, which is 0 or 100 only if it is none or all."""
    if 0 < fraction < 1:
        return f"{np.clip(100 * fraction, 0.1, 99.9):.1f} %"
    return f"{100 * fraction:.0f} %"


def _score(predicted):
    return predicted.scores[:, 0]


def trusted(name: str, dataset: Dataset, predicted: Predictions, threshold: float, y=None) -> dict:
    """Returns the fraction of a set on which the rejector abstains, and the error (or RMSE) of the rest."""
    kept = _score(predicted) <= threshold
    row = {"name": name, "abstains": 1 - kept.mean(), "error": None, "unit": None}
    if y is None or not kept.any():
        return row
    if dataset.task == "classification":
        wrong = predictions.labels(predicted.mean[kept]) != y[kept]
        return row | {"error": wrong.mean(), "unit": "%"}
    return row | {"error": np.sqrt(np.mean((predicted.mean[kept] - y[kept]) ** 2)), "unit": "RMSE"}


def _examples(dataset, test, outside, ood_sets, threshold, count=6):
    """Yields a picture of the first images of each set, with the answers to them; none for columns and regression."""
    if dataset.feature_names is not None or dataset.task != "classification":
        return
    images = {"test": dataset.test[0]} | ood_sets
    answers = {"test": test} | outside
    scores = {name: _score(predicted)[:count] for name, predicted in answers.items()}
    texts = {
        name: [f"{p.argmax()} ({p.max():.0%})" for p in predicted.mean[:count]] for name, predicted in answers.items()
    }
    images = {name: x[:count] for name, x in images.items()}
    yield Picture(
        "What it answers",
        "The first inputs of each set, with the most probable class and its probability above, and the score below.",
        pictures.answers(images, texts, scores, threshold, dataset.quantization_levels),
    )


def _samples(model, dataset, seed):
    names = dataset.feature_names
    if names is None:
        return pictures.image_grid(model.sample(40, seed)["x"], dataset.quantization_levels)
    return pictures.column_histograms(dataset.test[0], model.sample(2000, seed)["x"].numpy(), names)


def reliability_picture(model: HybridModel, dataset: Dataset, test: Predictions) -> Picture:
    """Returns a reliability diagram of a classifier, or a coverage diagram of a regressor."""
    title = "Reliability"
    if dataset.task == "classification":
        caption = "Accuracy on test rows against the model's confidence, with 95 % intervals, and the rows in each bin."
        curve = classification.reliability(test.mean, dataset.test[1], bins=10)
        return Picture(title, caption, pictures.reliability_diagram({"model": curve}))
    caption = "Fraction of test rows in the central predictive interval of each level."
    x, y = dataset.test
    return Picture(title, caption, pictures.coverage_diagram({"model": model.predict_distribution(x)[0]}, y))
