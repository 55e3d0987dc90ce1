"""Which arm to pull: a contextual bandit whose rewards are linear in the latent of a flow."""

import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from tfp_hybrid import arguments, bayes, files, heads
from tfp_hybrid.bayes.fitting import check_options
from tfp_hybrid.bayes.online import Online
from tfp_hybrid.execution import graph_function
from tfp_hybrid.models import HybridModel

__all__ = ["ThompsonSampling", "simulate"]

POLICIES = ("thompson", "ucb", "greedy")
_LEAST_WEIGHT = 1e-3  # of a row that is remembered
_CONTEXTS = 100  # of those whose log p(x) is kept, how many have one that is unlikely
_SETTINGS = ("policy", "exploration", "forgetting", "first", "growth", "prior", "center", "safe_arm", "safe_fraction")


class ThompsonSampling:
    """Pulls the arm that is best for a draw of the coefficients from their posterior.

    The reward of arm a in the context x is that of a GLM on z = f(x), with a linear predictor for each arm. The
    posterior of the coefficients follows at each reward; the flow is trained rarely, each time that the rewards since
    the last training are `growth` - 1 of those remembered then, and then the posterior is found anew with all of them.
    (Riquelme et al. call that neural linear.) Until the first training, arms take turns, in a random order each time.

    Args:
      model: A compiled `HybridModel` with a head `heads.PartlyObserved`, whose entries are the rewards of the arms. It
        is trained in place. All arms of a `Normal` head get the mean and scale of all rewards before the first
        training, unless the head is adapted already.
      train: Trains the model on contexts and rewards, `train(model, x, y)`, with y `(n, arms)` and NaN for arms that
        were not pulled. None is `model.fit(x, y, epochs=10, verbose=0)`.
      policy: "thompson"; "ucb" for the highest reward within `exploration` standard deviations of the linear
        predictor; "greedy" for that at its mean.
      exploration: The factor >= 0 of the standard deviation of the linear predictors.
      forgetting: The factor in (0, 1] of the weight of a reward for each one that comes after it, for rewards that
        change with time. The bandit forgets rows whose weight is below a thousandth; the posterior goes back to the
        trained weights, or to zero with `center="mode"`.
      first: How many rewards come before the first training; None is twice the number of arms.
      growth: The factor > 1 by which the number of rewards grows from one training to the next.
      prior: The precision of the prior on the kernel, or "evidence", as for `bayes.fit`. None is the number of entries
        of z: the kernel then gives each linear predictor a variance of about 1.
      center: As for `bayes.fit`.
      safe_arm: The arm of contexts that the flow finds unlikely; None if there is none.
      safe_fraction: Which contexts are unlikely: their log p(x) is below that of this fraction of the contexts that
        `act` has seen since the flow was trained, of the last 100 / `safe_fraction` of them. So it takes 1 /
        `safe_fraction` contexts before one is.
      seed: The seed of the draws.

    Raises:
      ValueError: For arguments that are not as above.

    References:
      Riquelme, Tucker and Snoek 2018, "Deep Bayesian Bandits Showdown"; Thompson 1933, "On the Likelihood that One
      Unknown Probability Exceeds Another"; Nalisnick et al. 2019, section 6.
    """

    def __init__(
        self,
        model: HybridModel,
        train: Callable | None = None,
        policy: str = "thompson",
        exploration: float = 1.0,
        forgetting: float = 1.0,
        first: int | None = None,
        growth: float = 1.25,
        prior: float | str | None = None,
        center: str = "weights",
        safe_arm: int | None = None,
        safe_fraction: float = 0.01,
        seed: int = 0,
    ):
        if not isinstance(model, HybridModel) or not isinstance(model.head, heads.PartlyObserved):
            raise ValueError(
                f"model is {model!r}; wanted a `HybridModel` with a head `heads.PartlyObserved`, such as "
                "`heads.PartlyObserved(heads.Normal((arms,)))`."
            )
        if train is not None and not callable(train):
            raise ValueError(f"train is {train!r}; wanted a function `train(model, x, y)`, or None.")
        arguments.check_count(seed, "seed", least=0)
        if train is None and not model.compiled:
            raise ValueError("model is not compiled; call `model.compile` first, or give `train`.")
        prior = float(model.head.kernel.shape[0]) if prior is None else prior
        if isinstance(prior, str) and prior != "evidence":
            raise ValueError(f"prior is {prior!r}; wanted a precision > 0, 'evidence' or None.")
        check_options(model, prior, 0.01, "blocks", center, None)
        if policy not in POLICIES:
            raise ValueError(f"policy is {policy!r}; wanted one of {POLICIES}.")
        arguments.check_number(exploration, "exploration", 0)
        arguments.check_number(growth, "growth", 1, open=True)
        arguments.check_fraction(safe_fraction, "safe_fraction")
        arguments.check_number(forgetting, "forgetting", 0, open=True)
        if forgetting > 1:
            raise ValueError(f"forgetting is {forgetting!r}; wanted a factor of at most 1.")
        self.arms = model.head.event_shape[0]
        if safe_arm is not None and (isinstance(safe_arm, bool) or safe_arm not in range(self.arms)):
            raise ValueError(f"safe_arm is {safe_arm!r}; wanted an arm, 0 .. {self.arms - 1}.")
        if first is not None:
            arguments.check_count(first, "first", least=1)
        self._model, self._train = model, train or _fit
        self.policy, self.exploration, self.forgetting = policy, float(exploration), float(forgetting)
        self.first, self.growth, self.center = int(first or 2 * self.arms), float(growth), center
        self.prior = prior if prior == "evidence" else float(prior)
        self.safe_arm, self.safe_fraction = None if safe_arm is None else int(safe_arm), float(safe_fraction)
        self._rng = np.random.default_rng(seed)
        self._contexts, self._pulled, self._rewards = [], [], []  # of each update
        self._turn, self._to_come = [], self.first  # the next arms to try, and the rewards until the next training
        self._is_trained, self._online, self._posterior = False, None, None  # the last one that the head was given
        self._log_probs = []  # of the contexts since the last training
        self._expected = graph_function(self._traced_expected)

    @property
    def model(self) -> HybridModel:
        """The model; its head has the posterior of all rewards so far, unless it is stale."""
        if self._is_current():
            self._model.head.posterior = self._posterior = self._online.posterior()
        return self._model

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """What is remembered: contexts `(n, *event_shape)`, and rewards `(n, arms)`, NaN for arms not pulled."""
        if not self._contexts:
            raise ValueError("There are no rewards yet; call `update` first.")
        return np.concatenate(self._contexts), self._responses(*map(np.concatenate, (self._pulled, self._rewards)))

    def act(self, x) -> np.ndarray:
        """Returns the arm to pull for each context of x `(n, *event_shape)`, `(n,)`.

        Each row has a draw of its own, which is forgotten: `update` takes x again.

        Raises:
          ValueError: If the last training failed, if the model was trained beside the bandit, or for bad inputs.
        """
        if self._is_trained and not self._is_current():
            raise ValueError("The last training failed, or the model was changed beside the bandit; call `train`.")
        if not len(x):
            return np.zeros(0, int)
        seen = self._model.encode(x)
        if self._online is None:
            while len(self._turn) < len(seen.x):
                self._turn += self._rng.permutation(self.arms).tolist()
            arms, self._turn = np.array(self._turn[: len(seen.x)]), self._turn[len(seen.x) :]
        else:
            eta, stddev = self._online.predictors(seen.features.numpy())
            expected, eta = self._optimistic(eta, self.exploration * stddev)
            # Means that rounding makes equal, such as of far logits, are told apart by eta.
            arms = np.lexsort((self._rng.uniform(size=eta.shape), eta, expected))[:, -1]
            if self.safe_arm is not None:
                log_prob = seen.log_prob.numpy()
                arms = np.where(log_prob < self._least_log_prob(), self.safe_arm, arms)
                self._log_probs = np.append(self._log_probs, log_prob)[-int(_CONTEXTS / self.safe_fraction) :]
        return arms

    def update(self, x, arms, rewards):
        """Takes rewards, whenever they are known, in any order and any number; a training may follow.

        If a training fails, the rewards are kept all the same, and the next ones train again.

        Args:
          x: The contexts, `(n, *event_shape)`.
          arms: The arms that were pulled, `(n,)`.
          rewards: Their rewards, `(n,)`; a row whose reward is NaN is left out.

        Raises:
          ValueError: For arms that there are not, rewards that the head cannot take, or sizes that do not match.
        """
        if not len(x) and not len(arms) and not len(rewards):
            return
        arms, rewards = np.asarray(arms), np.asarray(rewards, float)
        if arms.ndim != 1 or not np.issubdtype(arms.dtype, np.integer) or len(arms) != len(x):
            raise ValueError(f"arms has shape {arms.shape} and dtype {arms.dtype}; wanted {len(x)} integers.")
        if arms.size and not (arms.min() >= 0 and arms.max() < self.arms):
            raise ValueError(f"arms has values from {arms.min()} to {arms.max()}; wanted 0 .. {self.arms - 1}.")
        if rewards.shape != arms.shape:
            raise ValueError(f"rewards has shape {rewards.shape}; wanted {arms.shape}, one for each arm.")
        known = np.flatnonzero(~np.isnan(rewards))
        if not len(known):
            return
        arms, rewards = arms[known], rewards[known]
        y = self._responses(arms, rewards)
        try:
            self._model.head.check_labels(y)
        except ValueError as error:
            raise ValueError(re.sub("^y ", "rewards ", str(error))) from None
        seen = self._model.encode(x).rows(known)
        self._contexts.append(seen.x.numpy())
        self._pulled.append(arms)
        self._rewards.append(rewards)
        self._to_come -= len(known)
        self._forget()
        if self._to_come <= 0:
            self.train()
        elif self._is_current():
            self._online.add(seen.features.numpy(), y)

    def train(self):
        """Trains the flow with all that is remembered, and finds the posterior anew; `update` does so in time."""
        x, y = self.rows()
        head = self._model.head
        head.posterior, self._is_trained = None, True  # or training would warn that it is stale
        if not head.is_adapted():
            head.adapt(np.repeat(np.concatenate(self._rewards)[:, np.newaxis], self.arms, 1))
        self._train(self._model, x, y)
        weights = self.forgetting ** np.arange(len(x) - 1.0, -1, -1)
        bayes.fit(self._model, x, y, weights, prior=self.prior, structure="blocks", center=self.center)
        self._follow()
        self._log_probs = []
        self._to_come = max(1, int(np.ceil((self.growth - 1) * len(x))))

    def save(self, path: os.PathLike | str):
        """Writes the bandit to one file: the model with its posterior, what is remembered, and the settings."""
        facts = {name: getattr(self, name) for name in _SETTINGS}
        facts |= {"turn": self._turn, "to_come": self._to_come, "log_probs": np.asarray(self._log_probs).tolist()}
        facts |= {"trained": self._is_trained, "random": self._rng.bit_generator.state}
        facts["has_train"] = self._train is not _fit
        rows = io.BytesIO()
        if self._contexts:
            parts = zip(("x", "arms", "rewards"), (self._contexts, self._pulled, self._rewards), strict=True)
            np.savez(rows, **{name: np.concatenate(column) for name, column in parts})
        with files.replacing(path) as beside, tempfile.TemporaryDirectory() as folder:
            self.model.save(os.path.join(folder, "model.keras"))
            with zipfile.ZipFile(beside, "w") as archive:
                archive.write(os.path.join(folder, "model.keras"), "model.keras")
                archive.writestr("rows.npz", rows.getvalue())
                archive.writestr("bandit.json", json.dumps(facts))

    @classmethod
    def load(cls, path: os.PathLike | str, train: Callable | None = None) -> "ThompsonSampling":
        """Returns the bandit of a file that `save` wrote; it goes on as if it had not been away, but for rounding.

        Args:
          path: The file.
          train: As for the constructor; a function is not saved.

        Raises:
          ValueError: If the file is another one, or the bandit had a function `train` and none is given.
        """
        try:
            with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
                facts, rows = json.loads(archive.read("bandit.json")), archive.read("rows.npz")
                model = keras.saving.load_model(archive.extract("model.keras", folder))
        except (zipfile.BadZipFile, KeyError) as error:
            raise ValueError(f"{path} is not a file that `ThompsonSampling.save` wrote ({error}).") from None
        if facts["has_train"] and train is None:
            raise ValueError(f"train is None, but the bandit of {path} had a function of its own; wanted it.")
        bandit = cls(model, train, **{name: facts[name] for name in _SETTINGS})
        if rows:
            with np.load(io.BytesIO(rows)) as columns:
                bandit._contexts, bandit._pulled, bandit._rewards = ([columns[n]] for n in ("x", "arms", "rewards"))
        bandit._turn, bandit._to_come, bandit._log_probs = (facts[n] for n in ("turn", "to_come", "log_probs"))
        bandit._rng.bit_generator.state = facts["random"]
        bandit._is_trained = facts["trained"]
        if bandit._is_trained and model.head.posterior is not None:
            bandit._follow()
        return bandit

    def _follow(self):
        """Lets the posterior of the head be the one that each reward updates."""
        head = self._model.head
        trained = np.concatenate([head.kernel.numpy(), head.bias.numpy()[np.newaxis]])
        self._online = Online(head, self.forgetting, trained if self.center == "weights" else None)
        self._posterior = head.posterior

    def _is_current(self):
        """Whether the posterior is that of the model as it is."""
        posterior = self._model.head.posterior
        return self._online is not None and posterior is self._posterior and not posterior.is_stale

    def _optimistic(self, eta, deviation):
        """The rewards by which the policy chooses, and their linear predictors, `(n, arms)` each."""
        if self.policy == "thompson":
            eta = eta + self._rng.normal(size=eta.shape) * deviation
        sides = [eta + deviation, eta - deviation] if self.policy == "ucb" else [eta]  # a link may fall
        expected = [self._expected(tf.constant(side, self._model.head.variable_dtype)).numpy() for side in sides]
        return np.max(expected, 0), sides[0]

    def _least_log_prob(self):
        """Of a further context of the same kind, log p(x) is less with a probability of at most `safe_fraction`."""
        below = int(self.safe_fraction * (len(self._log_probs) + 1))
        return np.partition(self._log_probs, below - 1)[below - 1] if below else -np.inf

    def _responses(self, arms, rewards):
        y = np.full((len(arms), self.arms), np.nan)
        y[np.arange(len(arms)), arms] = rewards
        return y

    def _forget(self):
        if self.forgetting < 1:
            most = int(np.ceil(np.log(_LEAST_WEIGHT) / np.log(self.forgetting)))
            for column in (self._contexts, self._pulled, self._rewards):
                column[:] = [np.concatenate(column)[-most:]]

    def _traced_expected(self, eta):
        head = self._model.head
        return head.mean(head.distribution(head.shaped(eta)))


def simulate(bandit: ThompsonSampling, x, rewards: np.ndarray, batch: int = 1, verbose: int = 1) -> pd.DataFrame:
    """Plays a bandit on contexts for which the rewards of all arms are known.

    Args:
      bandit: The bandit, which sees the reward of the arm that it pulls.
      x: The contexts in their order, `(n, *event_shape)`.
      rewards: The reward of each arm, `(n, arms)`.
      batch: How many arms are pulled before their rewards come.
      verbose: Whether to show a progress bar.

    Returns:
      A table with a row for each context, counted from 1, and the columns "arm", "reward", "regret", how much less the
      rewards are than those of the best arms, added up to that row, and "random", the expected regret of arms that are
      drawn evenly.

    Raises:
      ValueError: If `rewards` does not fit.
    """
    arguments.check_count(batch, "batch", least=1)
    rewards = np.asarray(rewards, float)
    if rewards.shape != (len(x), bandit.arms) or not len(x):
        raise ValueError(
            f"rewards has shape {rewards.shape} and x {len(x)} rows; wanted a number for each context and each of the "
            f"{bandit.arms} arms."
        )
    if not np.isfinite(rewards).all():
        raise ValueError(f"rewards holds {rewards[~np.isfinite(rewards)][0]}; wanted finite numbers.")
    bar = keras.utils.Progbar(len(x), verbose=verbose, unit_name="context")
    arms, found = [], []
    for start in range(0, len(x), batch):
        part = slice(start, start + batch)
        arms.append(bandit.act(x[part]))
        found.append(rewards[part][np.arange(len(arms[-1])), arms[-1]])
        bandit.update(x[part], arms[-1], found[-1])
        bar.add(len(arms[-1]))
    arms, found = np.concatenate(arms), np.concatenate(found)
    regret, random = (np.cumsum(rewards.max(1) - other) for other in (found, rewards.mean(1)))
    counted = pd.RangeIndex(1, len(arms) + 1, name="context")
    return pd.DataFrame({"arm": arms, "reward": found, "regret": regret, "random": random}, counted)


def _fit(model, x, y):
    model.fit(x, y, epochs=10, verbose=0)
