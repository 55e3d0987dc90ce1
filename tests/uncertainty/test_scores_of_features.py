"""Flows on features of frozen encoders: classes, classes that are near, foreign images, sentences and defects.

`pytest -m nightly -n 0 -s tests/uncertainty/test_scores_of_features.py` prints the tables of docs/guides/features.md.
It takes ten minutes on two cores.
"""

import functools

import keras
import numpy as np
import pytest

import tfp_hybrid as hy
from tfp_hybrid import uncertainty
from tfp_hybrid.uncertainty.detection import auroc

SEEDS = (0, 1, 2)
CATEGORIES = ("bottle", "cable", "carpet", "screw", "transistor")
pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def features(real_data):
    """Returns the arrays of a file, as float32."""
    folder = real_data / "features"
    if not folder.exists():
        pytest.skip(f"no features in {real_data}")

    def load(name):
        with np.load(folder / f"{name}.npz") as file:
            return {key: file[key].astype("float32") if file[key].dtype.kind == "f" else file[key] for key in file}

    return load


def trained(flow, classes, generative_weight, rate, train, validation, epochs):
    """A hybrid that stops when the loss of the held-out rows does not fall for four epochs."""
    head = hy.heads.Categorical(classes, kernel_regularizer=keras.regularizers.L2(1e-4))
    model = hy.HybridModel(hy.flow_distribution(flow), head, generative_weight)
    model.compile(keras.optimizers.Adam(rate), metrics=["accuracy"])
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=4, restore_best_weights=True)
    model.fit(*train, validation_data=validation, epochs=epochs, batch_size=128, callbacks=[stopping], verbose=0)
    return model


def neighbours_and_energy():
    """Before and after the flow, each as Sun et al. 2022 do it, and the classifier's energy."""
    neighbours = [uncertainty.KNearest(of=of, normalize=True, rows=15_000) for of in ("z", "x")]
    return [*neighbours, uncertainty.Energy()]


def accuracy(model, x, y):
    return np.mean(model.predict(x, verbose=0).argmax(1) == y)


def aurocs(model, score, inside, *outside):
    scores = score.score(model, inside)
    return [auroc(scores, score.score(model, x)) for x in outside]


def test_near_and_far_images(features):
    """Airplanes, deer and frogs, against other classes of CIFAR-10 and house numbers."""
    files = [features(f"CIFAR10_{k}") for k in (0, 4, 6)]
    x = np.concatenate([file["X"][file["y"] == 0] for file in files])
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], np.repeat([0, 1, 2], 5000)[order]
    near = np.concatenate([file["X"][file["y"] == 1] for file in files])
    far = np.concatenate([features(f"SVHN_{k}")["X"] for k in (0, 8)])
    conditioner = functools.partial(hy.networks.MLP, hidden_units=(128,), dropout=0.3)
    rows = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        flow = hy.bijectors.PrincipalComponents(512, hy.bijectors.RealNVP((64,), couplings=4, conditioner=conditioner))
        model = trained(flow, 3, 1e-3, 1e-3, (x[:10000], y[:10000]), (x[10000:12000], y[10000:12000]), 30)
        rows.append([accuracy(model, x[12000:], y[12000:])])
        scores = (
            uncertainty.combine(neighbours_and_energy()),
            uncertainty.combine(neighbours_and_energy(), "fisher"),
            uncertainty.MaxProbability(),
            uncertainty.NegativeLogProb(),
        )
        for score in scores:
            rows[-1] += aurocs(model, score.fit(model, x[:10000]), x[12000:], near, far)
        print(f"\n| {seed} | {' | '.join(f'{value:.3f}' for value in rows[-1])} |")
    means = np.mean(rows, 0)
    assert means[0] >= 0.86 and means[1] >= 0.68 and means[2] >= 0.90


def test_sentences_of_no_intent(features):
    """150 intents, against sentences of none; settings and score were chosen by the held-out ones of these."""
    data = features("clinc150_e5small")
    train, validation, test = ((data[f"{part}_x"], data[f"{part}_y"]) for part in ("train", "val", "test"))
    conditioner = functools.partial(hy.networks.MLP, hidden_units=(128,), dropout=0.3)
    rows = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        flow = hy.bijectors.RealNVP((384,), couplings=4, conditioner=conditioner)
        model = trained(flow, 150, 1e-4, 5e-4, train, validation, 60)
        score = uncertainty.combine([*neighbours_and_energy(), uncertainty.RelativeMahalanobis(of="x")], "fisher")
        scores = score.fit(model, train[0]), uncertainty.MaxProbability(), uncertainty.NegativeLogProb()
        found = [aurocs(model, one, test[0], data["oos_test_x"])[0] for one in scores]
        rows.append([accuracy(model, *test), *found])
        print(f"\n| {seed} | {' | '.join(f'{value:.4f}' for value in rows[-1])} |")
    means = np.mean(rows, 0)
    assert means[0] >= 0.956 and means[1] >= 0.975


def test_defects_with_few_good_parts(features):
    """One class of MVTec at a time, trained on half of its parts that are in order, some 60 to 180."""
    means = []
    for seed in SEEDS:
        found = []
        for category in CATEGORIES:
            data = features(f"MVTec-AD_{category}")
            good = np.random.default_rng(seed).permutation(np.flatnonzero(data["y"] == 0))
            half = len(good) // 2
            keras.utils.set_random_seed(seed)
            inner = hy.bijectors.RealNVP((16,), couplings=4, hidden_units=(32,))
            flow = hy.bijectors.PrincipalComponents(512, inner, shrinkage=True)
            model = hy.DensityModel(hy.flow_distribution(flow))
            model.compile(keras.optimizers.AdamW(1e-3))
            model.fit(data["X"][good[:half]], epochs=10, batch_size=32, verbose=0)
            x, bad = data["X"][good[half:]], data["X"][data["y"] == 1]
            found += aurocs(model, uncertainty.NegativeLogProb(), x, bad)
        means.append(np.mean(found))
        print(f"\n| {seed} | {' | '.join(f'{value:.3f}' for value in [*found, means[-1]])} |")
    assert np.mean(means) >= 0.80
