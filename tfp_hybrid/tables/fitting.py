"""What `Columns` learns about each column."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
import tensorflow as tf

from tfp_hybrid.tables import frames, inference, marginals
from tfp_hybrid.tables.column import Column, bounds, from_bounds
from tfp_hybrid.tables.kinds import Category, Kind, unique_values


def learn(frame: pd.DataFrame, kinds: Mapping[str, Kind] | None = None, y=None) -> list[Column]:
    """Learns each column of a DataFrame; see `Columns.from_frame`."""
    names = frames.column_names(frame, "frame")
    kinds = {str(name): kind for name, kind in (kinds or {}).items()}
    for name, kind in kinds.items():
        if name not in names:
            raise ValueError(f"kinds names the column {name!r}; wanted one of {list(names)}.")
        if not isinstance(kind, Kind):
            raise ValueError(f"kinds of {name!r} is {kind!r}; wanted a kind of `tables`, such as tables.Category().")
    if not len(names) or not len(frame):
        raise ValueError(f"frame has {len(frame)} rows and {len(names)} columns; wanted at least one of each.")
    if y is not None and len(y) != len(frame):
        raise ValueError(f"y has {len(y)} rows but the frame has {len(frame)}; they must match.")
    if y is not None and pd.isna(y).any():
        raise ValueError(f"y has no value in row {int(pd.isna(y).argmax())}; wanted one for each row.")
    left = [i for i, name in enumerate(names) if name not in kinds]
    kinds |= inference.infer_kinds(frame.iloc[:, left]) if left else {}
    rng = np.random.default_rng(0)
    return [_column(name, frame.iloc[:, i], kinds[name], y, rng) for i, name in enumerate(names)]


def _column(name, column, kind, y, rng):
    where = f"frame: the column {name!r}"
    if isinstance(kind, Category):
        kind = _with_levels(kind, column, y, where)
    values = kind.parse(column, where)
    known = values[~np.isnan(values)]
    if not len(known):
        raise ValueError(f"{where} has no value in any row; wanted some. Remove it.")
    if kind.resolution == "auto":
        kind = dataclasses.replace(kind, resolution=inference.find_resolution(known))
    rare = 0.5 / (len(known) + 1)
    holes = len(values) - len(known)
    marginal, bounded = _marginal(kind, known, rare, rng, where)
    return Column(
        name=name,
        kind=kind,
        dtype=_dtype_name(column),
        has_holes=holes > 0,
        missing=float((holes + 0.5) / (len(values) + 1)),
        origin=float(known[0]),
        rare=rare,
        bounded=bounded,
        marginal=marginal,
    )


def _dtype_name(column):
    return "category" if isinstance(column.dtype, pd.CategoricalDtype) else str(column.dtype)


def _marginal(kind, known, rare, rng, where):
    if isinstance(kind, Category):
        cells = len(kind.levels) + 1
        counts = np.bincount(known.astype(int), minlength=cells)[:cells].astype(float)
        counts[-1] += 0.5  # the level "unseen"
        return marginals.of_cells(np.arange(cells + 1), counts, 0.0, (False, False), prior=1e-6), False
    if kind.is_circle:
        return marginals.of_circle(known - kind.origin, kind.resolution, kind.period, rng), False
    lower, upper = bounds(kind)
    for bound, is_beyond in ((lower, np.less), (upper, np.greater)):
        if bound is not None and is_beyond(known, bound).any():
            raise ValueError(f"{where} holds {known[is_beyond(known, bound)][0]:g}; wanted none beyond {bound:g}.")
    if kind.resolution is not None:
        found = marginals.of_grid(known, kind.resolution, rare, lower, upper)
        if found is not None:
            return found, False
    if lower is None and upper is None:
        return marginals.of_values(known, kind.resolution, rare, rng), False
    drawn = known if kind.resolution is None else known + kind.resolution * rng.uniform(size=len(known))
    linked, log_slope = from_bounds(kind, tf.constant(drawn))
    if not np.isfinite(log_slope).all():
        raise ValueError(f"{where} holds numbers on a bound, and is on no grid; wanted numbers within the bounds.")
    return marginals.of_values(linked.numpy(), None, rare, rng), True


def _with_levels(kind, column, y, where):
    if kind.levels is not None:
        return kind
    known = ~column.isna().to_numpy()
    unique, codes = unique_values(column[known], where)
    counts = np.bincount(codes, minlength=len(unique))
    kept = np.sort(np.argsort(-counts, kind="stable")[: kind.most])
    if getattr(column.dtype, "ordered", False):
        order = [level for level in column.cat.categories if level in {unique[i] for i in kept}]
        return dataclasses.replace(kind, levels=tuple(order))
    if y is not None:
        places = _by_response(codes, np.asarray(y)[known], counts)
        kept = kept[np.argsort(places[kept], kind="stable")]
        levels = [unique[i] for i in kept]
    else:
        levels = sorted((unique[i] for i in kept), key=lambda level: (str(type(level)), level))
    return dataclasses.replace(kind, levels=tuple(levels))


def _by_response(codes, y, counts, prior=5.0):
    """Returns a place for each level: its mean response, or for classes the direction in which the levels differ most.

    Means of few rows are drawn towards that of all.
    """
    y = np.unique(y, return_inverse=True)[1] if np.asarray(y).dtype.kind not in "fc" else y
    wide = np.eye(int(y.max()) + 1)[y.astype(int)] if y.dtype.kind in "iub" else y[:, None].astype(float)
    away = wide - wide.mean(0)
    means = np.stack([np.bincount(codes, part, len(counts)) for part in away.T], 1) / (counts[:, None] + prior)
    weighted = means * np.sqrt(counts[:, None])
    return means @ np.linalg.svd(weighted, full_matrices=False)[2][0]
