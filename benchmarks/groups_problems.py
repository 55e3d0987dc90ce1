"""The problems of `python -m benchmarks groups`, in parts, and the figures of each part."""

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

OURS, FIXED, GPBOOST = "mixed effects", "fixed effects alone", "gpboost"
_BESIDE = f"{OURS} beside {GPBOOST}"
ALL = "all rows"
FLOW = Settings(couplings=4, epochs=10, batch_size=256, learning_rate=2e-3)
FOLDS = tuple(f"fold {fold}" for fold in range(5))
NEW = ("students", "instructors", "schools")


@dataclasses.dataclass(frozen=True)
class Problem:
    """A problem.

    Args:
      about: What is measured.
      measure: A function of a part, and of whether to be quick, that yields (method, figure, value, seconds).
      parts: The names of the parts, such as the folds.
      aims: (method, figure, least, most): what the mean of a figure was meant to be.
    """

    about: str
    measure: Callable[[str, bool], Iterator[tuple]]
    parts: tuple[str, ...] = FOLDS
    aims: tuple[tuple[str, str, float, float], ...] = ()


def _rows(table, fold, seed=42):
    """Indices of the training rows and the test rows of a fold."""
    return list(KFold(len(FOLDS), shuffle=True, random_state=seed).split(table.y))[FOLDS.index(fold)]


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


def _instructors(part, quick):
    gpboost()
    table = data.instructors().grouped_by("student", "instructor")
    if part in FOLDS:
        train, test = _rows(table, part)
        for method, rows in ((OURS, table), (FIXED, table.grouped_by())):
            (model, _), seconds = _timed(fit, rows, train, heads.Normal())
            mean, nll = _answers(model, rows, test)
            yield method, "MSE", np.mean((mean - table.y[test]) ** 2), seconds
            yield method, "NLL", nll.mean(), seconds
        return
    (model, _), seconds = _timed(fit, table, slice(None), heads.Normal())
    ours = [noise_variance(model), *(one.item() for one in model.head.variance_components().values())]
    yield OURS, "seconds of training and fit_effects", seconds, seconds
    peer, of_peer = _timed(MixedModel, table, slice(None))
    for name, own, other in zip(("noise", *table.groups), ours, peer.variances, strict=True):
        yield OURS, f"variance of {name}", own, seconds
        yield GPBOOST, f"variance of {name}", other, of_peer
        yield _BESIDE, f"relative difference of the variance of {name}", own / other - 1, np.nan


def _unseen(part, quick):
    fold, names = part.rsplit(", ", 1)
    if names == "schools":
        table = data.with_cubic_grades(data.chemistry())
    else:
        table = data.instructors().grouped_by("student", "instructor")
    folds = list(GroupKFold(len(FOLDS)).split(table.y, groups=table.groups[names[:-1]]))
    train, test = folds[FOLDS.index(fold)]
    (model, _), seconds = _timed(fit, table, train, heads.Normal())
    yield f"new {names}", "coverage of 90 % intervals", _coverage(model, table, test), seconds


def _chemistry(part, quick):
    table = data.chemistry()
    contestants = {
        "linear, no groups": (table.grouped_by(), heads.Normal, Settings()),
        "cubic": (data.with_cubic_grades(table), heads.Normal, Settings()),
        "RealNVP": (table, heads.Normal, _flow(quick)),
    }
    return _beside_boosting(table, contestants, part, quick)


def _noise(part, quick):
    table = data.chemistry()
    contestants = {"RealNVP, variances of rows": (table, heads.HeteroscedasticNormal, _flow(quick))}
    return _beside_boosting(table, contestants, part, quick)


def _flow(quick):
    return dataclasses.replace(FLOW, epochs=1, max_rounds=2) if quick else FLOW


def _beside_boosting(table, contestants, part, quick):
    gpboost()
    boosting = _tuned_boosting(quick)
    train, test = _rows(table, part)
    trees, seconds = _timed(boosting.fit, table, train)
    mean, stddev = boosting.predict(trees, table, test)
    of_peer = _normal_nll(mean, stddev, table.y[test])
    yield GPBOOST, "MSE", np.mean((mean - table.y[test]) ** 2), seconds
    yield GPBOOST, "NLL", of_peer.mean(), seconds
    for method, (rows, head, settings) in contestants.items():
        (model, _), seconds = _timed(fit, rows, train, head(), settings)
        mean, nll = _answers(model, rows, test)
        yield method, "MSE", np.mean((mean - table.y[test]) ** 2), seconds
        yield method, "NLL", nll.mean(), seconds
        if rows.groups:
            yield f"{method} beside {GPBOOST}", "difference of NLL", (nll - of_peer).mean(), np.nan


@functools.cache
def _tuned_boosting(quick):
    """The settings of lowest NLL on a fifth of the training rows of the first fold."""
    table = data.chemistry()
    rows, _ = _rows(table, FOLDS[0])
    train, held_out = (rows[part] for part in next(KFold(len(FOLDS), shuffle=True, random_state=0).split(rows)))
    found = {}
    for rate, leaves in ((0.1, 7),) if quick else ((0.1, 7), (0.1, 15)):
        candidate = Boosting(rate, leaves, 10 if quick else 800)
        trees = candidate.fit(table, train)
        for rounds in (10,) if quick else (100, 200, 400, 600, 800):
            mean, stddev = candidate.predict(trees, table, held_out, rounds)
            settings = dataclasses.replace(candidate, rounds=rounds)
            found[settings] = _normal_nll(mean, stddev, table.y[held_out]).mean()
    return min(found, key=found.get)


def _normal_nll(mean, stddev, y):
    return 0.5 * np.log(2 * np.pi * stddev**2) + 0.5 * ((y - mean) / stddev) ** 2


def _movies(part, quick):
    table = data.movies()
    train, test = _rows(table, part)
    (model, _), seconds = _timed(fit, table, train, heads.Normal())
    mean, nll = _answers(model, table, test)
    yield OURS, "RMSE", np.sqrt(np.mean((mean - table.y[test]) ** 2)), seconds
    yield OURS, "NLL", nll.mean(), seconds


def _ticks(part, quick):
    gpboost()
    table = data.ticks()
    train, test = _rows(table, part)
    (model, _), seconds = _timed(fit, table, train, heads.ExponentialFamily("Poisson"))
    _, nll = _answers(model, table, test)
    peer, of_peer = _timed(MixedModel, table, train, "poisson")
    other = -peer.log_prob(table.y[test], test)
    yield OURS, "NLL", nll.mean(), seconds
    yield GPBOOST, "NLL", other.mean(), of_peer
    yield _BESIDE, "difference of NLL", (nll - other).mean(), np.nan


def _claims(part, quick):
    table = data.claims()
    head = heads.Offset(heads.ExponentialFamily("Poisson"), exposure="holders")
    (model, _), seconds = _timed(fit, table, slice(None), head)
    ours = np.append(model.head.kernel.numpy().ravel(), model.head.bias.numpy())
    other = poisson_regression(table, "holders")
    yield "offset beside statsmodels", "largest difference of coefficients", np.abs(ours - other).max(), seconds


def _answers_of_persons(part, quick):
    table = data.answers()
    train, test = _rows(table, part)
    for method, rows in ((OURS, table), (FIXED, table.grouped_by())):
        settings = Settings(prior=0.01, max_rounds=2 if quick else 60)
        (model, found), seconds = _timed(fit, rows, train, heads.Categorical(3), settings)
        p_y, _ = model.predict_distribution(rows.inputs(test), batch_size=4096)
        yield method, "NLL", -p_y.log_prob(table.y[test]).numpy().mean(), seconds
        yield method, "share of fits that converged", float(found.converged), seconds


def _sleep(part, quick):
    table, slope = data.sleep(), "days" if part == "intercepts and slopes" else None
    rows = table if slope else dataclasses.replace(table, numbers={})
    (_, found), seconds = _timed(fit, rows, slice(None), heads.Normal(), slopes=(slope,) if slope else ())
    other = restricted_log_likelihood(table, slope)
    yield part, "restricted log-likelihood", found.log_evidence, seconds
    yield f"{part}, statsmodels", "restricted log-likelihood", other, np.nan
    yield f"{part} beside statsmodels", "difference of log-likelihood", abs(found.log_evidence - other), np.nan


def _large(part, quick):
    rows, levels = (10_000, 1000) if quick else (1_000_000, 100_000)
    command = [sys.executable, "-m", "benchmarks.groups_large", str(rows), str(levels)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} ended with status {done.returncode}: {done.stderr[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    for figure in ("peak GB", "variance of level"):
        yield OURS, figure, found[figure], found["seconds"]


_VARIANCES = [f"relative difference of the variance of {name}" for name in ("noise", "student", "instructor")]
PROBLEMS = {
    "instructors": Problem(
        "lme4's InstEval: 73,421 ratings by students of instructors; crossed intercepts. On a fifth of the training "
        "rows of the first fold, intercepts of departments did not lower the error, so there are none.",
        _instructors,
        (*FOLDS, ALL),
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
        tuple(f"{fold}, {names}" for fold in FOLDS for names in NEW),
        tuple(
            (f"new {one}", "coverage of 90 % intervals", 0.88, 0.92) for one in ("students", "instructors", "schools")
        ),
    ),
    "chemistry": Problem(
        "mlmRev's Chem97: 31,022 points in A-level chemistry; intercepts of schools. The flow has 4 affine couplings. "
        "All settings, those of gpboost's boosting among them, were chosen on a fifth of the training rows of the "
        "first fold.",
        _chemistry,
        FOLDS,
        (
            ("cubic", "MSE", 0, 5.17),
            ("RealNVP", "MSE", 0, 5.17),
            (f"cubic beside {GPBOOST}", "difference of NLL", -np.inf, 0),
            (f"RealNVP beside {GPBOOST}", "difference of NLL", -np.inf, 0),
        ),
    ),
    "noise": Problem(
        "Chem97 as before, with a variance that differs between rows: a `HeteroscedasticNormal` head, with intercepts "
        "of schools of the mean and of the log-scale. The noise of gpboost's boosting has one variance.",
        _noise,
        FOLDS,
        ((f"RealNVP, variances of rows beside {GPBOOST}", "difference of NLL", -np.inf, 0),),
    ),
    "movies": Problem(
        "dslabs' movielens: 100,004 ratings by 671 users of 9,066 movies; crossed intercepts, genres and years.",
        _movies,
        FOLDS,
        ((OURS, "RMSE", 0, 0.886),),
    ),
    "ticks": Problem(
        "lme4's grouseticks: Poisson counts; intercepts of broods, locations and chicks.",
        _ticks,
        FOLDS,
        ((_BESIDE, "difference of NLL", -np.inf, 0),),
    ),
    "claims": Problem(
        "MASS' Insurance: Poisson counts with an exposure, the holders.",
        _claims,
        (ALL,),
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
        ("intercepts", "intercepts and slopes"),
        tuple(
            (f"{one} beside statsmodels", "difference of log-likelihood", 0, 1e-3)
            for one in ("intercepts", "intercepts and slopes")
        ),
    ),
    "large": Problem(
        "1,000,000 simulated rows of 100,000 levels, with a variance of 0.25, in a fresh process.",
        _large,
        (ALL,),
        ((OURS, "peak GB", 0, 4),),
    ),
}
