"""Which columns make a row unlikely."""

import numpy as np
import pandas as pd

from tfp_hybrid import arguments
from tfp_hybrid.models import DensityModel, checks, side_inputs
from tfp_hybrid.tables import frames
from tfp_hybrid.uncertainty.hole_units import log_widths
from tfp_hybrid.uncertainty.named_rows import BATCH_SIZE, check_rows, log_probs, names_of, noise


def explain(model: DensityModel, x, reference, draws: int = 64, seed: int = 0) -> pd.DataFrame:
    """Measures how much more likely each row would be if one column had a usual value.

    The entry of row x and column j, in nats, is

        log( 1/K sum_k p(x with x_j replaced by r_kj) ) - log p(x),        r_1 .. r_K rows of the reference,

    so a column is responsible for a row of low density as far as its entry is large. It is about 0 or below for a value
    as usual as others, given the rest of the row. Where two columns do not fit together, both have a high entry, since
    either could be wrong; where two columns have wild values, each is judged with the other one as it is.

    With `tables.Columns`, holes are values: they are replaced, and a hole of the reference replaces. A hole has a
    probability, and a number a density, which is multiplied by the width of the usual numbers where the two meet (see
    `hole_units.log_widths`), so that the unit of the column does not matter. log p(x) is then a mean over the noise of
    K draws, too.

    Args:
      model: A trained `DensityModel` or `HybridModel` of vectors, without an encoder.
      x: Rows to explain, `(n, d)`: an array, or a DataFrame. Side inputs beside them, which the density does not see,
        make no difference.
      reference: In-distribution rows, such as held-out ones, `(m, d)`.
      draws: K. Of a reference with no more rows, all are used.
      seed: The random seed of the choice of reference rows.

    Returns:
      A DataFrame with a row for each row of x and a column for each of its columns, in nats. An entry is inf where
      log p(x) is -inf and the replacement makes it finite, 0 where both are -inf, and -inf where only the replacement
      is impossible.

    Raises:
      ValueError: If the model takes images or has an encoder, if x or the reference has no rows or does not suit the
        model, or if `draws` < 1.

    Example:

    >>> from tfp_hybrid.uncertainty import explain
    >>> density = DensityModel(flow_distribution(bijectors.ActNorm((3,))))  # standard normal
    >>> usual = np.random.default_rng(0).normal(size=(100, 3)).astype("float32")
    >>> explain(density, np.array([[0.5, 8.0, -1.0]]), usual).idxmax(axis=1).tolist()
    ['x1']
    """
    check_rows(model)
    arguments.check_count(draws, "draws")
    names = names_of(model, x)
    given = checks.inputs(x, model, names=names)
    rows, usual = map(side_inputs.main, (given, checks.inputs(reference, model, "reference", names=names)))
    order = np.random.default_rng(seed).permutation(len(usual))
    # Each row equally often, as far as possible.
    lent = usual[np.resize(order, draws)]
    widths = log_widths(model, rows, usual)
    before, after = np.full(len(rows), -np.inf), np.full(rows.size, -np.inf)
    for number, values in enumerate(lent):
        wide = np.where(np.isnan(values), 0.0, widths)
        with noise(model, number):
            before = np.logaddexp(before, log_probs(model, given)[0])
            for start in range(0, rows.size, BATCH_SIZE):
                i, j = np.divmod(np.arange(start, min(start + BATCH_SIZE, rows.size)), rows.shape[1])
                changed = rows[i]
                changed[np.arange(len(i)), j] = values[j]
                changed = side_inputs.with_main(side_inputs.take(given, i), changed)
                part = slice(start, start + len(i))
                after[part] = np.logaddexp(after[part], log_probs(model, changed)[0] + wide[j])
    after = after.reshape(rows.shape) - np.log(draws)
    before = before[:, np.newaxis] - np.log(draws) + np.where(np.isnan(rows), 0.0, widths)
    surprise = np.zeros(rows.shape)
    np.subtract(after, before, out=surprise, where=np.isfinite(after) | np.isfinite(before))
    return pd.DataFrame(surprise, x.index if frames.is_frame(x) else None, list(names))
