"""The simulation: noise that depends on the input, and a gap in the inputs."""

import dataclasses

import keras
import matplotlib.figure
import numpy as np
import tensorflow_probability as tfp

from paper import gaussian_process
from paper.results import Job, Place, Result
from tfp_hybrid import datasets, recipes
from tfp_hybrid.commands.fitting import Config
from tfp_hybrid.commands.tables import MEASURED, TRUTH, Table, number
from tfp_hybrid.datasets.manual import PathLike
from tfp_hybrid.uncertainty import regression
from tfp_hybrid.uncertainty.pictures import styled

tfd = tfp.distributions

TITLE = "Simulation"
ABOUT = (
    "There is a single input, whose distribution has a gap, and the noise of the response grows with it. The Gaussian "
    "process has a learned kernel and the same noise for all inputs. The hybrid model has a spline as its flow and a "
    "heteroscedastic Normal on its z, and also gives p(x). There are 1,000 rows for training and 1,000 for testing, "
    "drawn from a known distribution."
)
SEED = 0
NEEDED = {"truth", "gaussian_process", "hybrid"}
GRID = np.linspace(-6, 6, 241)
GAP = (-0.5, 0.5)


def jobs(place: Place, data_dir: PathLike | None = None) -> dict[str, Job]:
    """Returns the jobs of the truth, the Gaussian process and the hybrid model."""
    dataset = datasets.load("simulation", seed=SEED)
    recipe = dataclasses.replace(recipes.recipe_for(dataset), generative_weight=1.0, epochs=5 if place.quick else 200)
    config = Config("simulation", seed=SEED, ood=()).complete(recipe)
    steps = 20 if place.quick else 300

    def truth():
        def distribution(x):
            return tfd.Normal(datasets.true_mean(x[:, 0]), datasets.true_stddev(x[:, 0]))

        return _measured(dataset, distribution) | {"log_prob_x": datasets.true_log_prob(GRID).tolist()}

    def process():
        keras.utils.set_random_seed(SEED)
        predict, parameters = gaussian_process.fit(*dataset.train, steps)
        return _measured(dataset, predict) | {"parameters": parameters}

    def hybrid():
        model, seconds = place.train("hybrid", dataset, recipe, config)
        log_prob = model.log_prob(GRID[:, np.newaxis].astype(np.float32))
        measured = _measured(dataset, lambda x: model.predict_distribution(x.astype(np.float32))[0])
        return measured | {"log_prob_x": np.asarray(log_prob, float).tolist(), "training_seconds": seconds}

    return {
        "truth": Job({"seed": SEED}, truth),
        "gaussian_process": Job({"seed": SEED, "steps": steps}, process),
        "hybrid": Job(dataclasses.asdict(config), hybrid),
    }


def tables(results: dict[str, Result]) -> list[Table]:
    """Returns a table of RMSE, NLL and CRPS."""
    truth, hybrid = results["truth"].metrics, results["hybrid"].metrics
    log_prob = np.array(hybrid["log_prob_x"])
    groups = min(log_prob[GRID < 0].max(), log_prob[GRID > 0].max())
    drop = groups - log_prob[(GRID > GAP[0]) & (GRID < GAP[1])].max()
    rows = [
        (label, source, [number(results[name].metrics[metric], 3) for metric in ("rmse", "nll", "crps")])
        for label, source, name in (
            ("truth", TRUTH, "truth"),
            ("Gaussian process", MEASURED, "gaussian_process"),
            ("hybrid, lambda = 1", MEASURED, "hybrid"),
        )
    ]
    note = (
        f"Relative to the truth, the hybrid's NLL differs by {hybrid['nll'] - truth['nll']:+.3f} nats "
        f"({100 * (hybrid['nll'] / truth['nll'] - 1):+.1f} %, which depends on the unit of y), and its CRPS by "
        f"{100 * (hybrid['crps'] / truth['crps'] - 1):+.1f} %. Its log p(x) falls by {drop:.1f} nats from the lower "
        f"peak of the two groups to the highest point in the gap, x in [{GAP[0]}, {GAP[1]}]."
    )
    return [Table("Simulation, 1,000 test rows", ("RMSE", "NLL [nats]", "CRPS"), rows, note)]


def pictures(results: dict[str, Result]) -> dict[str, tuple[matplotlib.figure.Figure, str]]:
    """Returns a picture of the predictions and the density."""
    caption = (
        "Left and middle: predictive mean with one and two standard deviations; the dashed lines are the mean and two "
        "standard deviations of the truth. Right: log p(x) of the hybrid and of the truth."
    )
    return {"simulation": (_panels(results), caption)}


@styled
def _panels(results):
    x, y = datasets.load("simulation", seed=SEED).train
    figure = matplotlib.figure.Figure(figsize=(12, 3.8))
    process, hybrid, density = figure.subplots(1, 3)
    for axes, name, title in (
        (process, "gaussian_process", "Gaussian process: p(y|x)"),
        (hybrid, "hybrid", "hybrid: p(y|x)"),
    ):
        mean, stddev = (np.array(results[name].metrics[key]) for key in ("mean", "stddev"))
        axes.plot(x[:, 0], y, ".", color="grey", markersize=2, alpha=0.5)
        for width in (1, 2):
            axes.fill_between(GRID, mean - width * stddev, mean + width * stddev, color="C0", alpha=0.2, linewidth=0)
        axes.plot(GRID, mean, color="C0")
        truth, noise = datasets.true_mean(GRID), datasets.true_stddev(GRID)
        for line in (truth, truth - 2 * noise, truth + 2 * noise):
            axes.plot(GRID, line, "--", color="black", linewidth=0.8)
        axes.set(title=title, xlabel="x", ylabel="y", xlim=(GRID[0], GRID[-1]), ylim=(-60, 60))
    density.plot(GRID, results["hybrid"].metrics["log_prob_x"], label="hybrid")
    density.plot(GRID, results["truth"].metrics["log_prob_x"], "--", color="black", linewidth=0.8, label="truth")
    density.axvspan(*GAP, color="C3", alpha=0.1, label="gap")
    density.set(title="hybrid: p(x)", xlabel="x", ylabel="log p(x)  [nats]", xlim=(GRID[0], GRID[-1]), ylim=(-20, 0))
    density.legend(loc="lower left")
    return figure


def _measured(dataset, predict):
    """Returns metrics of the test rows, and mean and standard deviation on the grid.

    Args:
      dataset: The data set.
      predict: A function from inputs `(n, 1)` to a `tfd.Normal`.
    """
    x, y = dataset.test
    bands = predict(GRID[:, np.newaxis])
    return regression.regression_metrics(predict(x), y) | {
        "mean": np.asarray(bands.mean(), float).tolist(),
        "stddev": np.asarray(bands.stddev(), float).tolist(),
    }
