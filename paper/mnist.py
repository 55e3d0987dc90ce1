"""MNIST against NotMNIST (section 3.1): a Glow at several lambdas."""

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
from tfp_hybrid.uncertainty.pictures import styled

TITLE = "MNIST and NotMNIST"
TRAINING = (
    "Trained on moved images, with a softmax whose weights have a standard deviation of {stddev} (chosen, as that of "
    "their prior), which lowers the confidence in foreign images."
)
ABOUT = (
    "A Glow of two levels of eight steps with 64 hidden channels, and softmax regression on its z. All models are "
    "trained alike, but for lambda and the seed, and 20 epochs where the background is stretched. D = 784. The "
    "settings were chosen by held-out training images and by letters drawn from fonts; after a first model's AUROC on "
    "NotMNIST (0.988, 10 epochs, three quarters of the images moved) it became 12 epochs and half of the images. In "
    "the files of lambda = 0.01/D, seeds 0 and 1, the flow's sizes were entered afterwards."
)
STRETCHED = ", background stretched"
FRONT_NOTE = (
    "Where the background is stretched, a first bijector makes level 0 of a pixel, which four of five have, standard "
    "normal; on a linear scale the flow has to learn that for each pixel."
)
PIXELS = 28 * 28
FOREIGN = {"not_mnist": "NotMNIST", "fashion_mnist": "FashionMNIST"}
# lambda times D, and the seeds: Table 1 of the paper has the first two, the front has all.
WEIGHTS = {0.0: (0, 1, 2), 0.01: (0, 1, 2), 0.1: (0,), 1.0: (0,), 10.0: (0,)}
# Those of models whose flow begins with `Background`, which are trained for longer.
BACKGROUND_WEIGHTS = {1.0: (0,)}
EPOCHS, BACKGROUND_EPOCHS = 12, 20
TABLE_1 = (0.0, 0.01)
WEIGHT_STDDEV = 0.135
FLOW = {"levels": 2, "steps": 8, "hidden_units": 64}
QUICK_FLOW = {"levels": 2, "steps": 1, "hidden_units": 4}
NEEDED = {f"lambda_{weight:g}_seed_0" for weight in TABLE_1}


def recipe_for(dataset, quick: bool = False, background: bool = False) -> recipes.Recipe:
    """How every model here is trained, but for lambda; with `background`, its flow begins with `Background`."""
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
    """Softmax regression with weights from Normal(M, s^2), and the prior Normal(0, s^2) on M."""
    prior = keras.regularizers.L2(1 / (2 * len(dataset.train[0]) * WEIGHT_STDDEV**2))
    return heads.Categorical(dataset.num_classes, weight_stddev=WEIGHT_STDDEV, kernel_regularizer=prior)


def jobs(place: Place, data_dir=None) -> dict[str, Job]:
    """A model of each lambda and seed; for a quick run of some."""
    dataset = datasets.load("mnist", data_dir=data_dir)
    foreign = {name: outliers.load_outliers(name, dataset, data_dir) for name in FOREIGN}
    if place.quick:
        parts = {"train": 640, "validation": 100, "test": 200}
        dataset = dataclasses.replace(
            dataset, **{part: tuple(column[:rows] for column in getattr(dataset, part)) for part, rows in parts.items()}
        )
        foreign = {name: (x[:200], y[:200]) for name, (x, y) in foreign.items()}
    settings = {
        "data": dataset.description,
        "rows": [len(y) for _, y in (dataset.train, dataset.validation, dataset.test)],
        "flow": QUICK_FLOW if place.quick else FLOW,
        "weight_stddev": WEIGHT_STDDEV,
    }
    found = {}
    for background, weights in ((False, WEIGHTS), (True, BACKGROUND_WEIGHTS)):
        recipe = recipe_for(dataset, place.quick, background)
        own = settings | {"augment": recipe.augment.keywords} | ({"background": True} if background else {})
        if place.quick:
            weights = {1.0: (0,)} if background else {0.0: (0,), 0.01: (0, 1), 1.0: (0,)}
        for weight, seed in ((weight, seed) for weight, seeds in weights.items() for seed in seeds):
            name = result_name(weight, seed, background)
            config = Config("mnist", generative_weight=weight / PIXELS, seed=seed, ood=()).complete(recipe)
            measure = functools.partial(_measured, place, name, dataset, foreign, recipe, config)
            found[name] = Job(dataclasses.asdict(config) | own, measure)
    return found


def result_name(weight: float, seed: int, background: bool = False) -> str:
    """Name of the model with lambda = weight/D."""
    return f"{'background_' if background else ''}lambda_{weight:g}_seed_{seed}"


def tables(results: dict[str, Result]) -> list[Table]:
    """Table 1 of the paper, and the front."""
    return [*_tables_1(results), _front_table(results)]


def pictures(results: dict[str, Result]) -> dict[str, tuple[matplotlib.figure.Figure, str]]:
    """Fig. 2a of the paper, and the front."""
    return {
        "mnist_log_prob_x": (
            _histograms(results),
            "log p(x) of test images and of foreign ones, lambda = 0 and 0.01/D (seed 0), as Fig. 2a of the paper.",
        ),
        "mnist_front": (
            _front(results),
            "Test error against bits/dim of test images, at several lambda, which trades one for the other.",
        ),
    }


def _measured(place, name, dataset, foreign, recipe, config):
    model, seconds = place.train(name, dataset, recipe, config)
    inside = {part: predictions.predict(model, *getattr(dataset, part), part) for part in ("test", "validation")}
    outside = {other: predictions.predict(model, *rows, other) for other, rows in foreign.items()}
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
    """The metrics of the models with lambda = weight/D."""
    names = [result_name(weight, seed) for seed in WEIGHTS[weight]]
    return [results[name].metrics for name in names if name in results]


def _fronts(results):
    """The metrics of seed 0 by lambda times D, without `Background` and with it."""
    for background, weights in ((False, WEIGHTS), (True, BACKGROUND_WEIGHTS)):
        names = {weight: result_name(weight, 0, background) for weight in weights}
        yield background, {weight: results[name].metrics for weight, name in names.items() if name in results}


def _tables_1(results):
    """Table 1 of the paper, and beside it how well the density finds foreign images."""
    figures = published.MNIST
    cells = [number(figures["error"], 2, 100), number(figures["nll"], 3), "-", number(figures["not_mnist_nll"], 2)]
    cells += [number(figures["not_mnist_entropy"], 4), "-"]
    predicted, detected = [(_label(TABLE_1[-1]), PUBLISHED, cells)], []
    for weight in TABLE_1:
        found = _of(results, weight)
        foreign = {name: [metrics["ood"][name] for metrics in found] for name in FOREIGN}
        cells = [
            number([metrics["test"]["error"] for metrics in found], 2, 100),
            number([metrics["test"]["nll"] for metrics in found], 4),
            number([metrics["test"]["bits_per_dim"] for metrics in found], 2),
            number([row["nll"] for row in foreign["not_mnist"]], 2),
            number([row["entropy"] for row in foreign["not_mnist"]], 3),
            number([metrics["training_seconds"] / 60 for metrics in found], 0),
        ]
        label = f"{_label(weight)}, {len(found)} seed{'s' if len(found) > 1 else ''}"
        predicted.append((label, MEASURED, cells))
        cells = [number([row[key] for row in rows], 4) for rows in foreign.values() for key in ("auroc", "fpr95")]
        detected.append((label, MEASURED, cells))
    columns = ("error [%]", "NLL [nats]", "bits/dim", "NotMNIST NLL", "NotMNIST entropy", "minutes of training")
    note = (
        f"Mean and standard deviation over seeds. {TRAINING.format(stddev=WEIGHT_STDDEV)} NotMNIST's letters A to J "
        f"count as the classes 0 to 9. Published: {published.SOURCE}."
    )
    yield Table("MNIST, as Table 1", columns, predicted, note)
    columns = tuple(f"{title} {metric}" for title in FOREIGN.values() for metric in ("AUROC", "FPR95"))
    note = "FPR95 is the false positive rate where 95 % of the foreign images are found."
    yield Table("Foreign images found by -log p(x)", columns, detected, note)


def _front_table(results):
    rows = []
    for background, models in _fronts(results):
        for weight, metrics in models.items():
            cells = [number(metrics["test"]["error"], 2, 100), number(metrics["test"]["nll"], 4)]
            cells += [number(metrics["test"]["bits_per_dim"], 3)]
            cells += [number(metrics["ood"][name][key], 4) for key in ("auroc", "entropy") for name in FOREIGN]
            cells.append(number(metrics["training_seconds"] / 60, 0))
            rows.append((_label(weight) + (STRETCHED if background else ""), MEASURED, cells))
    columns = ("error [%]", "NLL [nats]", "bits/dim")
    columns += tuple(f"{title} {key}" for key in ("AUROC", "entropy") for title in FOREIGN.values())
    columns += ("minutes of training",)
    return Table("MNIST, the front over lambda, seed 0", columns, rows, FRONT_NOTE)


def _label(weight):
    return "lambda = 0" if weight == 0 else f"lambda = {weight:g}/D"


@styled
def _histograms(results):
    figure = matplotlib.figure.Figure(figsize=(10.4, 3.6))
    for axes, weight in zip(figure.subplots(1, 2), TABLE_1, strict=True):
        kept = _of(results, weight)[0]["log_prob_x"]
        for name, title in ({"mnist": "MNIST test"} | FOREIGN).items():
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
