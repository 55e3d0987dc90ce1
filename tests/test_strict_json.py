import json

import pytest

from tfp_hybrid import strict_json
from tfp_hybrid.commands import predictions, train


def test_what_json_lacks_is_a_string():
    value = {"a": [1.5, float("inf"), (float("-inf"), float("nan"))], "b": {"c": 1, "d": None, "e": "x"}}

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    again = json.loads(strict_json.dumps(value), parse_constant=refuse)
    assert again == {"a": [1.5, "Infinity", ["-Infinity", "NaN"]], "b": {"c": 1, "d": None, "e": "x"}}
    assert float(again["a"][1]) == float("inf")


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1, 2]", r"is damaged: it holds \[1, 2\]; wanted a JSON object\. Remove the file"),
        ("null", "is damaged: it holds None"),
        ("3", "is damaged: it holds 3"),
        ('{"a": 1', "is damaged: "),
        ("", "is damaged: "),
        (b"\xff\xfe", "is damaged: "),
        ("[" * 100_000, "is damaged: "),
    ],
)
def test_files_without_an_object_are_explained(tmp_path, text, message):
    path = tmp_path / "metrics.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"metrics.json {message}"):
        strict_json.read(path)


@pytest.mark.nightly
def test_metrics_of_a_run_are_json_where_a_density_overflows(tmp_path, monkeypatch):
    infinite = {"auroc": 0.5, "fpr95": float("nan"), "nll": float("inf"), "entropy": float("-inf")}
    monkeypatch.setattr(predictions, "ood_metrics", lambda *answers, column: infinite)
    train("simulation", tmp_path / "run", epochs=1, ood=("noise",))
    text = (tmp_path / "run" / "metrics.json").read_text()
    metrics = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert metrics["ood"]["noise"] == {"auroc": 0.5, "fpr95": "NaN", "nll": "Infinity", "entropy": "-Infinity"}
