"""Bandits against closed forms and tables of rewards."""

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import bandits, bayes, heads
from tfp_hybrid.uncertainty import pictures

tfb, tfd = tfp.bijectors, tfp.distributions
RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 2))
REWARDS = np.stack([X[:, 0], -X[:, 0], np.full(80, 0.5)], 1) + 0.1 * RNG.normal(size=(80, 3))


def untrained(model, x, y):
    """The flow is the identity, and the kernel stays zero: the posterior is the bandit."""


def a_bandit(head=None, train=untrained, **options):
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(np.zeros(2)), tfb.Identity())
    model = hy.HybridModel(p_x, heads.PartlyObserved(head or heads.ExponentialFamily("Normal", (3,), dtype="float64")))
    model.compile(keras.optimizers.Adam(1e-2))
    model.optimizer.build(model.trainable_variables)
    options = {"prior": 0.5, "center": "mode"} | options
    return bandits.ThompsonSampling(model, train, **options)


def played(count=60, seed=0, **options):
    bandit = a_bandit(**options)
    arms = np.random.default_rng(seed).integers(3, size=count)
    bandit.update(X[:count], arms, REWARDS[np.arange(count), arms])
    return bandit, arms


def ridge(x, y):
    """The posterior of linear regression with noise of variance 1, as in a textbook."""
    phi = np.c_[x, np.ones(len(x))]
    covariance = np.linalg.inv(phi.T @ phi + np.diag([0.5, 0.5, 0.01]))
    return covariance @ phi.T @ y, covariance


def predicted(arms, x, count=60):
    """The mean and standard deviation of the reward of each arm by `ridge`, `(n, 3)`."""
    phi = np.c_[x, np.ones(len(x))]
    found = [ridge(X[:count][arms == arm], REWARDS[:count][arms == arm, arm]) for arm in range(3)]
    mean = np.stack([phi @ one for one, _ in found], 1)
    return mean, np.sqrt(np.stack([np.einsum("nf,fg,ng->n", phi, covariance, phi) for _, covariance in found], 1))


def test_greedy_pulls_the_arm_of_the_highest_mean():
    bandit, arms = played(policy="greedy")
    assert bandit.act(X).tolist() == predicted(arms, X)[0].argmax(1).tolist()


def test_ucb_adds_standard_deviations():
    bandit, arms = played(policy="ucb", exploration=3.0)
    mean, stddev = predicted(arms, X)
    assert bandit.act(X).tolist() == (mean + 3 * stddev).argmax(1).tolist()


def test_thompson_pulls_an_arm_as_often_as_it_is_the_best():
    """For two good arms, P(first is better) is a normal CDF."""
    bandit, arms = played()
    x = np.array([[0.6, 0.0]])  # the first arm and the third are about equal, the second is far behind
    mean, stddev = predicted(arms, x)
    wanted = scipy.stats.norm.cdf((mean[0, 0] - mean[0, 2]) / np.hypot(stddev[0, 0], stddev[0, 2]))
    pulled = bandit.act(np.repeat(x, 4000, 0))
    assert (pulled == 1).mean() < 0.02 and 0.1 < wanted < 0.9
    assert (pulled == 0).mean() == pytest.approx(wanted, abs=0.03)


def test_late_and_partial_rewards_in_any_order_are_the_same_posterior():
    at_once, arms = played()
    later = a_bandit(first=20)
    rewards = REWARDS[np.arange(60), arms]
    order = np.random.default_rng(1).permutation(60)
    for part in np.array_split(order, 7):
        later.update(X[part], arms[part], np.where(np.isin(part, order[:30]), rewards[part], np.nan))
    for row in order[30:]:
        later.update(X[row : row + 1], arms[row : row + 1], rewards[row : row + 1])
    found, wanted = later.model.head.posterior, at_once.model.head.posterior
    for part in ("mean", "covariance"):
        np.testing.assert_allclose(found.get(part), wanted.get(part), rtol=1e-7, atol=1e-9)
    assert found.rows == 60
    x, y = later.rows()
    assert len(x) == 60 and (~np.isnan(y)).sum(1).tolist() == [1] * 60


def test_the_flow_is_trained_seldom_and_in_between_the_posterior_follows():
    counts = []
    bandit = a_bandit(first=10, growth=2.0, train=lambda model, x, y: counts.append(len(x)))
    for row in range(50):
        bandit.update(X[row : row + 1], np.array([row % 3]), REWARDS[row : row + 1, row % 3])
    assert counts == [10, 20, 40]
    assert bandit.model.head.posterior.rows == 50


def test_arms_take_turns_before_the_first_training():
    bandit = a_bandit()
    pulled = np.concatenate([bandit.act(X[:4]), bandit.act(X[4:60])]).reshape(-1, 3)
    assert np.sort(pulled).tolist() == [[0, 1, 2]] * 20 and len(np.unique(pulled, axis=0)) > 3


@pytest.mark.nightly
def test_what_changes_is_learnt_by_forgetting():
    """The best arm changes; with forgetting the bandit follows, and remembers no more than it has to."""
    regrets = {}
    for forgetting in (1.0, 0.9):
        bandit = a_bandit(forgetting=forgetting, first=6, growth=10.0)
        x = np.zeros((300, 2))
        rewards = np.where(np.arange(300)[:, np.newaxis] < 150, [5.0, 0.0, 0.0], [0.0, 5.0, 0.0])
        regrets[forgetting] = bandits.simulate(bandit, x, rewards, verbose=0)["regret"]
        remembered = len(bandit.rows()[0])
    assert regrets[0.9].iloc[-1] - regrets[0.9].iloc[200] < 0.5 * (regrets[1.0].iloc[-1] - regrets[1.0].iloc[200])
    assert remembered == 66  # 0.9 ** 66 < 1e-3


def test_unlikely_contexts_go_to_the_safe_arm():
    """What is unlike the contexts since the training goes there, and of these no more than the fraction."""
    bandit, _ = played(policy="greedy", safe_arm=2, safe_fraction=0.1)
    free, _ = played(policy="greedy")
    usual = np.random.default_rng(1).normal(size=(1000, 2))
    assert bandit.act(usual[:8]).tolist() == free.act(usual[:8]).tolist()  # too few to tell
    sent = sum((bandit.act(part) != free.act(part)).sum() for part in np.array_split(usual[8:], 40))
    assert 0 < sent < 120
    far = np.array([[9.0, 0.0], [0.0, 9.0], [-9.0, 9.0]])
    assert bandit.act(far).tolist() == [2, 2, 2] and free.act(far[:1]).tolist() == [0]


def test_log_p_of_contexts_is_kept_of_the_last_ones():
    bandit, _ = played(policy="greedy", safe_arm=2, safe_fraction=0.5)
    for part in np.array_split(np.random.default_rng(1).normal(size=(500, 2)), 7):
        bandit.act(part)
    np.testing.assert_array_equal(bandit._log_probs[-len(part) :], bandit.model.log_prob(part))
    assert len(bandit._log_probs) == 200


def test_a_model_that_was_trained_beside_the_bandit_is_noticed(tmp_path):
    bandit, arms = played()
    before = bandit.act(X[:5])
    with pytest.warns(UserWarning, match="posterior of its head is stale"):
        bandit.model.fit(X, np.where(np.arange(3) == 0, REWARDS, np.nan), verbose=0)
    bandit.save(tmp_path / "stale")
    for one in (bandit, bandits.ThompsonSampling.load(tmp_path / "stale", untrained)):
        assert one.model.head.posterior.is_stale  # looking at it changes nothing
        with pytest.raises(ValueError, match="the model was changed beside the bandit; call `train`"):
            one.act(X[:5])
    bandit.update(X[60:61], arms[:1], REWARDS[60:61, 0])  # rewards are never lost
    bandit.train()
    assert len(bandit.act(X[:5])) == len(before) and len(bandit.rows()[0]) == 61


def test_a_training_that_fails_is_noticed(tmp_path):
    """Nothing is lost by it, and the next rewards train again."""
    calls = []

    def fails_once(model, x, y):
        calls.append(len(x))
        if len(calls) == 2:
            raise RuntimeError("out of memory")

    bandit = a_bandit(train=fails_once, first=20)
    bandit.update(X[:20], np.arange(20) % 3, REWARDS[np.arange(20), np.arange(20) % 3])
    with pytest.raises(RuntimeError, match="out of memory"):
        bandit.update(X[20:30], np.zeros(10, int), REWARDS[20:30, 0])
    bandit.save(tmp_path / "failed")
    for one in (bandit, bandits.ThompsonSampling.load(tmp_path / "failed", fails_once)):
        with pytest.raises(ValueError, match="The last training failed"):
            one.act(X[:2])
        one.update(X[30:31], np.array([0]), REWARDS[30:31, 0])
        assert calls[-1] == 31 and len(one.act(X[:2])) == 2


def test_columns_are_found_by_name():
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(np.zeros(2)), tfb.Identity())
    model = hy.HybridModel(p_x, heads.PartlyObserved(heads.ExponentialFamily("Normal", (3,), dtype="float64")))
    model.feature_names = ("a", "b")
    bandit = bandits.ThompsonSampling(model, untrained)
    frame = pd.DataFrame(X[:8], columns=["a", "b"])
    arms = bandit.act(frame)
    bandit.update(frame[["b", "a"]], arms, [1.0, None, *REWARDS[2:8, 0]])
    np.testing.assert_array_equal(bandit.rows()[0], np.delete(X[:8], 1, 0))
    assert bandit.act(frame[:0]).tolist() == [] and bandit.update(frame[:0], [], []) is None


def test_many_late_rewards_at_once_are_as_one_by_one():
    bandit, _ = played(policy="greedy", growth=1e6)
    other, _ = played(policy="greedy", growth=1e6)
    arms = np.arange(20) % 3
    bandit.update(X[60:], arms, REWARDS[np.arange(60, 80), arms])
    for row in range(60, 80):
        other.update(X[row : row + 1], arms[row - 60 : row - 59], REWARDS[row : row + 1, arms[row - 60]])
    for name in ("mean", "covariance"):
        np.testing.assert_allclose(
            bandit.model.head.posterior.get(name), other.model.head.posterior.get(name), rtol=1e-8, atol=1e-12
        )


def test_ucb_takes_the_better_side_of_a_falling_link():
    """The mean is one over the linear predictor."""
    bandit = a_bandit(heads.ExponentialFamily("NormalReciprocal", (3,), dtype="float64"), policy="ucb")
    found, _ = bandit._optimistic(np.array([[1.0, 2.0, 4.0]]), np.array([[0.5, 1.0, 1.0]]))
    np.testing.assert_allclose(found, [[1 / 0.5, 1 / 1.0, 1 / 3.0]])


def test_forgetting_leads_back_to_the_trained_weights():
    bandit, _ = played(forgetting=0.5, center="weights", prior=1000.0, growth=1e6)
    head = bandit._model.head
    bandit.train()
    bandit._model.head.kernel.assign(np.ones(head.kernel.shape))
    bandit.train()
    for _ in range(40):  # rewards of one arm, as predicted
        predicted = head.mean(head.at_point(X[:1])).numpy()[0, 0]
        bandit.update(X[:1], np.array([0]), np.array([predicted]))
    np.testing.assert_allclose(bandit.model.head.posterior.get("mean")[:-1], 1.0, atol=1e-6)


@pytest.mark.parametrize("head, far", [
    (heads.ExponentialFamily("Poisson", (3,), dtype="float64"), 12.0),
    (heads.Bernoulli((3,), dtype="float64"), 1.0),
], ids=["poisson", "bernoulli"])  # fmt: skip
def test_surprising_rewards_make_the_posterior_more_likely(head, far):
    """A whole Newton step may lead beyond the mode, where all is worse."""
    bandit = a_bandit(head, prior=0.01, growth=1e6)
    bandit.update(np.zeros((2, 2)), np.array([1, 2]), np.array([1.0, 0.0]))
    bandit.train()
    x = np.array([[3.0, 3.0]])
    for reward in (far, far, far, 0.0, far, 0.0):
        before = bandit.model.head.posterior
        bandit.update(x, np.array([0]), np.array([reward]))
        after = bandit.model.head.posterior
        change = (after.get("mean") - before.get("mean"))[:, 0]
        precision = before.get("information")[0] + np.diag(before.prior)
        gains = [
            head.distribution(posterior.linear_predictor(x)).distribution.log_prob(reward)[0, 0].numpy()
            for posterior in (before, after)
        ]
        assert gains[1] - gains[0] >= 0.5 * change @ precision @ change - 1e-9
        assert np.abs(after.linear_predictor(x)[0, 0]) < 60


def test_rewards_far_from_zero():
    """All arms are tried, and have the scale of all rewards."""

    def train(model, x, y):
        model.head.head.log_scale.assign([-2.0] * 3)

    bandit = a_bandit(heads.Normal((3,), dtype="float64"), train, center="weights")
    rewards = np.array([100.0, 100.0, 120.0]) + RNG.normal(size=(80, 3))
    table = bandits.simulate(bandit, X, rewards, verbose=0)
    assert (table["arm"][:6].value_counts() == 2).all()
    assert (table["arm"][60:] == 2).mean() > 0.7
    assert len(set(bandit.model.head.head.response_mean.numpy())) == 1


def test_a_saved_bandit_goes_on_alike(tmp_path):
    bandit, _ = played(first=20, safe_arm=0)
    bandit.save(tmp_path / "bandit")
    loaded = bandits.ThompsonSampling.load(tmp_path / "bandit", untrained)
    assert loaded.policy == "thompson" and loaded.safe_arm == 0
    for one in (bandit, loaded):
        one.update(X[60:61], np.array([1]), REWARDS[60:61, 1])
    assert loaded.act(X).tolist() == bandit.act(X).tolist()
    np.testing.assert_array_equal(loaded.rows()[1], bandit.rows()[1])
    with pytest.raises(ValueError, match=r"train is None, but the bandit of .* had a function of its own"):
        bandits.ThompsonSampling.load(tmp_path / "bandit")
    a_bandit(train=None, safe_arm=np.int64(0)).save(tmp_path / "new")
    assert len(bandits.ThompsonSampling.load(tmp_path / "new").act(X)) == 80
    bandit.model.save(tmp_path / "model.keras")
    (tmp_path / "text").write_text("no archive")
    for other in ("model.keras", "text"):
        with pytest.raises(ValueError, match=r"is not a file that `ThompsonSampling.save` wrote"):
            bandits.ThompsonSampling.load(tmp_path / other)


@pytest.mark.nightly
def test_a_bandit_with_a_flow_learns():
    """Rewards of 0 and 1; the regret of the last contexts is a fraction of that of random arms."""
    keras.utils.set_random_seed(0)
    x = RNG.normal(size=(400, 2)).astype("float32")
    rewards = np.eye(3)[np.where(np.hypot(*x.T) < 1, 0, np.where(x[:, 0] > 0, 1, 2))]
    encoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(8, "tanh")])
    p_h = hy.flow_distribution(hy.bijectors.RealNVP((8,), couplings=2, hidden_units=(8,)))
    head = heads.PartlyObserved(heads.Bernoulli((3,)))
    model = hy.HybridModel(p_h, head, generative_weight=1e-3, encoder=encoder, train_encoder=True)
    model.compile(keras.optimizers.Adam(1e-2))
    bandit = bandits.ThompsonSampling(model, lambda model, x, y: model.fit(x, y, epochs=20, verbose=0), growth=2.0)
    table = bandits.simulate(bandit, x, rewards, batch=8, verbose=0)
    late, of_random = (table[name].iloc[-1] - table[name].iloc[-200] for name in ("regret", "random"))
    assert table["random"].iloc[-1] == pytest.approx(400 * 2 / 3) and late < 0.4 * of_random
    assert bayes.Posterior is type(bandit.model.head.posterior)


def test_picture():
    tables = [bandits.simulate(a_bandit(seed=seed), X, REWARDS, batch=10, verbose=0) for seed in (0, 1)]
    figure = pictures.regret_curves({"Thompson sampling": tables})
    regret, random = (line.get_ydata() for line in figure.axes[0].lines)
    np.testing.assert_allclose(regret, (tables[0]["regret"] + tables[1]["regret"]) / 2)
    assert figure.axes[0].lines[0].get_xdata().tolist() == list(range(1, 81))
    np.testing.assert_allclose(random, np.cumsum(REWARDS.max(1) - REWARDS.mean(1)))
    for bad, said in (
        ({}, "tables is {}; wanted"),
        ({"a": []}, "wanted a list"),
        ({"a": [tables[0][["arm"]]]}, "lacks the columns"),
    ):
        with pytest.raises(ValueError, match=said):
            pictures.regret_curves(bad)


@pytest.mark.parametrize("options, said", [
    ({"policy": "best"}, "policy is 'best'"),
    ({"exploration": -1}, "exploration"),
    ({"forgetting": 0}, "forgetting is 0"),
    ({"forgetting": 1.5}, "forgetting is 1.5; wanted a factor of at most 1"),
    ({"safe_arm": True}, "safe_arm is True"),
    ({"growth": 1}, "growth"),
    ({"first": 0}, "first"),
    ({"safe_arm": 3}, "safe_arm is 3; wanted an arm, 0 .. 2"),
    ({"safe_fraction": 2}, "safe_fraction"),
    ({"center": "middle"}, "center is 'middle'"),
    ({"prior": -1}, "prior is -1"),
    ({"train": 5}, "train is 5; wanted a function"),
    ({"seed": "a"}, "seed is 'a'"),
    ({"prior": "flat"}, "prior is 'flat'; wanted a precision > 0, 'evidence' or None"),
])  # fmt: skip
def test_bad_options(options, said):
    with pytest.raises(ValueError, match=said):
        a_bandit(**options)


def test_bad_rows():
    bandit = a_bandit()
    for x, arms, rewards, said in (
        (X[:2], [0, 3], [1.0, 1.0], "arms has values from 0 to 3; wanted 0 .. 2"),
        (X[:2], [0.5, 1.0], [1.0, 1.0], "arms has shape .* wanted 2 integers"),
        (X[:2], [0], [1.0], "arms has shape .* wanted 2 integers"),
        (X[:2], [0, 1], [1.0], "rewards has shape"),
        (X[:2], [0, 1], [1.0, np.inf], "rewards holds inf .* wanted finite numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            bandit.update(x, np.array(arms), rewards)
    with pytest.raises(ValueError, match="There are no rewards yet"):
        bandit.train()
    for x, rewards, said in (
        (X, REWARDS[:, :2], r"rewards has shape \(80, 2\)"),
        (X[:0], REWARDS[:0], "x 0 rows"),
        (X, np.full_like(REWARDS, np.nan), "rewards holds nan; wanted finite numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            bandits.simulate(bandit, x, rewards)
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(np.zeros(2)), tfb.Identity())
    with pytest.raises(ValueError, match="wanted a `HybridModel` with a head `heads.PartlyObserved`"):
        bandits.ThompsonSampling(hy.HybridModel(p_x, heads.Categorical(3)))
    with pytest.raises(ValueError, match="model is not compiled"):
        bandits.ThompsonSampling(hy.HybridModel(p_x, heads.PartlyObserved(heads.Normal((3,), dtype="float64"))))
