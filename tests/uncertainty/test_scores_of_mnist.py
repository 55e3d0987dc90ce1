"""One score for all sets: what the default score of the recipe's model finds, and classes it was not trained on.

`pytest -m nightly -n 0 -s tests/uncertainty/test_scores_of_mnist.py` prints the tables of docs/guides/uncertainty.md.
It trains six models, for an hour on two cores; MNIST_RUNS=FOLDER keeps them there, and does not train them again.
"""

import dataclasses
import functools
import os
import pathlib

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

import tfp_hybrid as hy
from tfp_hybrid import recipes, uncertainty
from tfp_hybrid.commands import fitting
from tfp_hybrid.datasets import outliers
from tfp_hybrid.recipes.augmentation import RandomAffine

pytestmark = pytest.mark.nightly
SPLITS = 5


def train(data, folder):
    """The model that `tfp-hybrid train mnist` trains, on `data`."""
    path = folder / "model.keras"
    if not path.exists():
        recipe = recipes.recipe_for(data)
        run = fitting.Run(data, recipe, fitting.Config("mnist", ood=()).complete(recipe), folder)
        run.fit()
        run.model.save(path)
    return keras.models.load_model(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pathlib.Path(os.environ.get("MNIST_RUNS") or tmp_path_factory.mktemp("mnist"))


@pytest.fixture(scope="module")
def mnist():
    return hy.datasets.load("mnist")


def foreign_sets(data, rng):
    """Inputs that are no digits as those of the training set; none of them had a part in choosing the score."""
    x = data.test[0]
    grey = x[..., 0].astype("float32")
    half = np.arange(784) % 2 == 0  # every other pixel, in an order of its own for each image

    def shuffled(image):
        flat = image.reshape(-1).copy()
        chosen = rng.permutation(784)[half]
        flat[chosen] = flat[rng.permutation(chosen)]
        return flat.reshape(image.shape)

    few = slice(2000)
    sets = {name: outliers.load_outliers(name, data)[0] for name in ("noise", "inverted", "not_mnist", "fashion_mnist")}
    sets["rotated by 90 degrees"] = outliers.load_outliers("rotated", data)[0]
    sets["blank"] = np.zeros_like(x[:1])
    sets["averages of two digits"] = (x.astype(int) + rng.permutation(x)) // 2
    sets["half of the pixels shuffled"] = np.stack([shuffled(image) for image in x])
    made = {
        "strokes thinned": scipy.ndimage.grey_erosion(grey[few], (1, 2, 2)),
        "strokes thickened": scipy.ndimage.grey_dilation(grey[few], (1, 3, 3)),
        "darker by half": grey[few] // 2,
        "blurred": np.round(scipy.ndimage.gaussian_filter(grey[few], (0, 1, 1))),
        "moved by six pixels": np.roll(grey[few], 6, axis=2),
        "mirrored": grey[few, :, ::-1],
    }
    return sets | {name: images[..., np.newaxis] for name, images in made.items()}


def test_one_score_for_all_sets(mnist, folder):
    model = train(mnist, folder / "all")
    held_out, test = mnist.validation[0], mnist.test[0]
    rejector = uncertainty.Rejector(model).fit_threshold(held_out, quantile=0.98)
    scores = [rejector.score, *rejector.score.scores, uncertainty.NegativeLogProb()]
    names = ["default", *(score.title for score in scores[1:])]
    inside = uncertainty.scores.base.run(scores, model, test)
    alarms = np.mean(inside[0] > float(rejector.threshold.numpy()))
    error = np.mean(model.predict(test, verbose=0).argmax(1) != mnist.test[1])
    print(f"\nerror {100 * error:.2f} %, false alarms {100 * alarms:.2f} %\n| set | {' | '.join(names)} |")
    found = {}
    for name, images in foreign_sets(mnist, np.random.default_rng(0)).items():
        outside = uncertainty.scores.base.run(scores, model, images.astype("uint8"))
        row = [uncertainty.detection.auroc(*pair) for pair in zip(inside, outside, strict=True)]
        found[name] = row[0]
        print(f"| {name} | {' | '.join(f'{value:.4f}' for value in row)} |")
    assert error <= 0.007 and 0.01 <= alarms <= 0.03
    wanted = {
        **{"noise": 0.999, "inverted": 0.999, "not_mnist": 0.998, "fashion_mnist": 0.995, "blank": 0.999},
        **{"rotated by 90 degrees": 0.95, "averages of two digits": 0.96, "half of the pixels shuffled": 0.99},
    }
    assert [name for name, least in wanted.items() if found[name] < least] == []


def left_out(data, split):
    """The data of six digits, and the test images of the four others."""
    known = np.sort(np.random.default_rng(split).permutation(10)[:6])
    parts = {}
    for name in ("train", "validation", "test"):
        x, y = getattr(data, name)
        inside = np.isin(y, known)
        parts[name] = x[inside], np.searchsorted(known, y[inside]).astype(y.dtype)
    unknown = data.test[0][~np.isin(data.test[1], known)]
    return dataclasses.replace(data, num_classes=6, **parts), unknown, ", ".join(map(str, known))


def open_set(models):
    """Prints the AUROC of the default score, its parts and others for each split, and returns those of the default."""
    rows = []
    for model, data, unknown, known in models:
        default = uncertainty.default_score(model).fit(model, data.validation[0])
        scores = [default, *default.scores, uncertainty.MaxProbability()]
        values = [uncertainty.scores.base.run(scores, model, x) for x in (data.test[0], unknown)]
        rows.append([uncertainty.detection.auroc(*pair) for pair in zip(*values, strict=True)])
        print(f"\n| {known} | {' | '.join(f'{value:.4f}' for value in rows[-1])} |")
    print(f"\n| mean | {' | '.join(f'{value:.4f}' for value in np.mean(rows, 0))} |")
    return np.array(rows)[:, 0]


def test_classes_left_out_of_training(mnist, folder):
    """Six digits are known and four are not; nothing else is out-of-distribution."""

    def models():
        for split in range(SPLITS):
            data, unknown, known = left_out(mnist, split)
            yield train(data, folder / f"split{split}"), data, unknown, known

    assert open_set(models()).mean() >= 0.95


def classifier(data):
    """A small convolutional network, and the model that gives its last 128 features."""
    inputs = keras.Input((28, 28, 1))
    h = keras.layers.Rescaling(1 / 255)(inputs)
    for width in (32, 64, 128):
        h = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(h)
        h = keras.layers.ReLU()(keras.layers.BatchNormalization()(h))
        h = keras.layers.MaxPooling2D()(h) if width < 128 else keras.layers.GlobalAveragePooling2D()(h)
    features = keras.layers.Dense(128, "relu")(h)
    network = keras.Model(inputs, keras.layers.Dense(data.num_classes)(keras.layers.Dropout(0.3)(features)))
    x, y = data.train
    rate = keras.optimizers.schedules.CosineDecay(2e-3, 5 * len(x) // 64)
    network.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=0).batch(64)

    def moved(x, y):
        seed = tf.random.uniform((2,), maxval=2**30, dtype=tf.int32)
        return tf.cast(RandomAffine(levels=256, fraction=0.5, shift=2.0)(x, seed=seed), tf.float32), y

    network.fit(batches.map(moved).prefetch(2), epochs=5, shuffle=False, verbose=0)
    return keras.Model(inputs, features)


def test_classes_left_out_by_features_of_a_classifier(mnist):
    """The same with a flow on the features of a network that was trained on the six digits."""

    def models():
        for split in range(SPLITS):
            data, unknown, known = left_out(mnist, split)
            keras.utils.set_random_seed(0)
            encoder = classifier(data)
            keras.utils.set_random_seed(0)
            conditioner = functools.partial(hy.networks.MLP, hidden_units=(64,), dropout=0.2)
            flow = hy.bijectors.RealNVP((32,), couplings=4, conditioner=conditioner)
            p_h = hy.flow_distribution(hy.bijectors.PrincipalComponents(128, flow))
            model = hy.HybridModel(p_h, hy.heads.Categorical(6), generative_weight=1e-3, encoder=encoder)
            model.compile(keras.optimizers.Adam(1e-3, clipnorm=50.0))
            stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, restore_best_weights=True)
            options = dict(validation_data=data.validation, callbacks=[stopping], verbose=0)
            model.fit(*data.train, epochs=10, batch_size=128, **options)
            yield model, data, unknown, known

    assert open_set(models()).mean() >= 0.98
