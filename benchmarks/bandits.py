"""Contextual bandits: MNIST as ten arms, and the wheel.

MNIST: the context is an image, and the arm that is its digit gives the reward 1, the others 0. The images are the first
30,000 of training, in an order of the seed, and are made smaller to 14 x 14 by means of four pixels. All options were
chosen on 25,000 others: a large prior precision of the kernel leaves the exploration to the bias of each arm.

The wheel (Riquelme et al. 2018): a context is a point of the unit disc. The first arm gives 1.2, the others 1.0;
outside of the radius 0.9, one of the others, by the quadrant, gives 50. Noise has the standard deviation 0.01. The
options, of which one is the unit of the rewards, 5, were chosen on contexts of another seed.

Finished runs are kept in the CSV file, so that an interrupted benchmark resumes.
"""

import functools
import pathlib
import time

import keras
import numpy as np
import tensorflow as tf

import tfp_hybrid as hy
from benchmarks.active import half_size
from benchmarks.finished import Finished
from benchmarks.run import CONSOLE
from tfp_hybrid import bandits, datasets, files, heads, networks
from tfp_hybrid.recipes.augmentation import RandomAffine
from tfp_hybrid.uncertainty import pictures

STEPS = {"mnist": 4096, "wheel": 20_480}
PUBLISHED = "of the same number of images, by other code, the authors of calvera: NeuralTS 888, NeuralLinear 1,948"
_RADIUS, _UNIT = 0.9, 5.0


def run_bandits(out: pathlib.Path, only: list[str], seeds: int, quick: bool):
    """Runs what is missing in `out`/bandits.csv, and writes the table and the pictures."""
    columns = ["problem", "seed", "step", "regret", "random", "seconds"]
    finished = Finished(out / "bandits.csv", columns, STEPS | {"quick": quick})
    for problem in only:
        for seed in range(seeds):
            steps = 128 if quick else STEPS[problem]
            if finished.has(problem=problem, seed=seed, step=steps):
                continue
            CONSOLE.print(f"{problem}, seed {seed}")
            started = time.perf_counter()
            keras.utils.set_random_seed(seed)
            found = (_mnist if problem == "mnist" else _wheel)(seed, steps, quick)
            found = found.assign(problem=problem, seed=seed, step=np.arange(1, steps + 1))
            found["seconds"] = round(time.perf_counter() - started)
            finished.add(found[found["step"] % 64 == 0])
    table = finished.table
    for problem, rows in table.groupby("problem"):
        runs = [run.set_index("step") for _, run in rows.groupby("seed")]
        figure = pictures.regret_curves({"Thompson sampling": runs})
        pictures.save(figure, out / f"bandits_{problem}.png")
    files.write(out / "bandits.md", _report(table, finished.machines))


def _mnist(seed, steps, quick):
    x, y = (values[:30_000] for values in datasets.load("mnist").train)
    order = np.random.default_rng(seed).permutation(len(x))[:steps]
    x, y = half_size(x[order]), y[order]
    conditioner = functools.partial(networks.ConvNet, hidden_units=32, dropout=0.1)
    flow = hy.bijectors.Glow((14, 14, 1), levels=1, steps=6, conditioner=conditioner, quantization_levels=256)
    head = heads.PartlyObserved(heads.Bernoulli((10,)))
    model = hy.HybridModel(hy.flow_distribution(flow), head, generative_weight=0.1 / 196)
    model.compile(keras.optimizers.Adam(2e-3), steps_per_execution=10)

    def train(model, x, y):
        rows = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(y)).repeat().batch(32)
        rows = rows.map(lambda images, rewards: (RandomAffine(levels=256, fraction=0.5, shift=1.0)(images), rewards))
        model.fit(rows.prefetch(2), steps_per_epoch=10 if quick else 200, epochs=1, verbose=0)

    bandit = bandits.ThompsonSampling(model, train, first=40, growth=1.15, prior=1000.0, seed=seed)
    return bandits.simulate(bandit, x, np.eye(10)[y])


def _wheel(seed, steps, quick):
    x, rewards = wheel(seed, steps)
    encoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Rescaling(3.0),
            keras.layers.Dense(128, "relu"),
            keras.layers.Dense(128, "relu"),
            keras.layers.Dense(32, "tanh"),
        ]
    )
    p_h = hy.flow_distribution(hy.bijectors.RealNVP((32,), couplings=2, hidden_units=(64,)))
    head = heads.PartlyObserved(heads.ExponentialFamily("Normal", (5,)))
    model = hy.HybridModel(p_h, head, generative_weight=0.01 / 32, encoder=encoder, train_encoder=True)
    model.compile(keras.optimizers.Adam(3e-3), steps_per_execution=20)

    def train(model, x, y):
        rows = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(y)).repeat().batch(128).prefetch(2)
        model.fit(rows, steps_per_epoch=20 if quick else 1000, epochs=1, verbose=0)

    bandit = bandits.ThompsonSampling(model, train, first=50, growth=1.3, prior="evidence", seed=seed)
    table = bandits.simulate(bandit, x, rewards / _UNIT, batch=16)  # in which the head's noise has variance 1
    return table.assign(regret=_UNIT * table["regret"], random=_UNIT * table["random"])


def wheel(seed: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws contexts of the wheel `(steps, 2)`, and the rewards of its five arms."""
    rng = np.random.default_rng(seed)
    radius, angle = np.sqrt(rng.uniform(size=steps)), rng.uniform(0, 2 * np.pi, steps)
    rewards = np.tile([1.2, 1.0, 1.0, 1.0, 1.0], (steps, 1))
    outside = np.flatnonzero(radius > _RADIUS)
    rewards[outside, 1 + (angle[outside] // (np.pi / 2)).astype(int)] = 50.0
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype("float32")
    return x, rewards + 0.01 * rng.normal(size=rewards.shape)


def _report(table, machines):
    lines = ["# Contextual bandits", "", *__doc__.strip().split("\n\n")[1].split("\n"), ""]
    lines += [*__doc__.strip().split("\n\n")[2].split("\n"), "", f"`python -m benchmarks bandits`, {machines}.", ""]
    lines += ["| problem | steps | regret of each seed | mean | of random's | seconds |", "|---" * 6 + "|"]
    for problem, rows in table.groupby("problem"):
        last = rows[rows["step"] == rows["step"].max()]
        regret, share = last["regret"], (last["regret"] / last["random"]).mean()
        each, seconds = (", ".join(f"{value:,.0f}" for value in column) for column in (regret, last["seconds"]))
        steps = int(last["step"].iloc[0])
        lines.append(f"| {problem} | {steps:,} | {each} | {regret.mean():,.0f} | {100 * share:.1f} % | {seconds} |")
    lines += ["", f"Published for MNIST, {PUBLISHED}."]
    for problem in sorted(table["problem"].unique()):
        lines += ["", f"![Regret of {problem}](bandits_{problem}.png)"]
    return "\n".join([*lines, ""])
