"""The models of `python -m benchmarks groups`: ours, and those of gpboost and statsmodels."""

import dataclasses
import functools

import keras
import numpy as np
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from benchmarks.groups_data import Grouped
from benchmarks.tables_data import MissingData
from tfp_hybrid import bayes, bijectors, heads

tfb, tfd = tfp.bijectors, tfp.distributions
SEED = 0


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a model is trained before its effects are fitted; by default it is a plain generalized linear model.

    Args:
      couplings: Affine couplings of the flow; 0 is an identity flow.
      epochs: Epochs of training.
      batch_size: Rows of a batch.
      learning_rate: That of Adam.
      prior: The precision of the prior of fixed effects.
      max_rounds: As for `bayes.fit_effects`.
    """

    couplings: int = 0
    epochs: int = 1
    batch_size: int = 1024
    learning_rate: float = 1e-2
    prior: float = 0.0
    max_rounds: int = 200

    def distribution(self, size: int) -> tfd.Distribution:
        """p(x), which has weight 0: the flow is there for its features alone."""
        if not self.couplings:
            return tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(size)), tfb.Identity())
        shape = (size,)

        def step():
            conditioner = functools.partial(hy.networks.MLP, hidden_units=(32,))
            coupling = bijectors.AffineCoupling(shape, conditioner=conditioner)
            parts = [bijectors.ActNorm(shape), bijectors.InvertibleLinear(shape), coupling]
            return bijectors.FusedChain(parts, shape)

        return hy.flow_distribution(bijectors.Steps(step, self.couplings, shape))


def fit(
    table: Grouped,
    rows,
    head: heads.Head,
    settings: Settings = Settings(),  # noqa: B008
    slopes: tuple[str, ...] = (),
) -> tuple[hy.HybridModel, bayes.EffectsFit]:
    """Trains a model on some rows, and then fits all effects with `bayes.fit_effects`.

    Args:
      table: The rows.
      rows: The indices of those to train on, or a slice.
      head: The head, which gets the groups of `table`, if it has any.
      settings: How it is trained.
      slopes: The names of slopes of each group.
    """
    keras.utils.set_random_seed(SEED)
    x, y = table.inputs(rows), table.y[rows]
    if table.groups:
        groups = {name: heads.Group(x[name], slopes) for name in table.groups}
        head = heads.MixedEffects(head, groups, train_size=len(y))
    model = hy.HybridModel(settings.distribution(table.x.shape[1]), head, generative_weight=0.0)
    model.compile(keras.optimizers.Adam(settings.learning_rate))
    model.fit(x, y, settings.batch_size, settings.epochs, verbose=0)
    return model, bayes.fit_effects(model, x, y, prior=settings.prior, max_rounds=settings.max_rounds)


def noise_variance(model: hy.HybridModel) -> float:
    """The variance of the noise of a model with a `Normal` head, in the squared unit of y."""
    normal = model.head.unwrapped()
    return float(np.exp(2 * normal.log_scale.numpy()) * normal.response_stddev.numpy() ** 2)


def gpboost():
    """Returns the module.

    Raises:
      MissingData: If it is not installed.
    """
    try:
        import gpboost
    except ImportError:
        raise MissingData("gpboost, a peer, is not installed; run pip install gpboost.") from None
    return gpboost


class MixedModel:
    """gpboost's mixed model of some rows of a table.

    Args:
      table: The rows.
      rows: The indices of those to train on, or a slice.
      likelihood: Its name in gpboost, "gaussian" or "poisson".
    """

    def __init__(self, table: Grouped, rows, likelihood: str = "gaussian"):
        self._x, self._ids, y = _arrays(table)
        self._likelihood = likelihood
        self._model = gpboost().GPModel(group_data=self._ids[rows], likelihood=likelihood)
        self._model.fit(y=y[rows], X=self._x[rows])

    @property
    def variances(self) -> list[float]:
        """Those of the noise, if it is Normal, and of each group."""
        return np.ravel(self._model.get_cov_pars()).tolist()

    def log_prob(self, y: np.ndarray, rows) -> np.ndarray:
        """log p(y | x) of some rows, with the effects integrated out."""
        of_counts = self._likelihood == "poisson"
        found = self._model.predict(
            group_data_pred=self._ids[rows], X_pred=self._x[rows], predict_var=True, predict_response=not of_counts
        )
        mean, stddev = found["mu"], np.sqrt(found["var"])
        if not of_counts:
            return scipy.stats.norm(mean, stddev).logpdf(y)
        nodes, weights = np.polynomial.hermite_e.hermegauss(100)
        each = scipy.stats.poisson.logpmf(y[:, np.newaxis], np.exp(mean[:, np.newaxis] + stddev[:, np.newaxis] * nodes))
        return scipy.special.logsumexp(each, axis=1, b=weights / weights.sum())


@dataclasses.dataclass(frozen=True)
class Boosting:
    """gpboost's boosted trees with an intercept for each level, for a Normal response.

    Args:
      learning_rate: That of boosting.
      num_leaves: The most leaves of a tree.
      rounds: The number of trees.
    """

    learning_rate: float
    num_leaves: int
    rounds: int

    def fit(self, table: Grouped, rows):
        """Returns the trained trees."""
        x, ids, y = _arrays(table)
        of_groups = gpboost().GPModel(group_data=ids[rows], likelihood="gaussian")
        params = {"learning_rate": self.learning_rate, "num_leaves": self.num_leaves, "verbose": -1}
        data = gpboost().Dataset(x[rows], y[rows])
        return gpboost().train(params, data, gp_model=of_groups, num_boost_round=self.rounds)

    def predict(self, trees, table: Grouped, rows, rounds: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of p(y | x) of some rows, by all trees or the first `rounds`."""
        x, ids, _ = _arrays(table)
        found = trees.predict(
            x[rows], group_data_pred=ids[rows], predict_var=True, pred_latent=False, num_iteration=rounds or self.rounds
        )
        return found["response_mean"], np.sqrt(found["response_var"])


def _arrays(table):
    x = np.column_stack([np.ones(len(table.y)), table.x]).astype(float)
    return x, np.stack([ids.astype(str) for ids in table.groups.values()], 1), table.y.astype(float)


def poisson_regression(table: Grouped, exposure: str) -> np.ndarray:
    """Coefficients of statsmodels' Poisson regression, those of x and the intercept, `(d + 1,)`."""
    import statsmodels.api as sm

    x = np.column_stack([table.x, np.ones(len(table.y))]).astype(float)
    return sm.GLM(table.y, x, sm.families.Poisson(), exposure=table.numbers[exposure].astype(float)).fit().params


def restricted_log_likelihood(table: Grouped, slope: str | None = None) -> float:
    """That of statsmodels' mixed model with the one group of a table, and with a slope, in nats."""
    import statsmodels.api as sm

    x = np.column_stack([np.ones(len(table.y)), table.x]).astype(float)
    (ids,) = table.groups.values()
    random = np.ones((len(x), 1)) if slope is None else np.column_stack([np.ones(len(x)), table.numbers[slope]])
    return sm.MixedLM(table.y.astype(float), x, ids, exog_re=random).fit(reml=True).llf
