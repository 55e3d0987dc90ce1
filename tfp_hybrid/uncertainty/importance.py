"""How much each column tells about y, and about the other columns."""

import numpy as np
import pandas as pd

from tfp_hybrid import arguments
from tfp_hybrid.models import DensityModel, checks, side_inputs
from tfp_hybrid.uncertainty.hole_units import log_widths
from tfp_hybrid.uncertainty.named_rows import check_rows, log_probs, names_of, noise

_TITLES = ("log p(x)", "p(y|x)")


def column_importance(model: DensityModel, x, y=None, repeats: int = 5, seed: int = 0) -> pd.DataFrame:
    """Measures what is lost if the values of one column are permuted among the rows.

        p(y|x)       mean of log p(y|x) - log p(y|x'),         x' = x with x_j of another row
        log p(x)     mean of log p(x)   - log p(x')

    in nats. The first is what the prediction of y takes from column j, beyond what the other columns tell; it is below
    0 where the model would be better off without the column. The second is 0 for a column that is independent of the
    others; of a perfect model, it is the divergence from p(x) to p(x_j) p(all others), plus the reverse one.

    Args:
      model: A trained `DensityModel` or `HybridModel` of vectors, without an encoder.
      x: Rows that were not used in training, `(n, d)`: an array, or a DataFrame. Side inputs beside them stay with
        their row.
      y: The responses, `(n, *event_shape)`; codes of classes, 0 .. K-1, for a classifier. None for a `DensityModel`.
      repeats: How often each column is permuted. With `tables.Columns`, the noise is another one each time.
      seed: The random seed of the permutations.

    Returns:
      A DataFrame with a row for each column of x: "p(y|x)", "p(y|x) standard error", "log p(x)" and "log p(x) standard
      error"; only the last two for a `DensityModel`. The standard errors include the draw of the rows, each of which
      counts as the one whose value is replaced and as the one that lends its value; they err on the large side. Rows
      whose log p(x) or log p(y|x) is -inf are left out. A mean is inf if a row becomes impossible; its standard error
      is NaN.

    Raises:
      ValueError: If the model takes images or has an encoder, if x or y does not suit the model, if y is given for a
        model without a head, if fewer than two rows have finite log p, or if `repeats` < 1.

    Example:

    >>> from tfp_hybrid.uncertainty import column_importance
    >>> density = DensityModel(flow_distribution(bijectors.ActNorm((2,))))  # independent columns
    >>> x = np.random.default_rng(0).normal(size=(100, 2)).astype("float32")
    >>> bool(column_importance(density, x)["log p(x)"].abs().max() < 1e-5)
    True

    References:
      Breiman 2001, "Random Forests", section 10; Fisher, Rudin and Dominici 2019, "All Models are Wrong, but Many are
      Useful", section 3, for pairs of rows.
    """
    check_rows(model)
    arguments.check_count(repeats, "repeats")
    names = names_of(model, x)
    given = checks.inputs(x, model, names=names)
    if model.head is not None:
        y = checks.labels(y, model.head, side_inputs.count(given))
    elif y is not None:
        raise ValueError("y is given, but model is a DensityModel, which has no p(y|x); wanted y=None.")
    possible = np.isfinite(log_probs(model, given, y)).all(0)
    given, y = side_inputs.take(given, possible), None if y is None else y[possible]
    rows = side_inputs.main(given)
    if len(rows) < 2:
        raise ValueError(f"x has {len(rows)} rows with finite log p(x) and log p(y|x); wanted at least 2.")
    rng = np.random.default_rng(seed)
    titles = _TITLES[: 1 if y is None else 2]
    # Of a permutation, the widths of all rows cancel; those of one row and another do not, in the standard errors.
    wide = np.where(np.isnan(rows), 0.0, log_widths(model, rows, rows))
    lost, influence = np.zeros((2, len(titles), len(names), len(rows)))
    for number in range(repeats):
        donors = _donors(rng, len(rows))
        with noise(model, number):
            before = log_probs(model, given, y)
            for j in range(len(names)):
                changed = rows.copy()
                changed[:, j] = rows[donors, j]
                fall = before - log_probs(model, side_inputs.with_main(given, changed), y)
                fall[0] += wide[:, j] - wide[donors, j]
                fall /= repeats
                lost[:, j] += fall
                influence[:, j] += fall
                influence[:, j, donors] += fall
    with np.errstate(invalid="ignore"):
        errors = influence.std(-1, ddof=1) / np.sqrt(len(rows))
    found = {}
    for title, mean, error in reversed(list(zip(titles, lost.mean(-1), errors, strict=True))):
        found |= {title: mean, f"{title} standard error": error}
    return pd.DataFrame(found, pd.Index(names, name="column"))


def _donors(rng, count):
    """Returns a random permutation in which no row stays in its place, `(count,)`."""
    order = rng.permutation(count)
    donors = np.empty(count, int)
    donors[order] = np.roll(order, 1)
    return donors
