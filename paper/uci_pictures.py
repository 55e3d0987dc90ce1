"""The picture of protein's p(y|x): a conditional spline flow beside a Normal."""

import pathlib

import matplotlib.figure
import numpy as np

from benchmarks.uci_data import Table
from paper import uci_models
from tfp_hybrid import heads
from tfp_hybrid.uncertainty.pictures import save, styled

SET = "protein-tertiary-structure"
BINS = 32
QUANTILES = (0.1, 0.5, 0.9)  # of the standard deviation of p(y|x): rows with a narrow, a usual and a wide one
HEADS = {
    f"heads.Flow(bins={BINS})": lambda: heads.Flow(BINS, kernel_initializer="glorot_uniform"),
    "heads.Normal()": lambda: heads.Normal(kernel_initializer="glorot_uniform"),
}
POINTS = 1001


def draw(table: Table, out: pathlib.Path, seed: int, quick: bool):
    """Fits one model with each head to split 0, and writes `out`/protein.png unless it is there.

    Args:
      table: The set.
      out: The folder of the picture.
      seed: The seed of the initial weights and of the batches.
      quick: Whether to train hardly at all.
    """
    path = out / "protein.png"
    if path.exists():
        return
    split = table.split(0, None, seed)
    x, y = split.test
    y_grid = np.linspace(0, 22, POINTS, dtype="float32")
    rows, curves, scores = None, {}, {}
    for title, head in HEADS.items():
        learner = uci_models.Learner(table.columns, head, uci_models.size_for(len(table), quick), seed)
        p_y = next(learner.members(split.train, seed))
        scores[title] = np.log(split.unit) - p_y(x).log_prob(y).numpy().astype(float).mean()
        if rows is None:
            order = np.argsort(p_y(x).stddev().numpy())
            rows = order[[int(q * len(order)) for q in QUANTILES]]
        grid = (y_grid - split.mean) / split.unit
        log_prob = p_y(x[rows]).log_prob(grid[:, np.newaxis].astype("float32")).numpy()
        curves[f"{title}, NLL of all test rows {scores[title]:.2f}"] = np.exp(log_prob) / split.unit
    save(_panels(y_grid, curves, split.mean + split.unit * y[rows]), path)


@styled
def _panels(y, curves, observed):
    figure = matplotlib.figure.Figure(figsize=(12, 3.6), layout="constrained")
    for column, axes in enumerate(figure.subplots(1, len(observed))):
        for number, (title, density) in enumerate(curves.items()):
            axes.plot(y, density[:, column], color=f"C{number}", label=title)
        axes.axvline(observed[column], color="black", linestyle="--", linewidth=0.8, label="observed y")
        axes.set(title=f"test row {column + 1}", xlabel="y", xlim=(y[0], y[-1]), ylim=(0, None))
    figure.axes[0].set_ylabel("p(y|x)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
