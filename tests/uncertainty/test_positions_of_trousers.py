"""Holes in trousers, and where the density of a classifier's features finds them.

`pytest -m nightly -n 0 -s tests/uncertainty/test_positions_of_trousers.py` prints the numbers of
docs/guides/features.md; with WHERE=FILE, it writes the picture there.
"""

import functools
import os

import keras
import numpy as np
import pytest

import tfp_hybrid as hy
from tfp_hybrid import uncertainty
from tfp_hybrid.uncertainty import pictures
from tfp_hybrid.uncertainty.detection import auroc

TROUSERS = 1
pytestmark = pytest.mark.nightly


def classifier(x, y):
    """A small network, and the model that gives its last maps of features, 14 x 14 x 64."""
    inputs = keras.Input((28, 28, 1))
    h = keras.layers.Rescaling(1 / 255)(inputs)
    h = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(h)
    h = keras.layers.Conv2D(32, 3, 2, padding="same", activation="relu")(h)
    maps = keras.layers.Conv2D(64, 3, padding="same", activation="relu")(h)
    h = keras.layers.Conv2D(64, 3, 2, padding="same", activation="relu")(maps)
    h = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling2D()(h))
    model = keras.Model(inputs, keras.layers.Dense(10)(h))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x.astype("float32"), y, epochs=3, batch_size=128, verbose=0)
    return keras.Model(inputs, maps)


def damaged(images, kind, rng):
    """Images with a square of 4 x 4 pixels that is off, and where it is."""
    images, where = images.copy(), np.zeros(images.shape[:3], bool)
    for image, mask in zip(images, where, strict=True):
        i, j = rng.integers(8, 18, 2)
        square = slice(i, i + 4), slice(j, j + 4)
        mask[square] = True
        image[square] = 0 if kind == "hole" else np.minimum(image[square].astype(int) + 100, 255)
    return images, where


def test_defects_are_found_where_they_are(real_data):
    keras.utils.set_random_seed(0)
    data = hy.datasets.load("fashion_mnist")
    encoder = classifier(*data.train)
    train, held_out, test = (x[y == TROUSERS] for x, y in (data.train, data.validation, data.test))
    keras.utils.set_random_seed(0)
    conditioner = functools.partial(hy.networks.PositionMLP, positions=(14, 14))
    flow = hy.bijectors.RealNVP((64,), couplings=4, conditioner=conditioner)
    model = hy.DensityModel(hy.flow_distribution(hy.bijectors.Positionwise((14, 14, 64), flow)), encoder=encoder)
    model.compile(keras.optimizers.Adam(1e-3, clipnorm=50.0))
    model.fit(train[:4000], epochs=3, batch_size=32, verbose=0)
    whole, found = -uncertainty.log_prob_map(model, test), {}
    for kind in ("hole", "stain"):
        images, where = damaged(test, kind, np.random.default_rng(0))
        maps = -uncertainty.log_prob_map(model, images)
        of_pixels = np.repeat(np.repeat(maps, 2, 1), 2, 2)
        found[kind] = [
            auroc(of_pixels[~where], of_pixels[where]),
            auroc(whole.max((1, 2)), maps.max((1, 2))),
            auroc(whole.sum((1, 2)), maps.sum((1, 2))),
        ]
        print(f"\n| {kind} | {' | '.join(f'{value:.3f}' for value in found[kind])} |")
    if "WHERE" in os.environ:
        pictures.save(picture(model, test, held_out), os.environ["WHERE"])
    assert found["hole"][0] >= 0.93 and found["hole"][1] >= 0.9 and found["stain"][0] >= 0.75


def picture(model, test, held_out):
    """Two pairs of trousers as they are, three with a hole, and three with a stain."""
    images = test[:8].copy()
    corners = (9, 8), (8, 14), (12, 8), (15, 15), (10, 15), (16, 10)
    for image, (i, j), value in zip(images[2:], corners, [0] * 3 + [255] * 3, strict=True):
        image[i : i + 4, j : j + 4] = value
    limits = np.quantile(-uncertainty.log_prob_map(model, held_out), [0.5, 0.999])
    names = ["whole"] * 2 + ["hole"] * 3 + ["stain"] * 3
    return pictures.heat_maps(images, -uncertainty.log_prob_map(model, images), 256, limits, names)
