"""The problems of `python -m benchmarks groups`, each a generator of (fold, method, figure, value, seconds)."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from sklearn.model_selection import GroupKFold, KFold

from benchmarks import groups_data as data
from benchmarks.groups_models import (
    Boosting,
    MixedModel,
    Settings,
    fit,
    gpboost,
    noise_variance,
    poisson_regression,
    restricted_log_likelihood,
)
from benchmarks.process import ENVIRONMENT, ROOT
from tfp_hybrid import heads

OURS, FIXED, GPBOOST, ALL = "mixed effects", "fixed effects alone", "gpboost", "all rows"
FLOW = Settings(couplings=4, epochs=10, batch_size=256, learning_rate=2e-3)
FOLDS = 5
Figures = Iterator[tuple]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A problem.

    Args:
      about: What is measured.
      measure: A function that yields the figures; its argument says whether to be quick, with one fold.
      aims: (method, figure, least, most): what the mean of a figure was meant to be.
    """

    about: str
    measure: Callable[[bool], Figures]
    aims: tuple[tuple[str, str, float, float], ...] = ()


def _folds(table, quick):
    folds = enumerate(KFold(FOLDS, shuffle=True, random_state=42).split(table.y))
    return [next(folds)] if quick else folds


def _timed(function, *args, **kwargs):
    started = time.perf_counter()
    return function(*args, **kwargs), time.perf_counter() - started


def _answers(model, table, rows):
    """The mean of p(y|x), and its negative logarithm, of each of some rows."""
    p_y, _ = model.predict_distribution(table.inputs(rows), batch_size=4096)
    return p_y.mean().numpy(), -p_y.log_prob(table.y[rows]).numpy()


def _coverage(model, table, rows):
    low, high = model.predict_interval(table.inputs(rows), level=0.9, batch_size=4096)
    return np.mean((low <= table.y[rows]) & (table.y[rows] <= high))


def _instructors(quick):
    gpboost()
    table = data.instructors().grouped_by("student", "instructor")
    for fold, (train, test) in _folds(table, quick):
        for method, rows in ((OURS, table), (FIXED, table.grouped_by())):
            (model, _), seconds = _timed(fit, rows, train, heads.Normal())
            mean, nll = _answers(model, rows, test)
            yield fold, method, "MSE", np.mean((mean - table.y[test]) ** 2), seconds
            yield fold, method, "NLL", nll.mean(), seconds
    if quick:
        return
    (model, _), seconds = _timed(fit, table, slice(None), heads.Normal())
    ours = [noise_variance(model), *(one.item() for one in model.head.variance_components().values())]
    yield ALL, OURS, "seconds of training and fit_effects", seconds, seconds
    peer, of_peer = _timed(MixedModel, table, slice(None))
    for name, own, other in zip(("noise", *table.groups), ours, peer.variances, strict=True):
        yield ALL, OURS, f"variance of {name}", own, seconds
        yield ALL, GPBOOST, f"variance of {name}", other, of_peer
        yield ALL, f"{OURS} beside {GPBOOST}", f"relative difference of the variance of {name}", own / other - 1, np.nan


def _unseen(quick):
    students = data.instructors().grouped_by("student", "instructor")
    schools = data.with_cubic_grades(data.chemistry())
    for table, name in ((students, "student"), (students, "instructor"), (schools, "school")):
        folds = enumerate(GroupKFold(FOLDS).split(table.y, groups=table.groups[name]))
        for fold, (train, test) in [next(folds)] if quick else folds:
            (model, _), seconds = _timed(fit, table, train, heads.Normal())
            yield fold, f"new {name}s", "coverage of 90 % intervals", _coverage(model, table, test), seconds


def _chemistry(quick):
    gpboost()
    table = data.chemistry()
    boosting = _tuned_boosting(table, quick)
    cubic = data.with_cubic_grades(table)
    contestants = {
        "linear, no groups": (table.grouped_by(), heads.Normal, Settings()),
        "linear": (table, heads.Normal, Settings()),
        "cubic": (cubic, heads.Normal, Settings()),
        "RealNVP": (table, heads.Normal, dataclasses.replace(FLOW, epochs=1) if quick else FLOW),
    }
    for fold, (train, test) in _folds(table, quick):
        nlls = {}
        for method, (rows, head, settings) in contestants.items():
            (model, _), seconds = _timed(fit, rows, train, head(), settings)
            mean, nlls[method] = _answers(model, rows, test)
            yield fold, method, "MSE", np.mean((mean - table.y[test]) ** 2), seconds
            yield fold, method, "NLL", nlls[method].mean(), seconds
        trees, seconds = _timed(boosting.fit, table, train)
        mean, stddev = boosting.predict(trees, table, test)
        nll = _normal_nll(mean, stddev, table.y[test])
        yield fold, GPBOOST, "MSE", np.mean((mean - table.y[test]) ** 2), seconds
        yield fold, GPBOOST, "NLL", nll.mean(), seconds
        for method in ("cubic", "RealNVP"):
            yield fold, f"{method} beside {GPBOOST}", "difference of NLL", (nlls[method] - nll).mean(), np.nan


def _tuned_boosting(table, quick):
    """The settings of lowest NLL on a fifth of the training rows of the first fold."""
    rows, _ = next(KFold(FOLDS, shuffle=True, random_state=42).split(table.y))
    train, held_out = (rows[part] for part in next(KFold(FOLDS, shuffle=True, random_state=0).split(rows)))
    found = {}
    for rate, leaves in ((0.1, 7),) if quick else ((0.1, 7), (0.1, 15), (0.05, 15)):
        candidate = Boosting(rate, leaves, 10 if quick else 800)
        trees = candidate.fit(table, train)
        for rounds in (10,) if quick else (100, 200, 400, 600, 800):
            mean, stddev = candidate.predict(trees, table, held_out, rounds)
            settings = dataclasses.replace(candidate, rounds=rounds)
            found[settings] = _normal_nll(mean, stddev, table.y[held_out]).mean()
    return min(found, key=found.get)


def _normal_nll(mean, stddev, y):
    return 0.5 * np.log(2 * np.pi * stddev**2) + 0.5 * ((y - mean) / stddev) ** 2


def _movies(quick):
    table = data.movies()
    for fold, (train, test) in _folds(table, quick):
        (model, _), seconds = _timed(fit, table, train, heads.Normal())
        mean, nll = _answers(model, table, test)
        yield fold, OURS, "RMSE", np.sqrt(np.mean((mean - table.y[test]) ** 2)), seconds
        yield fold, OURS, "NLL", nll.mean(), seconds


def _ticks(quick):
    gpboost()
    table = data.ticks()
    for fold, (train, test) in _folds(table, quick):
        (model, _), seconds = _timed(fit, table, train, heads.ExponentialFamily("Poisson"))
        nll = _answers(model, table, test)[1]
        peer, of_peer = _timed(MixedModel, table, train, "poisson")
        other = -peer.log_prob(table.y[test], test)
        yield fold, OURS, "NLL", nll.mean(), seconds
        yield fold, GPBOOST, "NLL", other.mean(), of_peer
        yield fold, f"{OURS} beside {GPBOOST}", "difference of NLL", (nll - other).mean(), np.nan


def _claims(quick):
    table = data.claims()
    head = heads.Offset(heads.ExponentialFamily("Poisson"), exposure="holders")
    (model, _), seconds = _timed(fit, table, slice(None), head)
    ours = np.append(model.head.kernel.numpy().ravel(), model.head.bias.numpy())
    other = poisson_regression(table, "holders")
    yield ALL, "offset beside statsmodels", "largest difference of coefficients", np.abs(ours - other).max(), seconds


def _answers_of_persons(quick):
    table = data.answers()
    for fold, (train, test) in _folds(table, quick):
        for method, rows in ((OURS, table), (FIXED, table.grouped_by())):
            settings = Settings(prior=0.01, max_rounds=2 if quick else 60)
            (model, found), seconds = _timed(fit, rows, train, heads.Categorical(3), settings)
            p_y, _ = model.predict_distribution(rows.inputs(test), batch_size=4096)
            yield fold, method, "NLL", -p_y.log_prob(table.y[test]).numpy().mean(), seconds
            yield fold, method, "share of fits that converged", float(found.converged), seconds


def _sleep(quick):
    table = data.sleep()
    for method, slope in (("intercepts", None), ("intercepts and slopes", "days")):
        rows = table if slope else dataclasses.replace(table, numbers={})
        (_, found), seconds = _timed(fit, rows, slice(None), heads.Normal(), slopes=(slope,) if slope else ())
        other = restricted_log_likelihood(table, slope)
        yield ALL, method, "restricted log-likelihood", found.log_evidence, seconds
        yield ALL, f"{method}, statsmodels", "restricted log-likelihood", other, np.nan
        difference = abs(found.log_evidence - other)
        yield ALL, f"{method} beside statsmodels", "difference of log-likelihood", difference, np.nan


def _large(rows, levels, quick):
    size = (rows // 100, levels // 100) if quick else (rows, levels)
    command = [sys.executable, "-m", "benchmarks.groups_large", *map(str, size)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} ended with status {done.returncode}: {done.stderr[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    for figure in ("peak GB", "variance of level"):
        yield ALL, OURS, figure, found[figure], found["seconds"]


_VARIANCES = [f"relative difference of the variance of {name}" for name in ("noise", "student", "instructor")]
_BESIDE = f"{OURS} beside {GPBOOST}"
PROBLEMS = {
    "instructors": Problem(
        "lme4's InstEval: 73,421 ratings by students of instructors; crossed intercepts. On a fifth of the training "
        "rows of the first fold, intercepts of departments did not lower the error, so there are none.",
        _instructors,
        (
            (OURS, "MSE", 0, 1.451),
            (OURS, "seconds of training and fit_effects", 0, 60),
            *((_BESIDE, one, -0.03, 0.03) for one in _VARIANCES),
        ),
    ),
    "new-groups": Problem(
        "Intervals for rows of groups that no training row has (`GroupKFold`): students and instructors of InstEval, "
        "and schools of Chem97 with cubic grades.",
        _unseen,
        tuple(
            (f"new {one}", "coverage of 90 % intervals", 0.88, 0.92) for one in ("students", "instructors", "schools")
        ),
    ),
    "chemistry": Problem(
        "mlmRev's Chem97: 31,022 points in A-level chemistry; intercepts of schools. The flow has 4 affine couplings. "
        "All settings, those of gpboost's boosting among them, were chosen on a fifth of the training rows of the "
        "first fold.",
        _chemistry,
        (
            ("cubic", "MSE", 0, 5.17),
            ("RealNVP", "MSE", 0, 5.17),
            (f"cubic beside {GPBOOST}", "difference of NLL", -np.inf, 0),
            (f"RealNVP beside {GPBOOST}", "difference of NLL", -np.inf, 0),
        ),
    ),
    "movies": Problem(
        "dslabs' movielens: 100,004 ratings by 671 users of 9,066 movies; crossed intercepts, genres and years.",
        _movies,
        ((OURS, "RMSE", 0, 0.886),),
    ),
    "ticks": Problem(
        "lme4's grouseticks: Poisson counts; intercepts of broods, locations and chicks.",
        _ticks,
        ((_BESIDE, "difference of NLL", -np.inf, 0),),
    ),
    "claims": Problem(
        "MASS' Insurance: Poisson counts with an exposure, the holders.",
        _claims,
        (("offset beside statsmodels", "largest difference of coefficients", 0, 1e-3),),
    ),
    "answers": Problem(
        "lme4's VerbAgg: three classes, 7,584 answers; crossed intercepts of each logit, of persons and questions. "
        "Fixed effects have a prior of precision 0.01.",
        _answers_of_persons,
    ),
    "sleep": Problem(
        "lme4's sleepstudy: 180 reaction times of 18 subjects.",
        _sleep,
        tuple(
            (f"{one} beside statsmodels", "difference of log-likelihood", 0, 1e-3)
            for one in ("intercepts", "intercepts and slopes")
        ),
    ),
    "large": Problem(
        "1,000,000 simulated rows of 100,000 levels, with a variance of 0.25, in a fresh process.",
        functools.partial(_large, 1_000_000, 100_000),
        ((OURS, "peak GB", 0, 4),),
    ),
}
