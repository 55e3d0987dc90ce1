"""DataFrames: columns by name, in the model and in its file."""

import decimal

import keras
import numpy as np
import pandas as pd
import pytest
from helpers import blobs, tiny_model

import tfp_hybrid as hy
from tfp_hybrid.tables import frames

X, Y = blobs(32)
FRAME = pd.DataFrame(X, columns=["age", "miles"])


@pytest.fixture(scope="module")
def model():
    made = tiny_model()
    made.fit(FRAME, Y, verbose=0)
    return made


def test_fit_takes_the_names(model):
    assert model.feature_names == ("age", "miles")


def test_a_fit_that_is_refused_takes_no_names():
    model = tiny_model()
    with pytest.raises(ValueError, match="y has labels from 1 to 2"):
        model.fit(FRAME, Y + 1, verbose=0)
    assert model.feature_names is None


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


@pytest.mark.integration
def test_a_second_fit_matches_the_names_of_the_first(model):
    one, other = tiny_model(), tiny_model()
    for trained, second in ((one, FRAME), (other, FRAME[["miles", "age"]])):
        trained.fit(FRAME, Y, verbose=0)
        trained.fit(second, Y, shuffle=False, verbose=0)
    np.testing.assert_allclose(one.log_prob(X), other.log_prob(X), rtol=1e-5)


@pytest.mark.integration
def test_the_first_fit_matches_its_validation_data():
    one, other = tiny_model(), tiny_model()
    histories = [
        trained.fit(FRAME, Y, validation_data=(frame, Y), shuffle=False, verbose=0).history
        for trained, frame in ((one, FRAME), (other, FRAME[["miles", "age"]]))
    ]
    assert histories[0] == histories[1]


@pytest.mark.integration
def test_frames_of_a_generator_are_matched():
    one, other = tiny_model(), tiny_model()
    for trained, second in ((one, FRAME), (other, FRAME[["miles", "age"]])):
        trained.fit(((frame, Y) for frame in (FRAME, second)), verbose=0)
        assert trained.feature_names == ("age", "miles")
    np.testing.assert_allclose(one.log_prob(X), other.log_prob(X), rtol=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize("entry", ["adapt", "train_on_batch"])
def test_other_entries_that_take_the_names(entry):
    model = tiny_model()
    getattr(model, entry)(FRAME, Y) if entry == "train_on_batch" else model.adapt(FRAME)
    assert model.feature_names == ("age", "miles")


def test_a_model_without_names_takes_columns_in_order():
    model = tiny_model()
    np.testing.assert_array_equal(model.log_prob(FRAME), model.log_prob(X))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME[["age"]], r"x lacks the columns \['miles'\]; wanted \['age', 'miles'\]"),
        (FRAME.set_axis(["age", "age"], axis=1), r"x has the columns \['age'\] more than once; wanted each"),
        (FRAME.assign(age="old"), "x: the column 'age' has dtype .* and holds 'old' in row 0; wanted real numbers"),
        (
            FRAME.assign(miles=pd.Timestamp("2024-01-01")),
            "x: the column 'miles' has dtype datetime64.*; wanted real numbers",
        ),
        (
            FRAME.assign(age=[None, *FRAME["age"][1:]]),
            "x: the column 'age' is NaN or missing in row 0; wanted finite",
        ),
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
    "nullable integers": pd.Series([1, 0, 3], dtype="Int64"),
    "nullable booleans": pd.Series([True, False, True], dtype="boolean"),
    "decimals": pd.Series([decimal.Decimal("1.25"), decimal.Decimal(0), decimal.Decimal(-3)]),
    "numbers as objects": pd.Series([1, 2.5, True], dtype=object),
    "arrow": pd.Series([1, 2, 3], dtype="int64[pyarrow]"),
    "categories that are numbers": pd.Series([1, 2, 1], dtype="category"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_kinds_of_columns(name):
    got = frames.to_array(pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": COLUMNS[name]}), ["b"])
    assert got.dtype == "float64"
    np.testing.assert_array_equal(got[:, 0], [float(value) for value in COLUMNS[name]])


def test_rejector_matches_names(model):
    rejector = hy.uncertainty.Rejector(model, hy.uncertainty.NegativeLogProb()).fit_threshold(FRAME, quantile=0.9)
    np.testing.assert_array_equal(
        rejector.predict(FRAME[["miles", "age"]], verbose=0)["score"], rejector.predict(X, verbose=0)["score"]
    )
