import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from tfp_hybrid.tables.targets import Target


def of(values, task=None):
    return Target.of(pd.Series(values, name="y"), "t.csv", task)[:2]


@pytest.mark.parametrize(
    "values, task, classes",
    [
        (["b", "a", "b", "a"], "classification", ("a", "b")),
        ([True, False, True, True], "classification", (False, True)),
        ([1.0, 2.0, 1.0, 1.0], "classification", (1, 2)),
        ([0.5, 2.0, 0.5, 0.5], "classification", (0.5, 2.0)),
        (list(range(20)) * 10, "classification", tuple(range(20))),
        (list(range(20)) * 9, "regression", None),
        (list(range(21)) * 50, "regression", None),
        ([0.5, 1.5, 2.5] * 50, "regression", None),
        (pd.Categorical([3, 1, 2] * 3), "classification", (1, 2, 3)),
        ([decimal.Decimal("1.5"), decimal.Decimal("2.5"), decimal.Decimal("7")], "regression", None),
    ],
)
def test_the_task_follows_from_the_target(values, task, classes):
    target, y = of(values)
    assert (target.name, target.task, target.classes) == ("y", task, classes)
    wanted = np.array(list(values), float) if classes is None else [classes.index(value) for value in values]
    np.testing.assert_array_equal(y, wanted)


def test_the_task_can_be_given():
    assert of([1, 2, 1, 2], "regression")[0] == Target("y", "regression")
    assert of([1, 2, 3] * 3, "classification")[0] == Target("y", "classification", (1, 2, 3))


@pytest.mark.parametrize(
    "values, task, message",
    [
        ([1.0, np.nan, None, 2.0], None, "t.csv: the target 'y' is missing in 2 of 4 rows, first in row 1"),
        (["a", "b"], "regression", "t.csv: the target 'y' holds 'a' in row 0; wanted numbers"),
        (["a", "a"], None, "is 'a' in all rows; wanted at least two classes"),
        ([2.5, 2.5, 2.5], None, "is 2.5 in all rows; wanted different numbers"),
        (["a", "b", "c", "d"], None, "has 4 different values in 4 rows"),
        ([1, "a", 1, "a"], None, "mixes numbers and others, such as 1 and 'a'"),
        ([1.0, 2.0, np.inf], None, "holds inf in row 2"),
        ([1.0, 2.0, 1e200], None, "is 1e.200 in row 2; wanted magnitudes below 1e150"),
        ([[1], [2], [1]], None, "holds a list in row 0"),
        ([datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)] * 3, None, "holds a date; wanted text, numbers"),
    ],
)
def test_targets_that_cannot_be_predicted_are_named(values, task, message):
    with pytest.raises(ValueError, match=message):
        of(values, task)


@pytest.mark.parametrize(
    "classes, values, codes",
    [
        (("a", "b"), ["b", "a"], [1, 0]),
        ((False, True), [True, False], [1, 0]),
        ((False, True), ["True", "False"], [1, 0]),
        ((1, 2), [2.0, 1.0], [1, 0]),
        ((1, 2), ["2", "1"], [1, 0]),
    ],
)
def test_classes_of_another_file_are_found(classes, values, codes):
    found = Target("y", "classification", classes).read(pd.Series(values), "new.csv")
    assert found.tolist() == codes


def test_unknown_classes_are_named():
    target = Target("y", "classification", ("a", "b"))
    with pytest.raises(ValueError, match=r"new.csv: the target 'y' is 'c' in row 1; wanted one of \['a', 'b'\]"):
        target.read(pd.Series(["a", "c"]), "new.csv")
    with pytest.raises(ValueError, match="is missing in 1 of 2 rows"):
        target.read(pd.Series(["a", None]), "new.csv")
    with pytest.raises(ValueError, match="holds 'a' in row 0; wanted numbers"):
        Target("y", "regression").read(pd.Series(["a", "b"]), "new.csv")
