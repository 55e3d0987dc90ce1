"""MNIST against NotMNIST (section 3.1): a Glow with several values of lambda."""

import dataclasses
import functools

import keras
import matplotlib.figure
import numpy as np

from paper import published
from paper.results import Job, Place, Result, histograms
from tfp_hybrid import bijectors, datasets, heads, recipes
from tfp_hybrid.bijectors import Background
from tfp_hybrid.commands import predictions
from tfp_hybrid.commands.fitting import Config
from tfp_hybrid.commands.tables import MEASURED, PUBLISHED, Table, number
from tfp_hybrid.datasets import outliers
from tfp_hybrid.datasets.manual import PathLike
from tfp_hybrid.uncertainty.pictures import styled

TITLE = "MNIST and NotMNIST"
TRAINING = (
    "The models were trained on augmented images. The softmax weights have a fixed standard deviation of {stddev} "
    "(also that of their prior), which lowers the confidence for out-of-distribution images."
)
ABOUT = (
    "The model is a Glow with two levels of eight steps and 64 hidden channels, with softmax regression on its z. All "
    "models are trained in the same way, except for lambda, the seed, and the number of epochs: 12, or 20 where the "
    "background is stretched. D = 784. The settings were chosen on held-out training images and on letters rendered "
    "from fonts. After a first model's AUROC on NotMNIST was seen (0.988; 10 epochs, three quarters of the images "
    "augmented), they were changed to 12 epochs and half of the images. In the result files of lambda = 0.01/D, seeds "
    "0 and 1, the sizes of the flow were added later."
)
STRETCHED = ", background stretched"
FRONT_NOTE = (
    "Where the background is stretched, a first bijector maps level 0, the value of four out of five pixels, to a "
    "standard normal. On a linear scale, the flow has to learn this for each pixel."
)
PIXELS = 28 * 28
OOD = {"not_mnist": "NotMNIST", "fashion_mnist": "FashionMNIST"}
# Seeds by lambda times D. Table 1 of the paper has the first two values of lambda; the front has all of them.
WEIGHTS = {0.0: (0, 1, 2), 0.01: (0, 1, 2), 0.1: (0,), 1.0: (0,), 10.0: (0,)}
# The same for models whose flow begins with `Background`, which are trained for more epochs.
BACKGROUND_WEIGHTS = {1.0: (0,)}
EPOCHS, BACKGROUND_EPOCHS = 12, 20
TABLE_1 = (0.0, 0.01)
WEIGHT_STDDEV = 0.135
AUGMENTATION = ("levels", "fraction", "shift")
FLOW = {"levels": 2, "steps": 8, "hidden_units": 64}
QUICK_FLOW = {"levels": 2, "steps": 1, "hidden_units": 4}
NEEDED = {f"lambda_{weight:g}_seed_0" for weight in TABLE_1}


def recipe_for(dataset: datasets.Dataset, quick: bool = False, background: bool = False) -> recipes.Recipe:
    """Returns the recipe of all models here, except for lambda.

    Args:
      dataset: The data set.
      quick: Whether to make a trial run with a tiny model.
      background: Whether the flow begins with `Background`.
    """
    return dataclasses.replace(
        recipes.recipe_for(dataset),
        flow=functools.partial(_flow, background=background, **(QUICK_FLOW if quick else FLOW)),
        epochs=1 if quick else BACKGROUND_EPOCHS if background else EPOCHS,
        batch_size=64,
        head=_head,
    )


def _flow(dataset, background, **options):
    shape, levels = dataset.test[0].shape[1:], dataset.quantization_levels
    if not background:
        return bijectors.Glow(shape, quantization_levels=levels, **options)
    glow = bijectors.Glow(shape, quantization_levels=None, **options)
    return bijectors.FusedChain([bijectors.Dequantize(shape, levels), Background(shape), glow], shape)


def _head(dataset):
    """Returns softmax regression with weights from Normal(M, s^2) and the prior Normal(0, s^2) on M."""
    prior = keras.regularizers.L2(1 / (2 * len(dataset.train[0]) * WEIGHT_STDDEV**2))
    return heads.Categorical(dataset.num_classes, weight_stddev=WEIGHT_STDDEV, kernel_regularizer=prior)


def jobs(place: Place, data_dir: PathLike | None = None) -> dict[str, Job]:
    """Returns a job for each lambda and seed, or for some of them in a quick run."""
    dataset, ood_sets = load(place, data_dir)
    settings = {
        "data": dataset.description,
        "rows": [len(y) for _, y in (dataset.train, dataset.validation, dataset.test)],
        "flow": QUICK_FLOW if place.quick else FLOW,
        "weight_stddev": WEIGHT_STDDEV,
    }
    found = {}
    for background, weights in ((False, WEIGHTS), (True, BACKGROUND_WEIGHTS)):
        recipe = recipe_for(dataset, place.quick, background)
        own = (
            settings
            | {"augment": {name: getattr(recipe.augment, name) for name in AUGMENTATION}}
            | ({"background": True} if background else {})
        )
        if place.quick:
            weights = {1.0: (0,)} if background else {0.0: (0,), 0.01: (0, 1), 1.0: (0,)}
        for weight, seed in ((weight, seed) for weight, seeds in weights.items() for seed in seeds):
            name = result_name(weight, seed, background)
            config = Config("mnist", generative_weight=weight / PIXELS, seed=seed, ood=()).complete(recipe)
            measure = functools.partial(measured, place, name, dataset, ood_sets, recipe, config)
            found[name] = Job(dataclasses.asdict(config) | own, measure)
    return found


def load(place: Place, data_dir: PathLike | None = None) -> tuple[datasets.Dataset, dict[str, tuple]]:
    """Returns MNIST and the out-of-distribution sets, or a few rows of each for a quick run."""
    dataset = datasets.load("mnist", data_dir=data_dir)
    ood_sets = {name: outliers.load_outliers(name, dataset, data_dir) for name in OOD}
    if place.quick:
        parts = {"train": 640, "validation": 100, "test": 200}
        dataset = dataclasses.replace(
            dataset, **{part: tuple(column[:rows] for column in getattr(dataset, part)) for part, rows in parts.items()}
        )
        ood_sets = {name: (x[:200], y[:200]) for name, (x, y) in ood_sets.items()}
    return dataset, ood_sets


def result_name(weight: float, seed: int, background: bool = False) -> str:
    """Returns the name of the model with lambda = weight/D."""
    return f"{'background_' if background else ''}lambda_{weight:g}_seed_{seed}"


def tables(results: dict[str, Result]) -> list[Table]:
    """Returns Table 1 of the paper and the table of the front."""
    return [*_tables_1(results), _front_table(results)]


def pictures(results: dict[str, Result]) -> dict[str, tuple[matplotlib.figure.Figure, str]]:
    """Returns Fig. 2a of the paper and a picture of the front."""
    return {
        "mnist_log_prob_x": (
            _histograms(results),
            "log p(x) of test images and of out-of-distribution images for lambda = 0 and 0.01/D (seed 0), as in "
            "Fig. 2a of the paper.",
        ),
        "mnist_front": (
            _front(results),
            "Test error against bits/dim of test images for several values of lambda, which trades one for the other.",
        ),
    }


def measured(
    place: Place,
    name: str,
    dataset: datasets.Dataset,
    ood_sets: dict[str, tuple],
    recipe: recipes.Recipe,
    config: Config,
) -> dict:
    """Trains a model, and returns its metrics on validation, test and out-of-distribution images."""
    model, seconds = place.train(name, dataset, recipe, config)
    inside = {part: predictions.predict(model, *getattr(dataset, part), part) for part in ("test", "validation")}
    outside = {other: predictions.predict(model, *rows, other) for other, rows in ood_sets.items()}
    log_probs = {"mnist": inside["test"].log_prob_x}
    log_probs |= {other: answers.log_prob_x for other, answers in outside.items()}
    return {
        part: predictions.test_metrics(model, answers, getattr(dataset, part)[1]) for part, answers in inside.items()
    } | {
        "ood": {other: predictions.ood_metrics(inside["test"], answers) for other, answers in outside.items()},
        "log_prob_x": histograms(log_probs),
        "parameters": model.count_params(),
        "training_seconds": seconds,
    }


def _of(results, weight):
    """Returns the metrics of the models with lambda = weight/D."""
    names = [result_name(weight, seed) for seed in WEIGHTS[weight]]
    return [results[name].metrics for name in names if name in results]


def _fronts(results):
    """Yields the metrics of seed 0 by lambda times D, without and with `Background`."""
    for background, weights in ((False, WEIGHTS), (True, BACKGROUND_WEIGHTS)):
        names = {weight: result_name(weight, 0, background) for weight in weights}
        yield background, {weight: results[name].metrics for weight, name in names.items() if name in results}


def _tables_1(results):
    """Yields Table 1 of the paper, and a table of how well the density detects out-of-distribution images."""
    figures = published.MNIST
    cells = [number(figures["error"], 2, 100), number(figures["nll"], 3), "-", number(figures["not_mnist_nll"], 2)]
    cells += [number(figures["not_mnist_entropy"], 4), "-"]
    predicted, detected = [(_label(TABLE_1[-1]), PUBLISHED, cells)], []
    for weight in TABLE_1:
        found = _of(results, weight)
        by_set = {name: [metrics["ood"][name] for metrics in found] for name in OOD}
        cells = [
            number([metrics["test"]["error"] for metrics in found], 2, 100),
            number([metrics["test"]["nll"] for metrics in found], 4),
            number([metrics["test"]["bits_per_dim"] for metrics in found], 2),
            number([row["nll"] for row in by_set["not_mnist"]], 2),
            number([row["entropy"] for row in by_set["not_mnist"]], 3),
            number([metrics["training_seconds"] / 60 for metrics in found], 0),
        ]
        label = f"{_label(weight)}, {len(found)} seed{'s' if len(found) > 1 else ''}"
        predicted.append((label, MEASURED, cells))
        cells = [number([row[key] for row in rows], 4) for rows in by_set.values() for key in ("auroc", "fpr95")]
        detected.append((label, MEASURED, cells))
    columns = ("error [%]", "NLL [nats]", "bits/dim", "NotMNIST NLL", "NotMNIST entropy", "minutes of training")
    note = (
        f"Entries are means and standard deviations over seeds. {TRAINING.format(stddev=WEIGHT_STDDEV)} For the NLL, "
        f"NotMNIST's letters A to J count as the classes 0 to 9. Published: {published.SOURCE}."
    )
    yield Table("MNIST, as Table 1", columns, predicted, note)
    columns = tuple(f"{title} {metric}" for title in OOD.values() for metric in ("AUROC", "FPR95"))
    note = "FPR95 is the false positive rate at which 95 % of the out-of-distribution images are detected."
    yield Table("Detection of out-of-distribution images by -log p(x)", columns, detected, note)


def _front_table(results):
    rows = []
    for background, models in _fronts(results):
        for weight, metrics in models.items():
            cells = [number(metrics["test"]["error"], 2, 100), number(metrics["test"]["nll"], 4)]
            cells += [number(metrics["test"]["bits_per_dim"], 3)]
            cells += [number(metrics["ood"][name][key], 4) for key in ("auroc", "entropy") for name in OOD]
            cells.append(number(metrics["training_seconds"] / 60, 0))
            rows.append((_label(weight) + (STRETCHED if background else ""), MEASURED, cells))
    columns = ("error [%]", "NLL [nats]", "bits/dim")
    columns += tuple(f"{title} {key}" for key in ("AUROC", "entropy") for title in OOD.values())
    columns += ("minutes of training",)
    return Table("MNIST, the front over lambda, seed 0", columns, rows, FRONT_NOTE)


def _label(weight):
    return "lambda = 0" if weight == 0 else f"lambda = {weight:g}/D"


@styled
def _histograms(results):
    figure = matplotlib.figure.Figure(figsize=(10.4, 3.6))
    for axes, weight in zip(figure.subplots(1, 2), TABLE_1, strict=True):
        kept = _of(results, weight)[0]["log_prob_x"]
        for name, title in ({"mnist": "MNIST test"} | OOD).items():
            axes.stairs(kept[name]["histogram"], kept["edges"], fill=True, alpha=0.5, label=title)
        axes.set(
            title=_label(weight), xlabel="log p(x)  [nats], lower ones at the left edge", ylabel="fraction of images"
        )
        axes.locator_params(axis="x", nbins=5)
        axes.legend()
    return figure


@styled
def _front(results):
    figure = matplotlib.figure.Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    for background, models in _fronts(results):
        bits, errors = ([metrics["test"][key] for metrics in models.values()] for key in ("bits_per_dim", "error"))
        errors = 100 * np.array(errors)
        axes.plot(bits, errors, "o-", label=("lambda" + STRETCHED) if background else "lambda")
        for weight, *point in zip(models, bits, errors, strict=True):
            axes.annotate(f"{weight:g}/D" if weight else "0", point, textcoords="offset points", xytext=(6, 6))
    axes.set(xlabel="bits/dim of test images", ylabel="test error  [%]", ylim=(0, None), xscale="log")
    axes.set_xticks([1.5, 2, 3, 5, 10, 15], labels=["1.5", "2", "3", "5", "10", "15"])
    axes.set_xticks([], minor=True)
    axes.legend()
    return figure
