import io

import numpy as np
import rich.console

from tfp_hybrid.commands import tables
from tfp_hybrid.commands.tables import Table, number


def printed(table):
    console = rich.console.Console(file=io.StringIO(), width=120)
    console.print(table.rich())
    return console.file.getvalue()


def test_numbers_of_tables():
    assert number(0.00734, 2, 100) == "0.73" and number(None, 2) == "-"
    assert number([1.0, 2.0, 3.0], 1) == "2.0 ± 1.0"
    assert number([1.0, np.inf], 1) == "inf"


def test_a_terminal_shows_labels_and_sources_that_are_there():
    rows = [("ours", "measured", ["1"]), ("theirs", "published", ["2"])]
    table = Table("Comparison", ("error [%]",), rows, note="A note.", heading="model")
    shown = printed(table)
    for word in ("Comparison", "model", "ours", "measured", "theirs", "published", "error [%]"):
        assert word in shown
    assert len(Table("Alone", ("error",), [("", "", ["1"])]).rich().columns) == 1
    assert table.markdown().splitlines() == [
        "**Comparison**",
        "",
        "| model |  | error [%] |",
        "|---|---|---|",
        "| ours | measured | 1 |",
        "| *theirs* | *published* | *2* |",
        "",
        "A note.",
    ]


def test_metrics_have_a_table_for_each_question():
    ood = {"noise": {"auroc": 1.0, "fpr95": 0.0, "nll": None, "entropy": float("inf")}}
    scores = {"noise": {"-log p(x)": {"auroc": 1.0, "risk95": 0.5}, "WAIC": {"auroc": 0.25, "risk95": 0.75}}}
    metrics = {"test": {"error": 0.125, "nll": 0.5}, "score": "combined", "ood": ood, "scores": scores}
    test, density, auroc, risk = tables.metrics_tables(metrics)
    assert test.columns == ("error", "nll") and test.rows == [("", "", ["0.1250", "0.5000"])]
    assert density.rows == [("noise", "", ["1.0000", "0.0000", "-", "inf"])]
    assert auroc.rows == [("-log p(x)", "", ["1.0000"]), ("WAIC", "", ["0.2500"])]
    assert [row[2] for row in risk.rows] == [["0.5000"], ["0.7500"]]
    assert tables.metrics_tables({"test": {"error": 0.0}, "ood": {}}) == [
        Table("test rows", ("error",), [("", "", ["0.0000"])])
    ]


def test_drift_says_yes_or_no():
    test = {"name": "KS", "statistic": 0.5, "p_value": 1e-9, "effect_size": 0.25, "drifted": True}
    answer = {"score": "-log p(x)", "reference_rows": 1000, "rows": 50, "tests": [test]}
    (table,) = tables.drift_tables(answer)
    assert table.title == "50 inputs against 1,000 held-out ones, by -log p(x)"
    assert table.rows == [("KS", "", ["0.5000", "1e-09", "+0.250", "yes"])]
    assert "--reference FILE" in table.note


def test_drift_from_a_reference_has_a_table_of_columns():
    found = {"statistic": 0.5, "corrected_p_value": 1e-9, "effect_size": 0.25, "drifted": True}
    column = {"reference_mean": 11.0, "new_mean": 13.0, "shift": 0.3, "cliffs_delta": 0.25, "distance": 0.3}
    column |= {"corrected_p_value": 1e-9, "drifted": True, "reference_holes": 0.0, "new_holes": 0.0}
    names = [f"column {i}" for i in range(25)]
    answer = {"score": "-log p(x)", "reference_rows": 1000, "rows": 50, "p_value": 1e-9, "drifted": True}
    answer["tests"] = [{"group": "z", "of": "z", "test": "MMD"} | found, {"group": "columns"} | found]
    answer["columns"] = [{"column": name} | column | {"distance": i / 50} for i, name in enumerate(names)]
    whole, columns = tables.drift_tables(answer)
    assert whole.rows == [("z: MMD", "", ["0.5000", "1e-09", "+0.250", "yes"])]
    assert columns.title == "the 20 of 25 clearest columns" and len(columns.rows) == 20
    assert columns.rows[0] == ("column 24", "", ["11", "13", "+0.30", "+0.250", "1e-09", "yes"])
    assert columns.note == "Drift: p-value 1e-09 of all tests together."
    (alone,) = tables.drift_tables(answer | {"columns": []})
    assert alone.note == columns.note


def test_drift_shows_holes_dates_and_categories():
    column = {"shift": np.nan, "cliffs_delta": np.nan, "distance": 0.3, "corrected_p_value": 0.5, "drifted": False}
    column |= {"reference_mean": np.nan, "new_mean": np.nan, "reference_holes": 0.0, "new_holes": 0.0}
    date = {"column": "since", "reference_mean": "2020-01-01", "new_mean": "2020-03-01", "new_holes": 0.25}
    rows = [{"column": "plan"} | column, column | date | {"distance": 0.1, "shift": 0.5, "cliffs_delta": 0.25}]
    answer = {"score": "-log p(x)", "reference_rows": 9, "rows": 5, "p_value": 0.5, "drifted": False, "tests": []}
    _, columns = tables.drift_tables(answer | {"columns": rows})
    assert columns.columns[4] == "holes [%]"
    assert columns.rows[0][2] == ["-", "-", "-", "-", "-", "0.5", "no"]
    assert columns.rows[1][2] == ["2020-01-01", "2020-03-01", "+0.50", "+0.250", "0 -> 25", "0.5", "no"]
