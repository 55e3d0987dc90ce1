"""A monitor's text for Prometheus, read by Prometheus' own parser."""

import numpy as np
import pytest
from helpers import blobs
from prometheus_client.parser import text_string_to_metric_families

from tfp_hybrid.uncertainty import Monitor

X, _ = blobs(4000)
LABELS = {"model": 'churn "2" \\ new\nline'}


@pytest.fixture(scope="module")
def rejector(tiny_rejector):
    return tiny_rejector


@pytest.fixture(scope="module")
def answers(rejector):
    found = rejector.predict(X[1000:2000], verbose=0)
    found["score"][:6] = [np.inf, np.inf, np.inf, -np.inf, -np.inf, np.nan]
    found["abstain"][:6] = [True, True, True, False, False, True]
    return found


def families(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(family, label=None, name=None):
    samples = [sample for sample in family.samples if name in (None, sample.name)]
    return {sample.labels.get(label): sample.value for sample in samples}


def test_every_metric_is_described_and_named_by_convention(rejector, answers):
    text = Monitor(rejector, 400).update(answers).prometheus(LABELS)
    assert text.endswith("\n") and "\n\n" not in text
    found = families(text)
    assert {name: family.type for name, family in found.items()} == {
        "tfp_hybrid_rows": "counter",
        "tfp_hybrid_abstentions": "counter",
        "tfp_hybrid_non_finite_scores": "counter",
        "tfp_hybrid_threshold": "gauge",
        "tfp_hybrid_score": "histogram",
        "tfp_hybrid_finite_score": "summary",
        "tfp_hybrid_window_rows": "gauge",
        "tfp_hybrid_window_abstention_ratio": "gauge",
        "tfp_hybrid_window_drift_p_value": "gauge",
        "tfp_hybrid_window_drift_effect_size": "gauge",
    }
    for family in found.values():
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert sample.labels["score"] == "-log p(x)" and sample.labels["model"] == LABELS["model"]
            assert family.type != "counter" or sample.name.endswith("_total")


def test_values_are_those_of_the_answers(rejector, answers):
    monitor = Monitor(rejector, 400).update(answers)
    found, scores = families(monitor.prometheus()), answers["score"].astype(float)
    finite = scores[np.isfinite(scores)]
    assert values(found["tfp_hybrid_rows"]) == {None: 1000}
    assert values(found["tfp_hybrid_abstentions"]) == {None: answers["abstain"].sum()}
    assert values(found["tfp_hybrid_non_finite_scores"], "value") == {"+Inf": 3, "-Inf": 2, "NaN": 1}
    assert values(found["tfp_hybrid_threshold"]) == {None: float(rejector.threshold)}
    for name, count in (("score", 1000), ("finite_score", 994)):
        family = found[f"tfp_hybrid_{name}"]
        assert values(family, name=f"tfp_hybrid_{name}_count") == {None: count}
        assert values(family, name=f"tfp_hybrid_{name}_sum")[None] == pytest.approx(finite.sum(), rel=1e-12)
    quantiles = values(found["tfp_hybrid_finite_score"], "quantile", "tfp_hybrid_finite_score")
    assert list(quantiles) == ["0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"]
    for q, value in quantiles.items():
        assert value == pytest.approx(np.quantile(finite, float(q), method="inverted_cdf"), rel=0.0079)
    window = monitor.windows().iloc[-1]
    assert values(found["tfp_hybrid_window_rows"]) == {None: 200}
    assert values(found["tfp_hybrid_window_abstention_ratio"]) == {None: window["abstention_rate"]}
    p_values = values(found["tfp_hybrid_window_drift_p_value"], "test")
    assert p_values == {"KS": window["ks_p_value"], "abstentions": window["abstentions_p_value"]}


def test_buckets_count_the_scores_up_to_their_ends(rejector, answers):
    """Exactly, with the percentiles of the held-out scores and the threshold among their ends."""
    found = families(Monitor(rejector, 400).update(answers).prometheus())["tfp_hybrid_score"]
    buckets = values(found, "le", "tfp_hybrid_score_bucket")
    scores = np.where(np.isnan(answers["score"]), np.inf, answers["score"]).astype(float)
    for end, count in buckets.items():
        assert count == (scores <= float(end)).sum()
    ends = [float(end) for end in buckets]
    expected = np.quantile(
        rejector.reference, np.array([1, 5, 10, 25, 50, 75, 90, 95, 99]) / 100, method="inverted_cdf"
    )
    assert ends == [*np.unique([*expected, float(rejector.threshold)]), np.inf]
    assert buckets["+Inf"] == 1000 and len(ends) == 11


def test_workers_add_up_in_prometheus(rejector, answers):
    """The sum of the buckets of two workers are the buckets of both."""
    workers = [
        Monitor(rejector, 400).update({k: v[rows] for k, v in answers.items()})
        for rows in (slice(600), slice(600, 1000))
    ]
    first, second, both = (
        values(families(monitor.prometheus())["tfp_hybrid_score"], "le", "tfp_hybrid_score_bucket")
        for monitor in (*workers, sum(workers))
    )
    assert {end: first[end] + second[end] for end in first} == both


def test_a_new_monitor_has_counters_at_zero(rejector):
    found = families(Monitor(rejector).prometheus())
    assert values(found["tfp_hybrid_rows"]) == {None: 0} and "tfp_hybrid_window_rows" not in found
    assert set(values(found["tfp_hybrid_score"], "le", "tfp_hybrid_score_bucket").values()) == {0}
    assert np.isnan(values(found["tfp_hybrid_finite_score"], "quantile", "tfp_hybrid_finite_score")["0.5"])


@pytest.mark.parametrize(
    "labels, message",
    [
        ({"my-model": "a"}, "labels has the name 'my-model'"),
        ({"__name": "a"}, "labels has the name"),
        ({"le": "a"}, "none of score, le"),
        ({3: "a"}, "labels has the name 3"),
        ({"model": 3}, "labels has the value 3 for model; wanted text"),
    ],
)
def test_labels_that_prometheus_does_not_take(rejector, labels, message):
    with pytest.raises(ValueError, match=message):
        Monitor(rejector).prometheus(labels)
