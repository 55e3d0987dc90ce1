"""`fit_effects`: fixed effects, random effects and variance components of a trained model, from all rows at once."""

import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments, heads
from tfp_hybrid.bayes.maximization import State, maximized
from tfp_hybrid.bayes.mixed_design import Design, Precision
from tfp_hybrid.bayes.rows import Rows, check_kernel, encoded
from tfp_hybrid.models import HybridModel

_MOST_STEPS, _MOST_HALVINGS = 50, 30  # of Newton
_START = 0.3**2  # the variance of an effect, where none is known
_FARTHEST = 300.0  # the mean of a slope from zero, in standard deviations
_CLOSE = 1e-9  # what a step still has to promise, in nats for each nat of the log posterior


class EffectsFit(NamedTuple):
    """What `fit_effects` found.

    Attributes:
      log_evidence: log p(y|x) in nats with all effects integrated out: of a `Normal` head exactly (it is the restricted
        likelihood, REML, with a flat prior in the unit of y), of others by Laplace's approximation.
      rounds: How many times the variance components were computed anew.
      converged: Whether they did not change any more.
    """

    log_evidence: float
    rounds: int
    converged: bool


def fit_effects(
    model: HybridModel,
    x,
    y=None,
    sample_weight=None,
    prior: float = 0.0,
    max_rounds: int = 200,
    batch_size: int | None = None,
) -> EffectsFit:
    """Finds kernel, bias, random effects and variance components of a head together, with the flow as it is.

    Each row passes through the flow once. Given the variance components, all effects are one sparse linear system for a
    `Normal` head, and Newton's steps with such a system in each for others. The variance components, and the variance
    of the noise of a `Normal` head, are those of highest evidence (of Laplace's, about), by expectation maximization:

        C_g = mean_l (m_l m_l^T + S_l),      Normal(m_l, S_l) the posterior of the effects of level l

    extrapolated as in SQUAREM. Without groups, it is the fit of a generalized linear model by maximum likelihood.

    Args:
      model: A trained `HybridModel` whose head is a `heads.MixedEffects`, or any other head with a kernel.
      x: The rows that it was trained on; or a data set of batches `(x, y)`, read once.
      y: Their responses.
      sample_weight: The weight of each row, `(n,)`, or None; 2 is the same as a row that stands twice.
      prior: The precision >= 0 of a Normal prior of the kernel and bias; 0 is flat. A `Categorical` head needs one > 0,
        since all of its logits may rise together.
      max_rounds: After how many rounds, or one more, to stop.
      batch_size: Rows of a batch of an array; 256 if None.

    Returns:
      An `EffectsFit`. Kernel, bias, effects and the scale of a `Normal` head are weights of the head.

    Raises:
      ValueError: For arguments that are not as above, rows that do not determine the fixed effects or have no level of
        a group, a slope that does not vary about zero, or two groups that both have very many levels.

    References:
      Nalisnick et al. 2019, appendix B.1; Bates, Maechler, Bolker and Walker 2015, "Fitting Linear Mixed-Effects Models
      Using lme4", section 3; Varadhan and Roland 2008, "Simple and Globally Convergent Methods for Accelerating the
      Convergence of Any EM Algorithm".
    """
    check_kernel(model)
    head = model.head
    arguments.check_number(prior, "prior", 0)
    arguments.check_count(max_rounds, "max_rounds")
    if head.posterior is not None and not isinstance(head, heads.MixedEffects):
        raise ValueError("fit_effects: the head has a posterior; wanted none, or `heads.MixedEffects`.")
    if isinstance(head.unwrapped(), heads.Categorical) and not prior:
        raise ValueError(
            "prior is 0, but the logits of a Categorical head may all rise together, so that no rows determine its "
            "bias; wanted a precision > 0."
        )
    rows = encoded(model, x, y, sample_weight, batch_size)
    _check_size(head, rows.total)
    problem = _problem(head, rows, float(prior))
    state = problem.start()
    found = maximized(problem, state, max_rounds)
    problem.store(found.state)
    if not found.converged:
        warnings.warn(
            f"fit_effects: the variance components still changed after {found.rounds} rounds; raise `max_rounds`.",
            stacklevel=2,
        )
    return EffectsFit(found.log_evidence, found.rounds, found.converged)


def _check_size(head, rows):
    """Warns if the `train_size` of a head was another one."""
    size = getattr(head, "train_size", rows)
    if not 0.5 <= size / rows <= 2:
        warnings.warn(
            f"fit_effects: `train_size` of the head is {size:g}, but there are {rows:g} rows; training has drawn "
            f"effects to zero {'less' if size > rows else 'more'} than these rows would have it.",
            stacklevel=3,
        )


class _Problem:
    """The evidence of the variance components of a head, and one step of expectation maximization."""

    def __init__(self, head: heads.Head, rows: Rows, design: Design, prior: float, units_of_slopes: list):
        self.head, self.rows, self.design, self.prior = head, rows, design, prior
        # From effects of standardized slopes to those of slopes as given.
        self.back = [np.kron(np.linalg.inv(unit), np.eye(design.units)) for unit in units_of_slopes]

    def start(self) -> State:
        """What training has found."""
        head, shapes = self.head, self.design.shapes
        fixed = np.concatenate([head.kernel.numpy(), head.bias.numpy()[np.newaxis]]).astype(float)
        effects, components = [], []
        for i, shape in enumerate(shapes[1:]):
            means = head.posterior.means[i].numpy().astype(float)
            effects.append((means @ np.linalg.inv(self.back[i]).T).reshape(shape))
            has_slopes = shape[1] > 1  # of which training, in whatever unit they are, may know nothing yet
            trained = head.posterior.prior_covariance(i).numpy().astype(float)
            components.append(_START * np.eye(len(trained)) if has_slopes else trained)
        return State([fixed, *effects], components, self._noise())

    def _noise(self):
        return np.ones(self.design.units)

    def step(self, state: State) -> tuple[float, State]:
        """The log evidence of a state, and the next state."""
        coefficients, precision, log_likelihood = self.mode(state)
        log_evidence = log_likelihood - 0.5 * precision.log_det
        log_evidence += 0.5 * coefficients[0].size * np.log(2 * np.pi) + self._of_unit()
        log_evidence -= 0.5 * self.prior * np.sum(coefficients[0] ** 2)
        spread, components = precision.covariances(), []
        for effects, covariance, each in zip(coefficients[1:], state.components, spread, strict=True):
            effects = effects.reshape(len(effects), -1)
            log_evidence -= 0.5 * len(effects) * np.linalg.slogdet(covariance)[1]
            log_evidence -= 0.5 * np.sum(effects @ np.linalg.inv(covariance) * effects)
            components.append((effects.T @ effects + each.sum(0)) / len(effects))
        noise = self.next_noise(state, coefficients, spread)
        conditional = [np.linalg.inv(blocks) for blocks in precision.blocks]
        return float(log_evidence), State(coefficients, components, noise, spread, conditional)

    def _of_unit(self):
        return 0.0

    def slack(self, log_evidence):
        """How much lower the evidence may be than before: that of Laplace is not highest where the steps lead to."""
        return 1.0

    def next_noise(self, state, coefficients, spread):
        """The variance of the noise of a Normal head in the next state, `(u,)`."""
        return state.noise

    def _log_posterior(self, log_likelihood, coefficients, inverses):
        total = log_likelihood - 0.5 * self.prior * np.sum(coefficients[0] ** 2)
        for effects, inverse in zip(coefficients[1:], inverses, strict=True):
            effects = effects.reshape(len(effects), -1)
            total -= 0.5 * np.sum(effects @ inverse * effects)
        return total

    def mode(self, state: State) -> tuple[list, Precision, float]:
        """The mode of the effects by Newton's steps, the precision there, and log p(y|x, effects)."""
        coefficients, inverses = state.coefficients, [np.linalg.inv(one) for one in state.components]
        log_likelihood, gradient = self._slope(coefficients, inverses)
        value = self._log_posterior(log_likelihood, coefficients, inverses)
        for _ in range(_MOST_STEPS):
            precision = self._precision(coefficients, state.components)
            step = precision.solve(gradient)
            promised = 0.5 * sum(np.sum(a * b) for a, b in zip(step, gradient, strict=True))
            if promised <= _CLOSE * max(1.0, abs(value)):
                break
            for halving in range(_MOST_HALVINGS):
                tried = [one + change / 2**halving for one, change in zip(coefficients, step, strict=True)]
                of_tried, slope = self._slope(tried, inverses)
                found = self._log_posterior(of_tried, tried, inverses)
                if np.isfinite(found) and found >= value:
                    break
            else:
                break  # float32 knows no better
            coefficients, log_likelihood, gradient, value = tried, of_tried, slope, found
        return coefficients, precision, log_likelihood

    def _slope(self, coefficients, inverses):
        eta = self.design.predictors(coefficients)
        total, slopes = 0.0, np.empty_like(eta)
        for part, y, weights in self._chunks(eta):
            log_prob, slope = self.head.compiled_slope(tf.constant(eta[part], self.head.variable_dtype), tf.constant(y))
            total += weights @ log_prob.numpy().astype(float)
            slopes[part] = slope.numpy() * weights[:, np.newaxis]
        gradient = self.design.gradient(slopes)
        gradient[0] -= self.prior * coefficients[0]
        for g, inverse in enumerate(inverses, start=1):
            effects = coefficients[g].reshape(len(coefficients[g]), -1)
            gradient[g] -= (effects @ inverse).reshape(gradient[g].shape)
        return float(total), gradient

    def _precision(self, coefficients, components):
        eta, units = self.design.predictors(coefficients), self.design.units
        each = np.empty((len(eta), units, units))
        for part, y, weights in self._chunks(eta):
            found = self.head.compiled_information(tf.constant(eta[part], self.head.variable_dtype), tf.constant(y))
            each[part] = found.numpy() * weights[:, np.newaxis, np.newaxis]
        pairs = [(a, b) for a in range(units) for b in range(a, units) if a == b or each[:, a, b].any()]
        products = {pair: self.design.products(each[:, pair[0], pair[1]]) for pair in pairs}
        return Precision.of(self.design, products, components, self.prior)

    def _chunks(self, eta):
        start = 0
        for _, y, weights in self.rows.chunks(self.design.units**2):
            part = slice(start, start + len(y))
            start = part.stop
            yield part, y, weights

    def store(self, state: State):
        """Makes a state the weights of the head."""
        head = self.head
        head.kernel.assign(state.coefficients[0][:-1].astype(head.variable_dtype))
        head.bias.assign(state.coefficients[0][-1].astype(head.variable_dtype))
        of_groups = zip(state.coefficients[1:], state.alone, state.conditional, strict=True)
        for i, (effects, alone, conditional) in enumerate(of_groups):
            back, effects = self.back[i], effects.reshape(len(effects), -1)
            conditional, rest = (back @ one @ back.T for one in (conditional, alone - conditional))
            head.posterior.set_effects(i, effects @ back.T, conditional, rest)


class _NormalProblem(_Problem):
    """The same for a Normal head, exactly and in float64; its noise is one more component."""

    def __init__(self, head, rows, design, prior, units_of_slopes):
        super().__init__(head, rows, design, prior, units_of_slopes)
        normal = head.unwrapped()
        mean, stddev = (one.numpy().astype(float) for one in (normal.response_mean, normal.response_stddev))
        self._y = ((rows.y - mean) / stddev).reshape(len(rows.y), -1)
        self._stddev = np.broadcast_to(stddev, normal.event_shape).reshape(-1) if normal.event_shape else stddev
        self._products = design.products(rows.weights)
        self._right = design.gradient(rows.weights[:, np.newaxis] * (self._y - design.offset))

    def _noise(self):
        return np.exp(2 * np.atleast_1d(self.head.unwrapped().log_scale.numpy().astype(float)))

    def _of_unit(self):
        # The flat prior is one of fixed effects in the unit of y.
        return float((self.design.phi.shape[1] - self.rows.total) * np.log(self._stddev).sum())

    def slack(self, log_evidence):
        return 1e-6 * abs(log_evidence)

    def mode(self, state):
        scaled = {}
        for a, noise in enumerate(state.noise):
            scaled[a, a] = tuple(None if one is None else one / noise for one in self._products)
        precision = Precision.of(self.design, scaled, state.components, self.prior)
        coefficients = precision.solve([one / state.noise for one in self._right])
        squares = self._squares(coefficients)
        log_likelihood = -0.5 * (self.rows.total * np.log(2 * np.pi * state.noise) + squares / state.noise).sum()
        return coefficients, precision, float(log_likelihood)

    def _squares(self, coefficients):
        return self.rows.weights @ (self._y - self.design.predictors(coefficients)) ** 2

    def next_noise(self, state, coefficients, spread):
        # Of a predictor, the trace of (products / noise) times the covariance is that of 1 - prior times covariance.
        features, units = coefficients[0].shape
        known = np.full(units, float(features))
        for covariance, each, effects in zip(state.components, spread, coefficients[1:], strict=True):
            count, k, _ = effects.shape
            shares = count - np.einsum("ij,lji->i", np.linalg.inv(covariance), each)
            known += shares.reshape(k, units).sum(0)
        return (self._squares(coefficients) + state.noise * known) / self.rows.total

    def store(self, state):
        super().store(state)
        normal = self.head.unwrapped()
        normal.log_scale.assign(0.5 * np.log(state.noise).reshape(normal.log_scale.shape))
        normal.widening.assign(1.0)  # what `calibrate` made of another scale


def _problem(head, rows, prior):
    is_mixed = isinstance(head, heads.MixedEffects)
    features, units = head.kernel.shape
    z, side = tf.constant(rows.z[:, :features]), rows.z[:, features:]
    levels, slopes, counts, units_of_slopes = [], [], [], []
    inside = rows.z
    if is_mixed:
        own = sum(group.size for group in head.groups.values())
        inside, side = rows.z[:, : rows.z.shape[1] - own], rows.z[:, rows.z.shape[1] - own :]
        for name, group in head.groups.items():
            part, side = side[:, : group.size].astype(float), side[:, group.size :]
            levels.append(part[:, 0].astype(np.int64))
            _check_known(levels[-1], name)
            unit = _unit_of_slopes(part[:, 1:], rows.weights, group)
            slopes.append(np.concatenate([np.ones((len(part), 1)), part[:, 1:]], 1) @ np.linalg.inv(unit))
            units_of_slopes.append(unit)
            counts.append(len(group))
    # At a latent of zeros, the predictors are the bias and the offset.
    of_zero = np.concatenate([np.zeros_like(z), inside[:, features:]], 1)
    fixed = head.head if is_mixed else head
    offset = tf.reshape(fixed.linear_predictor(tf.constant(of_zero)), [-1, units]).numpy() - head.bias.numpy()
    phi = np.concatenate([z, np.ones((len(rows.z), 1), rows.z.dtype)], 1)
    design = Design(phi, offset.astype(float), levels, slopes, counts, units)
    normal = isinstance(head.unwrapped(), heads.Normal) and not _is_partly_observed(head)
    return (_NormalProblem if normal else _Problem)(head, rows, design, prior, units_of_slopes)


def _is_partly_observed(head):
    inside = getattr(head, "head", None)
    return isinstance(head, heads.PartlyObserved) or (inside is not None and _is_partly_observed(inside))


def _check_known(levels, name):
    """Raises ValueError if no row belongs to a level, and warns if some do not."""
    unknown = int((levels < 0).sum())
    if unknown == len(levels):
        raise ValueError(f"x: {name!r} holds no id that is a level; wanted the ids that `heads.Group` was given.")
    if unknown:
        warnings.warn(
            f"x: {name!r} holds ids that are no levels in {unknown} rows, which have no effect.", stacklevel=4
        )


def _unit_of_slopes(slopes, weights, group):
    """M with (1, slopes) = (1, standardized slopes) M, `(k, k)`.

    Raises:
      ValueError: If a slope does not vary, or varies so little beside its mean that float32 cannot hold its effects.
    """
    mean = np.average(slopes, 0, weights)
    spread = np.sqrt(np.average((slopes - mean) ** 2, 0, weights))
    for name, center, width in zip(group.slopes, mean, spread, strict=True):
        if not width > abs(center) / _FARTHEST:
            raise ValueError(
                f"x: {name!r}, a slope, has the mean {center:.6g} and the standard deviation {width:.3g}; wanted "
                "values that vary about zero. Subtract the mean."
            )
    unit = np.diag(np.append(1.0, spread))
    unit[0, 1:] = mean
    return unit
