"""Plots of images, with what the model says of them."""

import math
import textwrap
from collections.abc import Sequence

import matplotlib.figure
import numpy as np

from tfp_hybrid.uncertainty.pictures.style import COLOURS, styled

_MANY = 9_999  # scores beyond it are all alike to a reader


@styled
def answers(
    images: dict[str, np.ndarray],
    texts: dict[str, Sequence[str]],
    scores: dict[str, np.ndarray],
    threshold: float,
    levels: int,
) -> matplotlib.figure.Figure:
    """Plots images, what the model says of each, its out-of-distribution score, and whether it abstains.

    Args:
      images: A dictionary from the names of sets to images `(n, H, W, C)`, with values 0 .. levels-1.
      texts: The answer to each image, such as "8 (99 %)".
      scores: The score of each image, `(n,)`, such as "score" of `Rejector.predict`.
      threshold: The score above which the model abstains.
      levels: The number of levels.

    Raises:
      ValueError: If there are no images, or not a text and a score for each.
    """
    columns = max(map(len, images.values()), default=0)
    if not columns:
        raise ValueError("images is empty; wanted at least one.")
    for name, shown in images.items():
        if not len(shown) == len(texts[name]) == len(scores[name]):
            raise ValueError(
                f"{name!r} has {len(shown)} images, {len(texts[name])} texts and {len(scores[name])} scores; "
                "wanted one of each."
            )
    figure = matplotlib.figure.Figure(figsize=(1.15 * columns + 0.5, 1.75 * len(images) + 0.3))
    title = f"its answer above, its score below: over {threshold:,.3g} it abstains, however sure it is"
    figure.suptitle(textwrap.fill(title, 14 * columns), fontsize=11)
    grid = figure.subplots(len(images), columns, squeeze=False)
    for row, (name, shown) in zip(grid, images.items(), strict=True):
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(name)
        for axes, image, text, score in zip(row, np.asarray(shown), texts[name], scores[name], strict=False):
            axes.imshow(_drawable(image) / (levels - 1), cmap="gray_r", vmin=0, vmax=1)
            axes.set_title(text, fontsize=10)
            abstains = not score <= threshold
            said = f"{_short(score)}\n{'abstains' if abstains else 'answers'}"
            axes.set_xlabel(said, fontsize=9, color=COLOURS[1] if abstains else COLOURS[2])
    return figure


@styled
def heat_maps(
    images,
    maps,
    levels: int,
    limits: tuple[float, float] | None = None,
    names: Sequence[str] = (),
    label: str = "-log p [nats]",
) -> matplotlib.figure.Figure:
    """Plots images, and under each where it is unlikely.

    Args:
      images: `(n, H, W, C)`, with values 0 .. levels-1.
      maps: A number for each position, `(n, h, w)`, higher where the image is less likely, such as
        `-uncertainty.log_prob_map(model, images)`. It is drawn over the image, however coarse it is.
      levels: The number of levels.
      limits: The numbers of the palest and of the darkest colour; the smallest and the largest of `maps` if None.
        Limits from held-out images, such as their median and 99.9 % quantile, make pictures comparable.
      names: Titles of the images.
      label: What the numbers are.

    Raises:
      ValueError: If there are no images, or not a map for each.
    """
    images, maps = np.asarray(images), np.asarray(maps)
    if images.ndim != 4 or not len(images) or len(images) != len(maps) or maps.ndim != 3:
        raise ValueError(
            f"maps has shape {maps.shape} and images {images.shape}; wanted a map (h, w) for each image, at least one."
        )
    if limits is None:
        finite = maps[np.isfinite(maps)]
        limits = (finite.min(), finite.max()) if finite.size else (0, 1)
    if np.shape(limits) != (2,) or not limits[0] <= limits[1]:
        raise ValueError(f"limits is {limits!r}; wanted a pair of numbers, the lower one first.")
    low, high = limits
    maps = np.where(np.isnan(maps), high, np.clip(maps, low, high))
    height, width = images.shape[1:3]
    figure = matplotlib.figure.Figure(figsize=(1.3 * len(images) + 1.0, 3.1))
    grid = figure.subplots(2, len(images), squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for column, (image, heat) in enumerate(zip(images / (levels - 1), maps, strict=True)):
        for axes in grid[:, column]:
            axes.imshow(_drawable(image), cmap="gray_r", vmin=0, vmax=1, extent=(0, width, height, 0))
        drawn = grid[1, column].imshow(  # the hotter, the less of the image shines through
            heat,
            cmap="YlOrRd",
            vmin=low,
            vmax=high,
            alpha=np.minimum((heat - low) / max(high - low, 1e-12), 0.85),
            extent=(0, width, height, 0),
        )
    for axes, name in zip(grid[0], names, strict=False):
        axes.set_title(name, fontsize=10)
    figure.colorbar(drawn, ax=grid, label=label, shrink=0.8)
    return figure


@styled
def image_grid(images, levels: int, columns: int = 10) -> matplotlib.figure.Figure:
    """Plots images `(n, H, W, C)` with values 0 .. levels-1 side by side."""
    rows = math.ceil(len(images) / columns)
    figure = matplotlib.figure.Figure(figsize=(0.6 * columns, 0.6 * rows))
    _draw_grid(figure, images, levels, rows, columns)
    return figure


@styled
def extremes(images, log_prob, levels: int, rows: int = 2, columns: int = 10) -> matplotlib.figure.Figure:
    """Plots the most and the least likely of a set of images.

    Args:
      images: `(n, H, W, C)`, with values 0 .. levels-1.
      log_prob: log p(x) of the images, `(n,)`.
      levels: The number of levels.
      rows, columns: The size of each of the two grids.
    """
    order = np.argsort(log_prob)
    figure = matplotlib.figure.Figure(figsize=(0.75 * columns, 1.9 * rows + 0.8))
    halves = figure.subfigures(2, 1)
    chosen = {"most likely": order[::-1], "least likely": order}
    for half, (title, places) in zip(halves, chosen.items(), strict=True):
        half.suptitle(f"{title}, with log p(x) [nats]", fontsize=11)
        places = places[: rows * columns]
        panels = _draw_grid(half, np.asarray(images)[places], levels, rows, columns)
        for axes, place in zip(panels, places, strict=False):
            axes.set_title(f"{log_prob[place]:.0f}", fontsize=8)
    return figure


def _draw_grid(figure, images, levels, rows, columns):
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, image in zip(panels, np.asarray(images) / (levels - 1), strict=False):
        axes.imshow(_drawable(image), cmap="gray_r", vmin=0, vmax=1)
    return panels


def _short(score):
    """A score in few characters."""
    if score > _MANY:
        return f"over {_MANY:,}"
    return f"{score:,.0f}" if abs(score) >= 10 else f"{score:.2g}"


def _drawable(image):
    """An image as matplotlib wants it: grey without an axis of channels."""
    return image[..., 0] if image.shape[-1] == 1 else image
