"""DataFrames: columns by name, in the model and in its file."""

import decimal

import keras
import numpy as np
import pandas as pd
import pytest
from helpers import blobs, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import frames

X, Y = blobs(32)
FRAME = pd.DataFrame(X, columns=["age", "miles"])


@pytest.fixture(scope="module")
def model():
    made = tiny_model()
    made.fit(FRAME, Y, verbose=0)
    return made


def test_fit_takes_the_names(model):
    assert model.feature_names == ("age", "miles")


@pytest.mark.parametrize("entry", ["log_prob", "predict", "call", "evaluate"])
def test_columns_are_matched_by_name(model, entry):
    call = {
        "log_prob": model.log_prob,
        "predict": lambda x: model.predict(x, verbose=0),
        "call": lambda x: model(x).numpy(),
        "evaluate": lambda x: model.evaluate(x, Y, verbose=0),
    }[entry]
    other = FRAME[["miles", "age"]].assign(name="somebody")[["name", "miles", "age"]]
    np.testing.assert_array_equal(call(other), call(X))


def test_names_are_saved(model, tmp_path):
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.feature_names == ("age", "miles")
    np.testing.assert_array_equal(loaded.log_prob(FRAME[["miles", "age"]]), model.log_prob(X))


def test_a_second_fit_matches_the_names_of_the_first(model):
    one, other = tiny_model(), tiny_model()
    for trained, second in ((one, FRAME), (other, FRAME[["miles", "age"]])):
        trained.fit(FRAME, Y, verbose=0)
        trained.fit(second, Y, shuffle=False, verbose=0)
    np.testing.assert_allclose(one.log_prob(X), other.log_prob(X), rtol=1e-5)


def test_a_model_without_names_takes_columns_in_order():
    model = tiny_model()
    np.testing.assert_array_equal(model.log_prob(FRAME), model.log_prob(X))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME[["age"]], r"x lacks the columns \['miles'\]; wanted \['age', 'miles'\], found \['age'\]"),
        (FRAME.set_axis(["age", "age"], axis=1), "x has the column 'age' twice; wanted each name once"),
        (FRAME.assign(age="old"), "x: the column 'age' holds 'old', of dtype .*; wanted numbers"),
        (FRAME.assign(miles=pd.Timestamp("2024-01-01")), "x: the column 'miles' holds dtype datetime64"),
        (FRAME.assign(age=[None, *FRAME["age"][1:]]), r"x holds nan at index \[0, 0\]; wanted finite"),
    ],
)
def test_bad_frames(model, frame, message):
    with pytest.raises(ValueError, match=message):
        model.log_prob(frame)


@pytest.mark.parametrize(
    "names", ["ab", ["a"], ["a", "a"], ["a", 1], ["a", "b", "c"]], ids=["word", "few", "twice", "number", "many"]
)
def test_bad_feature_names(names):
    with pytest.raises(ValueError, match="feature_names is .*; wanted a different name for each of the entries of x"):
        tiny_model().feature_names = names


COLUMNS = {
    "booleans": pd.Series([True, False, True]),
    "nullable integers": pd.Series([1, 0, None], dtype="Int64"),
    "nullable booleans": pd.Series([True, False, None], dtype="boolean"),
    "decimals": pd.Series([decimal.Decimal("1.25"), decimal.Decimal(0), None]),
    "numbers as objects": pd.Series([1, 2.5, None], dtype=object),
    "arrow": pd.Series([1, 2, None], dtype="int64[pyarrow]"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_kinds_of_columns(name):
    wanted = [np.nan if pd.isna(value) else float(value) for value in COLUMNS[name]]
    got = frames.to_array(pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": COLUMNS[name]}), ["b"])
    assert got.dtype == "float64"
    np.testing.assert_array_equal(got[:, 0], wanted)


def test_rejector_matches_names(model):
    rejector = hy.uncertainty.Rejector(model).fit_threshold(FRAME, quantile=0.9)
    np.testing.assert_array_equal(
        rejector.predict(FRAME[["miles", "age"]], verbose=0)["score"], rejector.predict(X, verbose=0)["score"]
    )
