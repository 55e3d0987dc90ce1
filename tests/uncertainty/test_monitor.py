"""`Monitor`, against numpy, pandas and scipy on the raw answers."""

import datetime
import functools
import json
import operator
import pickle
import threading

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from helpers import blobs

from tfp_hybrid import files
from tfp_hybrid.fingerprint import fingerprint
from tfp_hybrid.uncertainty import Monitor, NegativeLogProb, Rejector

X, _ = blobs(4000)
HOUR = datetime.timedelta(hours=1)
START = datetime.datetime(2026, 5, 4, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def rejector(tiny_rejector):
    return tiny_rejector


@pytest.fixture(scope="module")
def answers(rejector):
    """Of 3,000 rows, of which the last drift; three scores overflow, and a server has lost two."""
    x = X[1000:] + np.repeat([0, 0, 0.5], 1000)[:, None]
    x[[5, 500, 2999]] = 3e38
    found = rejector.predict(x.astype("float32"), verbose=0)
    found["score"][[7, 8]] = np.nan, -np.inf
    found["abstain"][[7, 8]] = True, False
    return found


def part(answers, rows):
    return {name: values[rows] for name, values in answers.items()}


def table_of(answers, window):
    """The columns of `windows` that are counts or means, for windows of rows of one monitor."""
    frame = pd.DataFrame({"score": answers["score"].astype(float), "abstain": answers["abstain"]})
    groups = frame.groupby(np.arange(len(frame)) // window)
    return pd.DataFrame(
        {
            "rows": groups.size(),
            "abstention_rate": groups["abstain"].mean(),
            "non_finite": groups["score"].agg(lambda scores: (~np.isfinite(scores)).sum()),
            "mean": groups["score"].agg(lambda scores: scores[np.isfinite(scores)].mean()),
        }
    )


def test_it_counts_what_the_rejector_answered(rejector, answers):
    monitor = Monitor(rejector, window=1000).update(answers)
    finite = answers["score"][np.isfinite(answers["score"])].astype(float)
    assert monitor.rows == 3000 and monitor.abstentions == answers["abstain"].sum()
    assert monitor.non_finite == {"Infinity": 3, "-Infinity": 1, "NaN": 1}
    assert monitor.title == "-log p(x)" and monitor.threshold == float(rejector.threshold)
    q = np.array([0, 0.01, 0.5, 0.99, 1])
    np.testing.assert_allclose(monitor.quantiles(q), np.quantile(finite, q, method="inverted_cdf"), rtol=0.0079)
    summary = monitor.summary()
    assert summary["mean"] == pytest.approx(finite.mean(), rel=1e-12) and summary["non_finite"] == 5
    assert summary["p95"] == monitor.quantiles(0.95)
    held_out = monitor.held_out()
    assert held_out["rows"] == 1000 and held_out["abstention_rate"] == 0.04
    assert held_out["p50"] == pytest.approx(np.quantile(rejector.reference, 0.5, method="inverted_cdf"), rel=0.0079)


def test_nothing_is_computed_by_the_model(rejector, answers, monkeypatch):
    monitor = Monitor(rejector, window=1000)
    for name in ("call", "predict", "predict_step"):
        monkeypatch.setattr(Rejector, name, lambda *_, **__: pytest.fail("a second pass"))
    monkeypatch.setattr(type(rejector.model), "encode_checked", lambda *_: pytest.fail("a second pass"))
    assert monitor.update(answers).tests()[0].name == "KS"


@pytest.mark.parametrize("window", [400, HOUR], ids=["rows", "time"])
def test_any_order_of_merging_gives_the_same_state(rejector, answers, window):
    """Of batches of any size, from several workers, with windows that go past what is kept."""
    rng = np.random.default_rng(0)
    times = START.timestamp() + np.sort(rng.uniform(0, 12 * 3600, 3000))
    positions = np.arange(3000)
    once = Monitor(rejector, window, keep=5)
    once.update(answers, at=times if window == HOUR else 0)
    batches = np.split(positions, np.sort(rng.choice(2999, 25, replace=False)) + 1)
    states = set()
    for _ in range(6):
        monitors = [Monitor(rejector, window, keep=5) for _ in range(5)]
        for batch in rng.permutation(len(batches)):
            rows = batches[batch]
            at = times[rows] if window == HOUR else int(rows[0])
            monitors[rng.integers(5)].update(part(answers, rows), at=at)
        while len(monitors) > 1:
            first, second = (monitors.pop(rng.integers(len(monitors))) for _ in range(2))
            monitors.append(first + second)
        states.add(monitors[0].to_json())
    assert states == {once.to_json()}


def test_merging_leaves_its_parts_alone(rejector, answers):
    first, second = (Monitor(rejector, 400).update(part(answers, rows)) for rows in (slice(900), slice(900, 3000)))
    before = first.to_json(), second.to_json()
    total = sum([first, second])
    assert (first.to_json(), second.to_json()) == before and total.rows == 3000
    assert total == first + second == functools.reduce(operator.add, [second, first]) and total != first
    total.update(part(answers, slice(10)))
    assert (first + second).rows == 3000
    with pytest.raises(TypeError):
        first + 1


def test_windows_of_rows_are_those_of_pandas(rejector, answers):
    monitor = Monitor(rejector, window=400)
    for start in range(0, 3000, 700):
        monitor.update(part(answers, slice(start, start + 700)))
    found = monitor.windows()
    assert found["start"].tolist() == list(range(0, 3000, 400))
    expected = table_of(answers, 400)
    pd.testing.assert_frame_equal(found[list(expected)], expected, check_names=False, rtol=1e-12)


def test_windows_of_time_are_those_of_pandas(rejector, answers):
    rng = np.random.default_rng(0)
    times = pd.to_datetime(START) + pd.to_timedelta(rng.integers(36 * 10**9, size=3000), unit="us")
    frame = pd.DataFrame({"abstain": answers["abstain"]}, index=times)
    expected = frame["abstain"].resample("90min", origin="epoch").agg(["size", "mean"])
    by_row, by_batch = (Monitor(rejector, datetime.timedelta(minutes=90)) for _ in range(2))
    by_row.update(answers, at=times.tz_localize(None).to_numpy())
    for i, time in enumerate(times):
        at = (time.to_pydatetime(), time.timestamp(), time.tz_convert("Asia/Tokyo").to_pydatetime())[i % 3]
        if i < 200:
            by_batch.update(part(answers, [i]), at=at)
    by_batch.update(part(answers, slice(200, 3000)), at=times[200:].tz_localize(None).to_numpy())
    assert by_row == by_batch
    found = by_row.windows()
    assert found["start"].tolist() == expected.index.tolist()
    np.testing.assert_array_equal(found["rows"], expected["size"])
    np.testing.assert_allclose(found["abstention_rate"], expected["mean"])


def test_now_is_the_default_time(rejector, answers):
    before = pd.Timestamp.now("UTC").floor("s")
    monitor = Monitor(rejector, datetime.timedelta(seconds=1)).update(answers)
    (start,) = monitor.windows()["start"]
    assert before <= start <= pd.Timestamp.now("UTC")


def test_the_latest_windows_are_kept_and_all_rows_counted(rejector, answers):
    monitor = Monitor(rejector, window=100, keep=3).update(answers)
    assert monitor.windows()["start"].tolist() == [2700, 2800, 2900] and monitor.rows == 3000
    monitor.update(part(answers, slice(50)), at=0)  # too late
    assert monitor.windows()["start"].tolist() == [2700, 2800, 2900] and monitor.rows == 3050
    monitor.update(part(answers, slice(50)), at=10**9)
    assert monitor.windows()["start"].tolist() == [2800, 2900, 10**9]


def test_tests_of_windows_are_scipys_on_the_scores(rejector, answers):
    found = Monitor(rejector, window=1000).update(answers).windows()
    above = int((rejector.reference > float(rejector.threshold)).sum())
    for i, row in found.iterrows():
        rows = slice(1000 * i, 1000 * i + 1000)
        scores = np.where(np.isnan(answers["score"][rows]), np.inf, answers["score"][rows])
        expected = scipy.stats.ks_2samp(rejector.reference, scores)
        beyond = scipy.stats.kstwo.sf(expected.statistic - 0.0101, 500)
        assert expected.pvalue * (1 - 1e-9) <= row["ks_p_value"] <= 1.1 * beyond
        abstain = int(answers["abstain"][rows].sum())
        table = [[above, 1000 - above], [abstain, 1000 - abstain]]
        p_value = scipy.stats.chi2_contingency(table, correction=False).pvalue
        assert row["abstentions_p_value"] == pytest.approx(p_value)
        assert row["abstention_change"] == pytest.approx((abstain - above) / 1000)
    assert found["ks_p_value"].iloc[-1] < 1e-4 < found["ks_p_value"].iloc[0] and found["cliffs_delta"].iloc[-1] > 0.1


def test_monitors_are_tested_against_each_other(rejector, answers):
    days = [Monitor(rejector, 1000).update(part(answers, slice(i, i + 1000))) for i in (0, 1000, 2000)]
    assert not any(test.drifted(0.01) for test in days[1].tests(days[0]))
    ks, abstentions = days[2].tests(days[0])
    clean = [np.where(np.isnan(s), np.inf, s) for s in (answers["score"][:1000], answers["score"][2000:])]
    assert ks.statistic == pytest.approx(scipy.stats.ks_2samp(*clean).statistic, abs=0.0101) and ks.drifted(0.001)
    assert abstentions.effect_size == pytest.approx(answers["abstain"][2000:].mean() - answers["abstain"][:1000].mean())
    assert days[2].tests()[0].drifted(0.001)
    empty = Monitor(rejector, 1000)
    for monitors in ((empty, days[0]), (days[0], empty), (empty, None)):
        with pytest.raises(ValueError, match="has no rows; wanted at least one to test"):
            monitors[0].tests(monitors[1])
    assert len(empty.windows()) == 0 and np.isnan(empty.summary()["mean"]) and "no abstentions" in repr(empty)


def test_threads_count_every_row(rejector, answers):
    monitor = Monitor(rejector, window=10**6)

    def serve():
        for start in range(0, 3000, 100):
            monitor.update(part(answers, slice(start, start + 100)))

    threads = [threading.Thread(target=serve) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert monitor == sum(Monitor(rejector, 10**6).update(answers, at=0) for _ in range(6))


def test_saved_loaded_and_pickled_it_is_the_same(rejector, answers, tmp_path):
    monitor = Monitor(rejector, HOUR).update(answers, at=START)
    monitor.save(tmp_path / "day.json")
    for again in (Monitor.load(tmp_path / "day.json"), pickle.loads(pickle.dumps(monitor))):
        assert again == monitor and again.to_json() == monitor.to_json()
        pd.testing.assert_frame_equal(again.windows(), monitor.windows())
        again.update(answers, at=START + HOUR)
        assert again == monitor + Monitor(rejector, HOUR).update(answers, at=START + HOUR)


def test_an_interruption_keeps_the_old_file(rejector, answers, tmp_path, monkeypatch):
    old = Monitor(rejector).update(part(answers, slice(100)))
    old.save(tmp_path / "day.json")

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        Monitor(rejector).update(answers).save(tmp_path / "day.json")
    assert Monitor.load(tmp_path / "day.json") == old and len(list(tmp_path.iterdir())) == 1


def test_a_loaded_rejector_is_the_same_one(rejector, answers, tmp_path):
    rejector.save(tmp_path / "rejector.keras")
    again = keras.models.load_model(tmp_path / "rejector.keras")
    total = Monitor(rejector, 100).update(answers) + Monitor(again, 100).update(answers)
    assert total.rows == 6000


def test_monitors_of_different_rejectors_are_not_added(rejector, answers):
    mine = Monitor(rejector, 100)
    state = json.loads(mine.to_json())
    assert state["fitted_to"] == fingerprint(rejector.model, rejector.score)
    stranger = Monitor.from_json(json.dumps(state | {"fitted_to": state["fitted_to"] ^ 1}))
    state["reference"]["abstentions"] += 1
    for message, other in {
        "models or scores have other weights": stranger,
        "different scores '-log p.*' and 'energy'": Monitor.from_json(json.dumps(state | {"score": "energy"})),
        "different thresholds": Monitor.from_json(json.dumps(state | {"threshold": 1.5})),
        "chosen on different rows": Monitor.from_json(json.dumps(state)),
    }.items():
        for operation in (operator.add, Monitor.tests):
            with pytest.raises(ValueError, match=message):
                operation(mine, other)
    for message, monitor in {
        "different windows '100 rows' and '200 rows'": Monitor(rejector, 200),
        "'100 rows' and '1:00:00'": Monitor(rejector, HOUR),
        "kept windows 64 and 5": Monitor(rejector, 100, keep=5),
    }.items():
        with pytest.raises(ValueError, match=message):
            mine + monitor


@pytest.mark.parametrize(
    "change, at, message",
    [
        (lambda a: {"score": a["score"]}, None, "answers has no abstain; wanted what `rejector.predict"),
        (lambda a: {}, None, "no score and no abstain"),
        (
            lambda a: a | {"score": a["score"][:-1]},
            None,
            r"scores of shape \(2999,\) and abstentions of shape \(3000,\)",
        ),
        (lambda a: a | {"score": a["score"].astype(str)}, None, r"answers\['score'\] has dtype"),
        (lambda a: a | {"abstain": ~a["abstain"]}, None, "wanted the answers of the monitor's own rejector"),
        (lambda a: a, 1.5, "at is 1.5; wanted a whole number"),
        (lambda a: a, -1, "at is -1"),
        (lambda a: a, 2**63, "wanted the number of a row"),
    ],
)
def test_wrong_answers_are_refused_and_not_counted(rejector, answers, change, at, message):
    monitor = Monitor(rejector, window=100)
    with pytest.raises(ValueError, match=message):
        monitor.update(change(answers), at=at)
    assert monitor == Monitor(rejector, window=100)


@pytest.mark.parametrize(
    "at, message",
    [
        (datetime.datetime(2026, 5, 4), "without a time zone"),
        ("monday", "at is of type <U6; wanted seconds since 1970"),
        (START.timestamp() * 1e3, "wanted times from 1970 to 2261, in seconds"),
        (np.array([0.0, 1.0]), r"at has shape \(2,\); wanted one time, or a time for each of the 3000 rows"),
        (np.full(3000, np.datetime64("NaT")), "at holds NaT"),
        (-5.0, "at holds -5.0"),
    ],
)
def test_wrong_times_are_refused(rejector, answers, at, message):
    monitor = Monitor(rejector, HOUR)
    with pytest.raises(ValueError, match=message):
        monitor.update(answers, at=at)
    assert monitor.rows == 0 and not len(monitor.windows())


def test_wrong_settings_are_refused(rejector):
    with pytest.raises(ValueError, match="rejector is a HybridModel; wanted a Rejector"):
        Monitor(rejector.model)
    with pytest.raises(ValueError, match="no threshold yet"):
        Monitor(Rejector(rejector.model, NegativeLogProb()))
    for window, message in (
        (0, "window is 0"),
        (1.5, "window is 1.5"),
        (HOUR / 7, "whole seconds"),
        (-HOUR, "seconds"),
    ):
        with pytest.raises(ValueError, match=message):
            Monitor(rejector, window)
    with pytest.raises(ValueError, match="keep is 0"):
        Monitor(rejector, keep=0)
    with pytest.raises(ValueError, match="q is .*; wanted numbers from 0 to 1"):
        Monitor(rejector).quantiles([0.5, 2])


def test_a_rounding_at_the_threshold_is_no_error(rejector):
    """A server's JSON may round a score up to, but not beyond, another answer."""
    threshold = float(rejector.threshold)
    answers = {"score": np.array([threshold * (1 + 1e-7)]), "abstain": np.array([False])}
    assert Monitor(rejector).update(answers).abstentions == 0


def test_other_tables_are_counted_too(rejector, answers):
    """As of `tfp-hybrid score`, or lists from JSON; and none at all."""
    frame = pd.DataFrame({name: answers[name] for name in ("score", "abstain")})
    expected = Monitor(rejector, 100).update(answers)
    assert Monitor(rejector, 100).update(frame) == expected
    assert Monitor(rejector, 100).update(frame.to_dict("list")) == expected
    assert Monitor(rejector, 100).update(frame[:0]) == Monitor(rejector, 100)


SIZES = {
    "Cauchy": lambda rng, n: rng.standard_cauchy(n),
    "log-normal": lambda rng, n: np.exp(3 * rng.normal(size=n)),
    "negative": lambda rng, n: -rng.gamma(4, 100, n),
    "bimodal": lambda rng, n: np.where(rng.random(n) < 0.4, rng.normal(-3, 0.1, n), rng.normal(1e5, 1e3, n)),
    "float32": lambda rng, n: rng.normal(3, 2, n).astype("float32"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.integration if n == "Cauchy" else pytest.mark.nightly) for n in SIZES]
)
def test_ten_million_scores(name, rejector):
    """Within 1 %, in less than 100 kB, with the windows full, from three workers."""
    scores = SIZES[name](np.random.default_rng(0), 10_000_000)
    abstain = ~(scores.astype(float) <= float(rejector.threshold))
    workers = [Monitor(rejector, window=100_000) for _ in range(3)]
    for i, start in enumerate(range(0, len(scores), 1_000_000)):
        rows = slice(start, start + 1_000_000)
        workers[i % 3].update({"score": scores[rows], "abstain": abstain[rows]}, at=start)
    monitor = sum(workers)
    q = np.r_[0, 1e-5, 1e-3, np.arange(1, 100) / 100, 0.999, 1 - 1e-5, 1]
    np.testing.assert_allclose(monitor.quantiles(q), np.quantile(scores, q, method="inverted_cdf"), rtol=0.01, atol=0)
    assert monitor.rows == 10_000_000 and monitor.abstentions == abstain.sum() and len(monitor.windows()) == 64
    assert len(monitor.to_json().encode()) < 100_000
