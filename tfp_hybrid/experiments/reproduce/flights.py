"""Flight delays (section 3.2): hybrid models and other regressors on the same rows."""

import dataclasses
import functools

import keras
import matplotlib.figure
import numpy as np
import tensorflow_probability as tfp

from tfp_hybrid import datasets, heads
from tfp_hybrid.experiments import recipes
from tfp_hybrid.experiments.fitting import Config
from tfp_hybrid.experiments.flight_times import FlightTimes
from tfp_hybrid.experiments.reproduce import baselines
from tfp_hybrid.experiments.reproduce.results import Job, Place, Result, histograms
from tfp_hybrid.experiments.reproduce.tables import MEASURED, Table, number
from tfp_hybrid.experiments.scoring import MODEL
from tfp_hybrid.uncertainty import regression
from tfp_hybrid.uncertainty.pictures import styled

tfd = tfp.distributions

TITLE = "Flight delays"
ABOUT = (
    "Arrival delays in minutes from eight attributes of a flight. The flow is a RealNVP with an invertible linear map "
    "before each coupling; its first bijector counts the arrival from the departure, which is how every model here "
    "gets it."
)
SEED = 0
MEMBERS = 5
WEIGHT = 0.001
HYBRIDS = {  # the label, lambda, and the model whose flow it starts from, if any
    "hybrid_mixture": ("hybrid, mixture of three Normals", WEIGHT, None),
    "hybrid_normal": ("hybrid, Normal", WEIGHT, "hybrid_mixture"),
    "discriminative_mixture": ("lambda = 0, mixture of three Normals", 0.0, None),
    "discriminative_normal": ("lambda = 0, Normal", 0.0, "discriminative_mixture"),
}
BASELINES = {
    "constant": "constant",
    "least_squares": "least squares",
    "boosting": "gradient boosting of mean and variance",
    "network": "network, Normal",
    "ensemble": "ensemble of such networks",
}
NEEDED = HYBRIDS.keys() | BASELINES.keys()


def jobs(place: Place, data_dir=None) -> dict[str, Job]:
    """Hybrid models, those of lambda = 0, and the baselines."""
    dataset = datasets.load("flights", data_dir=data_dir)
    recipe = recipes.recipe_for(dataset)
    if place.quick:
        dataset = _shortened(dataset, 20_000, 2_000)
        flow = functools.partial(recipe.flow, couplings=2, hidden_units=(8,))
        recipe = dataclasses.replace(recipe, flow=flow, epochs=1)
    data = {"data": dataset.description, "rows": [len(y) for _, y in (dataset.train, dataset.validation, dataset.test)]}
    found = {}
    for name, (_, weight, start) in HYBRIDS.items():
        if start is None:
            changes = {"head": lambda dataset: heads.NormalMixture()}
        else:
            changes = {"flow": functools.partial(_flow_of, place, start), "epochs": max(1, recipe.epochs // 2)}
        chosen = dataclasses.replace(recipe, generative_weight=weight, **changes)
        config = Config("flights", seed=SEED, ood=()).complete(chosen)
        measure = functools.partial(_hybrid, place, name, dataset, chosen, config)
        found[name] = Job(dataclasses.asdict(config) | {"starts_from": start} | data, measure)
    return found | _baselines(place, dataset, data)


def tables(results: dict[str, Result]) -> list[Table]:
    """All models on the test rows, and the density of training and test rows."""
    names = BASELINES | {name: label for name, (label, *_) in HYBRIDS.items()}
    rows = [
        (
            label,
            MEASURED,
            [number(results[name].metrics[key], digits) for key, digits in _COLUMNS.values()]
            + [f"{_seconds(results, name) / 60:.1f}"],
        )
        for name, label in names.items()
    ]
    settings = results["ensemble"].settings
    note = (
        f"{settings['data']}: {settings['rows'][0]:,} training rows, {settings['rows'][2]:,} test rows. lambda is "
        f"{WEIGHT} where it is not 0. The models with a Normal start from the flows of those with a mixture. The "
        f"ensemble has {settings['members']} members. The paper's figures are of other rows, the year 2008, and so are "
        "not shown beside these."
    )
    columns = (*_COLUMNS, "minutes of training")
    return [Table("Flight delays, test rows", columns, rows, note), _density_table(results)]


def pictures(results: dict[str, Result]) -> dict[str, tuple[matplotlib.figure.Figure, str]]:
    """Densities of training and test rows (Fig. 2b of the paper)."""
    caption = (
        "log p(x) of training rows (until 2016) and of test rows (2017), as Fig. 2b of the paper, which is of other "
        "data. The lowest values are gathered at the left edge."
    )
    return {"flights_density": (_densities(results), caption)}


_COLUMNS = {
    "RMSE [min]": ("rmse", 2),
    "NLL [nats]": ("nll", 3),
    "CRPS [min]": ("crps", 2),
    "coverage of 90 % intervals": ("coverage90", 3),
}


def _seconds(results, name):
    """Of training, that of the model it starts from included; the ensemble's first member is the network."""
    before = {"ensemble": "network"} | {name: start for name, (*_, start) in HYBRIDS.items() if start}
    others = _seconds(results, before[name]) if name in before else 0.0
    return results[name].metrics.get("training_seconds", results[name].seconds) + others


def _density_table(results):
    rows = [
        (label, MEASURED, [number(results[name].metrics["log_prob_x"][part]["mean"], 2) for part in ("train", "test")])
        for name, (label, weight, _) in HYBRIDS.items()
        if weight
    ]
    columns = ("training rows, mean log p(x) [nats]", "test rows, mean log p(x) [nats]")
    return Table("Density of flights", columns, rows)


@styled
def _densities(results):
    shown = [(label, results[name].metrics["log_prob_x"]) for name, (label, weight, _) in HYBRIDS.items() if weight]
    figure = matplotlib.figure.Figure(figsize=(5.2 * len(shown), 3.6))
    for axes, (label, parts) in zip(figure.subplots(1, len(shown)), shown, strict=True):
        for part, title in (("train", "training rows"), ("test", "test rows, 2017")):
            edges, heights = np.array(parts["edges"]), np.array(parts[part]["histogram"])
            axes.stairs(heights, edges, fill=True, alpha=0.5, label=f"{title}, mean {parts[part]['mean']:.2f}")
        axes.set(title=label, xlabel="log p(x)  [nats]", ylabel="fraction of rows")
        axes.legend(loc="upper left")
    return figure


def _flow_of(place, name, dataset):
    """The flow of a model that has been trained. From it the Normal learns a better mean than from scratch, where few
    very late flights set the gradient."""
    path = place.folder / "models" / name / MODEL
    if not path.exists():
        raise ValueError(f"There is no {path}, from which this model starts; remove {name}.json and train that first.")
    return keras.models.load_model(path).distribution.bijector


def _hybrid(place, name, dataset, recipe, config):
    model, seconds = place.train(name, dataset, recipe, config)
    x, y = dataset.test
    metrics = regression.regression_metrics(model.predict_distribution(x)[0], y)
    if config.generative_weight:
        chosen = np.random.default_rng(SEED).permutation(len(dataset.train[0]))[: len(x)]
        log_probs = {"train": model.log_prob(dataset.train[0][chosen]), "test": model.log_prob(x)}
        metrics["log_prob_x"] = histograms({part: np.asarray(values) for part, values in log_probs.items()})
    return metrics | {"parameters": model.count_params(), "training_seconds": seconds}


def _baselines(place, dataset, data):
    transformed = [(FlightTimes().inverse(x).numpy(), y) for x, y in (dataset.train, dataset.test)]
    iterations, epochs, hidden_units, members = (10, 1, (8,), 2) if place.quick else (300, 4, (128, 128, 128), MEMBERS)
    sizes = {"epochs": epochs, "hidden_units": hidden_units}

    @functools.cache
    def network(seed):
        folder = place.folder / "models" / f"network_{seed}"
        return baselines.network(*transformed, folder, epochs, hidden_units, seed)

    makers = {
        "constant": (lambda: baselines.constant(*transformed), {}),
        "least_squares": (lambda: baselines.least_squares(*transformed), {}),
        "boosting": (lambda: baselines.boosting(*transformed, iterations), {"iterations": iterations}),
        "network": (lambda: network(0), sizes),
        "ensemble": (
            lambda: baselines.ensemble([network(seed) for seed in range(members)]),
            sizes | {"members": members},
        ),
    }
    y = dataset.test[1]
    return {
        name: Job(data | settings, lambda make=make: regression.regression_metrics(make(), y))
        for name, (make, settings) in makers.items()
    }


def _shortened(dataset, train_rows, test_rows):
    def some(rows, count):
        step = max(1, len(rows[1]) // count)
        return tuple(column[::step][:count] for column in rows)

    return dataclasses.replace(
        dataset,
        train=some(dataset.train, train_rows),
        validation=some(dataset.validation, test_rows),
        test=some(dataset.test, test_rows),
    )
