"""Bad input of every kind into every public entry: a documented error or an answer, and never a silent NaN.

Bounded, and seeded by the tests themselves: the same cases in every run. A crash would end the process.
"""

import decimal
import io
import warnings
import zipfile

import hypothesis
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf
from helpers import integer_model, tiny_model
from hypothesis import strategies as st

import tfp_hybrid as hy
from tfp_hybrid.commands import inputs
from tfp_hybrid.serving import saved
from tfp_hybrid.uncertainty import detection, drift

DOCUMENTED = (ValueError, FloatingPointError)
VALUES = [0.0, 1.0, -1.0, 2.0, 3.0, 0.5, 7.0, -0.0, 1e-30, 1e6, 1e19, 1e30, -1e30, 1e300, np.nan, np.inf, -np.inf]
DTYPES = ["float32", "float64", "float16", "int64", "int32", "uint8", "bool", "complex64", "object", "U5", "M8[s]"]


def cases(function, count, **strategies):
    """Calls `function` with `count` examples of the strategies."""
    done = []

    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(**strategies)
    def case(**values):
        done.append(True)
        function(**values)

    case()
    assert len(done) >= count


def answer(call, errors=DOCUMENTED):
    """What a call returns, as a list of arrays; None if it raises a documented error, which must say something."""
    try:
        with np.errstate(all="ignore"):
            found = call()
    except errors as error:
        assert type(error) in errors and len(str(error)) > 10, repr(error)
        return None
    return [np.asarray(part) for part in tf.nest.flatten(found) if part is not None]


def assert_no_nan(arrays):
    for array in arrays:
        if np.issubdtype(array.dtype, np.inexact):
            assert not np.isnan(array).any()


@st.composite
def arrays(draw, shape, rows=4):
    """Mostly of the shape `(rows, *shape)`, with a few strange values; of any dtype, and in any wrapping."""
    rows = draw(st.sampled_from([rows] * 4 + [1, 0]))
    full = draw(st.sampled_from([(rows, *shape)] * 6 + [shape, (rows, *shape, 1), (rows, 3), (rows,), ()]))
    dtype = draw(st.sampled_from(DTYPES[:6] * 3 + DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    x = rng.integers(4, size=full).astype("float64")
    for value in draw(st.lists(st.sampled_from(VALUES), max_size=2)):
        x.flat[: min(x.size, 1 + draw(st.integers(0, 3)))] = value
    with np.errstate(all="ignore"):
        x = x.astype("int64").astype(dtype) if dtype == "M8[s]" else x.astype(dtype)
    wrap = draw(st.sampled_from(WRAPPINGS + ["array"] * 12))
    return wrapped(x, wrap)


WRAPPINGS = ["tensor", "list", "frame", "masked", "sparse", "ragged", "none", "word", "number", "dict", "strided"]


def wrapped(x, wrap):
    if wrap == "tensor" and x.dtype.kind in "fiub":
        return tf.constant(x)
    if wrap == "frame" and x.ndim == 2:
        return pd.DataFrame(x)
    if wrap == "sparse" and x.ndim == 2 and x.dtype.kind == "f":
        return scipy.sparse.csr_matrix(np.nan_to_num(x).astype("float64"))
    if wrap == "masked":
        return np.ma.masked_array(x, mask=np.arange(x.size).reshape(x.shape) == 1)
    if wrap == "strided" and x.ndim:
        return x[::-1]
    return {
        "list": lambda: x.tolist(),
        "ragged": lambda: tf.ragged.constant([[1.0], [2.0, 3.0]]),
        "none": lambda: None,
        "word": lambda: "x",
        "number": lambda: 3.5,
        "dict": lambda: {"x": x},
    }.get(wrap, lambda: x)()


@pytest.fixture(scope="module")
def models():
    made = {"vector": (tiny_model(), (2,)), "image": (integer_model(), (4, 4, 1))}
    for model, _ in made.values():
        model.adapt(model.sample(64, seed=0)["x"])
    return made


@pytest.fixture(scope="module")
def rejectors(models):
    return {
        kind: hy.uncertainty.Rejector(model, hy.uncertainty.NegativeLogProb()).fit_threshold(
            model.sample(64, seed=1)["x"], quantile=0.9
        )
        for kind, (model, _) in models.items()
    }


ENTRIES = {
    "log_prob": lambda model, rejector, x: model.log_prob(x),
    "call": lambda model, rejector, x: model(x),
    "predict": lambda model, rejector, x: model.predict(x, verbose=0),
    "predict_on_batch": lambda model, rejector, x: model.predict_on_batch(x),
    "predict_distribution": lambda model, rejector, x: [
        model.predict_distribution(x)[0].mode(),
        model.predict_distribution(x)[1],
    ],
    "rejector": lambda model, rejector, x: rejector(x),
    "rejector.predict": lambda model, rejector, x: rejector.predict(x, verbose=0),
    "score": lambda model, rejector, x: rejector.score.score(model, x),
    "data set": lambda model, rejector, x: model.predict(tf.data.Dataset.from_tensors(np.asarray(x)), verbose=0),
}


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["vector", "image"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_inputs(models, rejectors, entry, kind):
    """No answer for what `log_prob` refuses; NaN only where log p(x) is -inf, and never without a word."""
    model, shape = models[kind]

    def check(x):
        x = np.asarray(x) if entry == "data set" and hasattr(x, "shape") else x
        log_prob = answer(lambda: model.log_prob(x))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = answer(lambda: ENTRIES[entry](model, rejectors[kind], x))
        assert (found is None) == (log_prob is None)
        if found is None:
            return
        assert not np.isnan(log_prob[0]).any()
        far = np.isneginf(log_prob[0])
        for part in found:
            nan = np.isnan(part.reshape(len(part), -1).astype(float)).any(axis=1)
            assert not (nan & ~far).any()
            told = any("prediction is NaN" in str(warning.message) for warning in caught)
            assert told or not nan.any() or entry not in ("call", "predict", "predict_on_batch", "data set")
        if entry.startswith("rejector"):
            abstain = found[0]
            assert abstain[far].all()

    cases(check, 60, x=arrays(shape))


@st.composite
def labelled(draw, shape):
    """x and y, and what else `fit` is given; one or two of them out of order."""
    x = np.random.default_rng(0).integers(4, size=(8, *shape)).astype("float32")
    given = {"x": x, "y": np.arange(8) % 2, "batch_size": 4}
    odd = {
        "x": arrays(shape, 8),
        "y": st.one_of(arrays((), 8), st.sampled_from([np.arange(8), np.eye(2)[np.arange(8) % 2], ["a"] * 8])),
        "sample_weight": st.one_of(arrays((), 8), st.sampled_from(["balanced", np.ones((8, 1)), -np.ones(8)])),
        "class_weight": st.sampled_from([{0: 1.0, 1: 2.0}, {0: 1.0}, {0: np.nan, 1: 1.0}, [1, 2], "balanced", {}]),
        "batch_size": st.sampled_from([-3, 0, 1.5, "a", True, 2**70, np.int64(3), None, [4]]),
        "validation_split": st.sampled_from([0.5, 1.0, -1, "half", np.nan, None, 1e-12]),
        "validation_data": st.tuples(arrays(shape), arrays(())),
    }
    for name in draw(st.lists(st.sampled_from(list(odd)), min_size=1, max_size=2, unique=True)):
        given[name] = draw(odd[name])
    return given


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["vector", pytest.param("image", marks=pytest.mark.nightly)])
def test_training(models, kind):
    """Whatever happens, weights and optimizer stay finite."""
    model, shape = models[kind]
    start = model.get_weights()

    def check(given, entry):
        only = {"fit": (), "evaluate": ("class_weight", "validation_split", "validation_data")}
        left_out = only.get(entry, ("batch_size", "validation_split", "validation_data"))
        left_out += ("class_weight",) * (entry == "test_on_batch")
        options = {name: value for name, value in given.items() if name not in left_out}
        quiet = {"verbose": 0} if entry in ("fit", "evaluate") else {}
        found = answer(lambda: getattr(getattr(model, entry)(**options, **quiet), "history", 0.0))
        variables = [*model.weights, *model.optimizer.variables]
        assert all(np.isfinite(variable.numpy()).all() for variable in variables)
        if entry == "fit" and found is not None:
            assert_no_nan(found)
        model.set_weights(start)

    entries = st.sampled_from(["fit", "evaluate", "train_on_batch", "test_on_batch"])
    cases(check, 100, given=labelled(shape), entry=entries)


def frames(names):
    """DataFrames of these columns and others, of many dtypes."""
    columns = st.sampled_from(
        [
            [1.0, 2.0, 3.0],
            [1, 2, 3],
            [True, False, True],
            [1.0, np.nan, np.inf],
            ["1", "2", "3"],
            ["a", None, "b"],
            pd.array([1, 2, None], dtype="Int64"),
            pd.array([1, 2, 3], dtype="Int64"),
            pd.array([True, None, False], dtype="boolean"),
            pd.Categorical(["a", "b", "a"]),
            pd.Categorical([1, 2, 1]),
            pd.to_datetime(["2024-01-01"] * 3),
            pd.to_timedelta([1, 2, 3]),
            [decimal.Decimal("1.5"), decimal.Decimal(2), None],
            [1 + 2j, 0, 1],
            [[1], [2], [3]],
            [1e300, -1e300, 1e30],
        ]
    )
    keys = st.sampled_from([*names, *names, "other", 0, 1, None, ("a", "b"), ""])
    return st.lists(st.tuples(keys, columns), max_size=4).map(frame_of)


def frame_of(columns):
    frame = pd.DataFrame({number: values for number, (_, values) in enumerate(columns)})
    frame.columns = pd.Index([key for key, _ in columns], tupleize_cols=False)
    return frame


@pytest.mark.integration
@pytest.mark.parametrize("names", [None, ("age", "miles")])
def test_frames(names):
    """What a model answers of a frame is what it answers of the columns that were meant, as an array."""
    model = tiny_model()
    model.feature_names = names

    def check(frame):
        found = answer(lambda: model.log_prob(frame))
        if found is None:
            return
        meant = frame.to_numpy() if names is None else frame[list(names)].to_numpy()
        np.testing.assert_array_equal(found[0], model.log_prob(meant.astype("float64")))

    cases(check, 150, frame=frames(("age", "miles")))


def npz_of(x):
    file = io.BytesIO()
    np.savez(file, x=x)
    return file.getvalue()


def parquet_of(frame):
    file = io.BytesIO()
    frame.to_parquet(file, index=False)
    return file.getvalue()


ROWS = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")
TABLE = pd.DataFrame(ROWS, columns=["age", "miles"])
FILES = {
    ".npz": npz_of(ROWS),
    ".csv": TABLE.to_csv(index=False).encode(),
    ".parquet": parquet_of(TABLE),
}


@st.composite
def damaged(draw, content):
    """A file cut, with other bytes at some places, or with a part twice."""
    kind = draw(st.sampled_from(["cut", "bytes", "twice", "text"]))
    at = draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        return content[:at]
    if kind == "twice":
        return content[:at] + content[draw(st.integers(0, at)) :]
    inserted = draw(st.binary(min_size=1, max_size=4) if kind == "bytes" else st.sampled_from(TEXTS))
    return content[:at] + inserted + content[at + draw(st.sampled_from([0, len(inserted)])) :]


TEXTS = [b",", b"\n", b"nan", b'"', b"1e999", b",,\n", b"\x00", b"age,", b"\xff\xfe", b"1;2"]


@pytest.mark.integration
@pytest.mark.parametrize("suffix", FILES)
def test_files_of_inputs(suffix, tmp_path):
    """A damaged file is refused with its name, or holds rows that the model takes."""
    model = tiny_model()
    model.feature_names = ("age", "miles")
    path = tmp_path / f"rows{suffix}"

    def check(content):
        path.write_bytes(content)
        try:
            x = inputs.read_inputs(path, model)
        except ValueError as error:
            assert path.name in str(error)
        else:
            assert x.shape[1:] == (2,) and np.isfinite(x.astype(float)).all()

    cases(check, 120, content=damaged(FILES[suffix]))


@pytest.mark.integration
def test_saved_models(tmp_path):
    """A damaged model is refused with its name, or answers as the whole one did."""
    whole, path = tmp_path / "whole.keras", tmp_path / "damaged.keras"
    model = tiny_model(couplings=1)
    model.save(whole)
    wanted = model.log_prob(ROWS)
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def check(member, data):
        content = data.draw(damaged(members[member]))
        with zipfile.ZipFile(path, "w") as archive:
            for name, kept in members.items():
                archive.writestr(name, content if name == member else kept)
        try:
            loaded, _ = saved.load_model(path)
        except ValueError as error:
            assert path.name in str(error)
        else:
            assert loaded.log_prob(ROWS).shape == wanted.shape

    cases(check, 40, member=st.sampled_from(sorted(members)), data=st.data())


STATISTICS = {
    "auroc": lambda inside, outside: detection.auroc(inside, outside),
    "fpr_at_tpr": lambda inside, outside: detection.fpr_at_tpr(inside, outside),
    "ks_test": lambda inside, outside: drift.ks_test(inside, outside).p_value,
    "typicality_test": lambda inside, outside: drift.typicality_test(inside, outside, resamples=20).p_value,
    "stddev_factor": lambda inside, outside: hy.uncertainty.stddev_factor(inside, np.ones(4), outside),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics(name):
    cases(
        lambda inside, outside: assert_no_nan(answer(lambda: STATISTICS[name](inside, outside)) or []),
        60,
        inside=arrays(()),
        outside=arrays(()),
    )
