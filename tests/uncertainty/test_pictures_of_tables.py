"""The pictures of columns: importance and explanation."""

import io

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from tfp_hybrid.uncertainty import pictures

RNG = np.random.default_rng(0)
LONG = ["a column with a name of $ and _ that goes on and on", "age", "plan"]


def importance(names=LONG, response=True):
    """A table in which later columns are more important for p(y|x)."""
    count = np.arange(len(names))
    table = {"p(y|x)": 0.1 * count, "p(y|x) standard error": 0.01 + 0 * count} if response else {}
    table |= {"log p(x)": 0.5 * count[::-1], "log p(x) standard error": 0.05 + 0 * count}
    return pd.DataFrame(table, pd.Index(names, name="column"))


SURPRISE = pd.DataFrame([[0.2, 30.0, -0.1], [-np.inf, 1.0, np.inf]], columns=LONG)
VALUES = pd.DataFrame({LONG[0]: [1.23456, np.nan], "age": [412.0, 30.0], "plan": ["gold with a long long tail", None]})
CASES = {
    "column_importance": lambda: pictures.column_importance(importance()),
    "column_importance without y": lambda: pictures.column_importance(importance(response=False)),
    "column_importance of many": lambda: pictures.column_importance(importance([f"x{i}" for i in range(57)])),
    "column_importance of one": lambda: pictures.column_importance(importance(["age"])),
    "explanation": lambda: pictures.explanation(SURPRISE, VALUES, ["first", "$second$"]),
    "explanation of one": lambda: pictures.explanation(SURPRISE[["age"]][:1], VALUES[:1]),
}


def labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def widths(axes):
    return [bar.get_width() for bar in axes.patches]


@pytest.mark.integration
@pytest.mark.parametrize("name", CASES)
def test_pictures_are_drawn(name):
    buffer = io.BytesIO()
    CASES[name]().savefig(buffer, format="png")
    colours = np.unique(np.asarray(PIL.Image.open(buffer)).reshape(-1, 4), axis=0)
    assert len(colours) >= 4


def test_importance_is_sorted_in_both_panels():
    left, right = CASES["column_importance"]().axes
    assert labels(left) == ["plan", "age", "a column with a name of $..."]
    np.testing.assert_allclose(widths(left), [0.2, 0.1, 0])
    np.testing.assert_allclose(widths(right), [0, 0.5, 1])
    (segments,) = [c.get_segments() for c in left.collections if c.get_segments()]
    np.testing.assert_allclose(segments[0][:, 0], [0.19, 0.21])


def test_importance_has_one_panel_or_a_part_of_the_columns():
    (axes,) = CASES["column_importance without y"]().axes
    assert widths(axes) == [1, 0.5, 0]
    axes = CASES["column_importance of many"]().axes[0]
    assert axes.get_ylabel() == "20 of 57 columns" and labels(axes)[0] == "x56"
    for empty in (importance()[:0], SURPRISE):
        with pytest.raises(ValueError, match="table is no table of `column_importance`"):
            pictures.column_importance(empty)


def test_infinite_importance_ends_at_the_edge():
    table = importance()
    table.iloc[0] = np.inf, np.nan, np.inf, np.nan
    left, _ = pictures.column_importance(table).axes
    assert widths(left)[0] == left.get_xlim()[1] < 0.3
    assert [text.get_text().strip() for text in left.texts] == ["infinite"]


def test_explanations_name_columns_and_values():
    first, second = CASES["explanation"]().axes
    assert labels(first) == ["age = 412", "a column with a name of $... = 1.235", "plan = gold with a long ..."]
    np.testing.assert_allclose(widths(first), [30, 0.2, -0.1])
    assert labels(second) == ["plan = missing", "age = 30", "a column with a name of $... = missing"]
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["first", "$second$"]
    assert (widths(second)[2], widths(second)[0]) == second.get_xlim()
    (alone,) = CASES["explanation of one"]().axes
    assert alone.get_title(loc="left") == "row 0" and labels(alone) == ["age = 412"]


def test_explanations_show_the_clearest():
    many = pd.DataFrame(RNG.normal(size=(30, 40)), columns=[f"x{i}" for i in range(40)])
    figure = pictures.explanation(many, many)
    assert len(figure.axes) == 12
    assert [text.split(" = ")[0] for text in labels(figure.axes[3])] == many.loc[3].nlargest(5).index.tolist()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (np.int64(-7), "-7"),
        (0.1234567, "0.1235"),
        (2e9, "2e+09"),
        (55417.05, "55417"),
        (True, "True"),
        (pd.Timestamp("2020-01-31"), "2020-01-31"),
        (pd.Timestamp("2020-01-31 10:12"), "2020-01-31 10:12:00"),
        (pd.NaT, "missing"),
    ],
)
def test_values_are_written_as_one_writes_them(value, text):
    figure = pictures.explanation(pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": [value]}, dtype=object))
    assert labels(figure.axes[0]) == [f"a = {text}"]


def test_explanations_without_their_values():
    for arguments, message in [
        ((SURPRISE, VALUES[:1]), "has 2 rows, values has 1 and titles has 2"),
        ((SURPRISE, VALUES, ["one"]), "titles has 1"),
        ((SURPRISE[:0], VALUES[:0]), "has 0 rows"),
        ((SURPRISE, VALUES[["age"]]), "values lacks the columns .*'plan'"),
    ]:
        with pytest.raises(ValueError, match=message):
            pictures.explanation(*arguments)
