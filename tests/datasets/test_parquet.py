import gc
import inspect
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf
from helpers import tiny_model

import tfp_hybrid as hy
from tfp_hybrid.datasets import from_parquet, parquet, parquet_table
from tfp_hybrid.datasets.readers import Readers

FEATURES = ["b", "a", "whole"]


def table(rows=1000, first=0):
    """Rows that are numbered by their response."""
    rng = np.random.default_rng(first)
    return pd.DataFrame(
        {
            "row": np.arange(first, first + rows, dtype=np.float32),
            "a": rng.normal(size=rows),
            "b": rng.normal(size=rows).astype(np.float32),
            "text": rng.choice(["x", "y"], rows),
            "whole": rng.integers(-5, 5, rows).astype(np.int16),
            "label": rng.integers(0, 2, rows),
        }
    )


@pytest.fixture
def write(tmp_path):
    """Writes a data frame to a file; row groups of odd sizes, unless their size is given."""

    def write(frame, name="rows.parquet", sizes=(1, 333, 64, 7, 595), row_group_size=None):
        rows = pyarrow.Table.from_pandas(frame)
        if row_group_size:
            sizes = [row_group_size] * -(-len(frame) // row_group_size)
        with pyarrow.parquet.ParquetWriter(tmp_path / name, rows.schema) as writer:
            first = 0
            for size in sizes:
                writer.write_table(rows.slice(first, size), row_group_size=max(1, size))
                first += size
        return tmp_path / name

    return write


def rows_of(data):
    """All x, and all y."""
    x, y = zip(*data.as_numpy_iterator(), strict=True)
    return np.concatenate(x), np.concatenate(y)


@pytest.mark.parametrize("batch_size", [1, 64, 100, 5000])
def test_without_shuffling_the_batches_are_those_of_pandas(write, batch_size):
    frame = table()
    data = from_parquet(write(frame), FEATURES, "row", batch_size, shuffle_rows=0)
    batches = list(data.as_numpy_iterator())
    assert len(batches) == len(data) == -(-len(frame) // batch_size)
    for i, (x, y) in enumerate(batches):
        part = frame[i * batch_size : (i + 1) * batch_size]
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_array_equal(x, part[FEATURES].to_numpy(np.float32))
        np.testing.assert_array_equal(y, part["row"])


@pytest.mark.parametrize("shuffle_rows", [1, 10, 256, 10_000])
def test_shuffling_gives_each_row_once_an_epoch_in_another_order(write, shuffle_rows):
    frame = table()
    data = from_parquet(write(frame), FEATURES, "row", 64, shuffle_rows=shuffle_rows)
    orders = []
    for _ in range(2):
        x, y = rows_of(data)
        orders.append(y)
        np.testing.assert_array_equal(np.sort(y), frame["row"])
        np.testing.assert_array_equal(x, frame[FEATURES].to_numpy(np.float32)[y.astype(int)])
    assert (orders[0] != orders[1]).any() and (orders[0] != frame["row"]).any()


def test_a_pool_of_all_rows_is_uniformly_shuffled(write):
    data = from_parquet(write(table()), FEATURES, "row", 1000, shuffle_rows=1000, seed=0)
    orders = np.array([rows_of(data)[1] for _ in range(40)])
    # The mean row of each position is that of 40 uniform draws: 499.5 with a standard deviation of 288.7 / sqrt(40).
    z = (orders.mean(0) - 499.5) / (288.7 / np.sqrt(40))
    assert abs(z.mean()) < 0.2 and 0.85 < z.std() < 1.15 and abs(z).max() < 5
    # Neighbours in the file are no neighbours any more: their mean distance is a third of the rows.
    assert 290 < np.abs(np.diff(orders)).mean() < 375


def test_shuffled_rows_come_from_many_row_groups(write):
    frame = table(6400)
    data = from_parquet(write(frame, row_group_size=100), FEATURES, "row", 320, shuffle_rows=1600)
    for _, y in data.as_numpy_iterator():
        assert len(np.unique(y // 100)) >= 12


@pytest.mark.integration
def test_the_global_seed_repeats_all_epochs_and_another_one_does_not(write):
    path = write(table())

    def epochs(global_seed, seed=None):
        keras.utils.set_random_seed(global_seed)
        data = from_parquet(path, FEATURES, "row", 64, shuffle_rows=128, seed=seed)
        return np.stack([rows_of(data)[1] for _ in range(3)])

    np.testing.assert_array_equal(epochs(1), epochs(1))
    np.testing.assert_array_equal(epochs(1, seed=5), epochs(1, seed=5))
    assert (epochs(1) != epochs(2)).any() and (epochs(1, seed=5) != epochs(1, seed=6)).any()


def test_several_files_are_one_table(write):
    frames = [table(100), table(30, first=100), table(0), table(270, first=130)]
    paths = [write(frame, f"{i}.parquet", row_group_size=37) for i, frame in enumerate(frames)]
    x, y = rows_of(from_parquet(paths, FEATURES, "row", 64, shuffle_rows=0))
    whole = pd.concat(frames)
    np.testing.assert_array_equal(y, whole["row"])
    np.testing.assert_array_equal(x, whole[FEATURES].to_numpy(np.float32))
    _, y = rows_of(from_parquet(paths, FEATURES, "row", 64, shuffle_rows=64))
    np.testing.assert_array_equal(np.sort(y), whole["row"])


@pytest.mark.parametrize(
    "filters, keep",
    [
        ([("whole", ">=", 0)], lambda frame: frame["whole"] >= 0),
        ([("whole", ">=", 0), ("text", "==", "x")], lambda frame: (frame["whole"] >= 0) & (frame["text"] == "x")),
        ([[("row", "<", 10)], [("text", "in", ["y"])]], lambda frame: (frame["row"] < 10) | (frame["text"] == "y")),
        ([("row", ">", 400)], lambda frame: frame["row"] > 400),
    ],
)
def test_filters_keep_the_rows_that_pandas_keeps(write, filters, keep):
    frame = table()
    path, kept = write(frame), frame[keep(frame)]
    data = from_parquet(path, ["a"], "row", 32, filters=filters, shuffle_rows=0)
    assert len(data) == -(-len(kept) // 32)
    np.testing.assert_array_equal(rows_of(data)[1], kept["row"])
    np.testing.assert_array_equal(kept["row"], pd.read_parquet(path, filters=filters)["row"])


@pytest.mark.parametrize("column, dtype", [("label", "int64"), ("whole", "int64"), ("flag", "int64"), ("a", "float32")])
def test_the_response_is_an_integer_where_the_column_is(write, column, dtype):
    frame = table().assign(flag=lambda frame: frame["label"] == 1)
    _, y = rows_of(from_parquet(write(frame), ["b"], column, 64, shuffle_rows=0))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, frame[column].astype(dtype))


def test_booleans_and_decimals_are_numbers(write):
    frame = table(9).assign(flag=lambda frame: frame["whole"] > 0)
    decimals = pyarrow.array(frame["whole"], pyarrow.int32()).cast(pyarrow.decimal128(12, 2))
    path = write(frame)
    pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame).append_column("price", decimals), path)
    x, _ = rows_of(from_parquet(path, ["flag", "price"], "row", 4, shuffle_rows=0))
    np.testing.assert_array_equal(x, np.stack([frame["whole"] > 0, frame["whole"]], 1))


def test_drop_remainder_leaves_whole_batches_of_known_shape(write):
    data = from_parquet(write(table()), FEATURES, "row", 64, drop_remainder=True)
    assert [tuple(part.shape) for part in data.element_spec] == [(64, 3), (64,)]
    assert len(data) == len(list(data)) == 15


def test_what_cannot_be_streamed_is_told_before_any_work(write, tmp_path):
    path = write(table())
    other = write(table().rename(columns={"a": "A"}), "other.parquet")
    real = write(table().assign(label=0.5), "real.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet file")
    with pytest.raises(FileNotFoundError, match="absent.parquet"):
        from_parquet(tmp_path / "absent.parquet", ["a"], "row", 4)
    for wanted, arguments in {
        "text.parquet is not a readable Parquet file": (tmp_path / "text.parquet", ["a"], "row", 4),
        r"rows.parquet has no column 'c'; it has row, a, b, text, whole, label": (path, ["a", "c"], "row", 4),
        r"other.parquet has no column 'a'; it has row, A": ([path, other], ["a"], "row", 4),
        "rows.parquet has no column 'y'": (path, ["a"], "y", 4),
        "'text' of .*rows.parquet has the type (large_)?string; wanted numbers": (path, ["a", "text"], "row", 4),
        "'label' has integers in .*rows.parquet but real numbers in .*real.parquet": ([path, real], ["a"], "label", 4),
        "features is 'a'; wanted a list": (path, "a", "row", 4),
        r"features is \[\]; wanted": (path, [], "row", 4),
        "features has 'a' twice": (path, ["a", "b", "a"], "row", 4),
        "response is 'a', which is also one of the features": (path, ["a"], "a", 4),
        "paths is empty": ([], ["a"], "row", 4),
        "paths has .* twice": ([path, path], ["a"], "row", 4),
        "batch_size is 0; wanted": (path, ["a"], "row", 0),
        "empty.parquet has no rows": (write(table(0), "empty.parquet", sizes=[]), ["a"], "row", 4),
    }.items():
        with pytest.raises(ValueError, match=wanted):
            from_parquet(*arguments)
    for wanted, options in {
        "shuffle_rows is -1; wanted": dict(shuffle_rows=-1),
        "batch_size is 2000; .*rows.parquet has 1000 rows": dict(drop_remainder=True),
        "rows.parquet after filters has no rows": dict(filters=[("row", "<", 0)]),
        "has no column 'year'": dict(filters=[("year", "<", 0)]),
    }.items():
        with pytest.raises(ValueError, match=wanted):
            from_parquet(path, ["a"], "row", 2000, **options)


@pytest.mark.parametrize("column, value", [("a", None), ("row", None), ("label", None)])
def test_missing_values_are_told_before_any_work(write, column, value):
    frame = table().convert_dtypes()
    frame.loc[500, column] = value
    path = write(frame)
    response = "label" if column == "label" else "row"
    with pytest.raises(ValueError, match=f"column '{column}' of .*rows.parquet has 1 missing values in row group 4"):
        from_parquet(path, ["a", "b"], response, 64)
    kept = from_parquet(path, ["a", "b"], response, 64, filters=[(column, ">=", -100)], shuffle_rows=0)
    np.testing.assert_array_equal(rows_of(kept)[1], frame.drop(index=500)[response])


@pytest.mark.parametrize("column, value", [("a", np.nan), ("row", np.nan), ("b", np.inf), ("b", -np.inf)])
@pytest.mark.parametrize("filters", [None, [("whole", ">=", -3)]])
def test_values_that_are_not_finite_are_told_with_file_column_and_row(tmp_path, column, value, filters):
    frame = table()
    frame.loc[700, [column, "whole"]] = [value, 3]
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(_as_arrow(frame), path)
    data = from_parquet(path, ["a", "b"], "row", 64, filters=filters, shuffle_rows=0)
    wanted = f"The column '{column}' of .*rows.parquet holds {value} in row 700; wanted finite numbers"
    with pytest.raises(tf.errors.InvalidArgumentError, match=wanted):
        list(data)


def _as_arrow(frame):
    """With NaN as a number, which pandas takes for a missing value."""
    return pyarrow.table({name: pyarrow.array(frame[name].to_numpy(), from_pandas=False) for name in frame})


def test_missing_values_without_statistics_are_told_when_read(tmp_path):
    frame = table().convert_dtypes()
    frame.loc[700, "label"] = None
    pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame), tmp_path / "rows.parquet", write_statistics=False)
    data = from_parquet(tmp_path / "rows.parquet", ["a"], "label", 64)
    with pytest.raises(tf.errors.InvalidArgumentError, match="'label' of .*rows.parquet holds None in row 700"):
        list(data)


def test_iterations_at_once_do_not_disturb_each_other(write):
    frame = table()
    data = from_parquet(write(frame), FEATURES, "row", 64, shuffle_rows=0)
    given_up = iter(data)
    for _ in range(3):
        next(given_up)
    for (_, a), (_, b), first in zip(data, data, range(0, 1000, 64), strict=True):
        np.testing.assert_array_equal(a, frame["row"][first : first + 64])
        np.testing.assert_array_equal(a, b)


@pytest.mark.integration
def test_a_data_set_that_is_gone_leaves_no_file_open(write, monkeypatch):
    made = []
    monkeypatch.setattr(parquet, "Readers", lambda *args, **kwargs: made.append(Readers(*args, **kwargs)) or made[-1])
    data = from_parquet(write(table()), FEATURES, "row", 10, shuffle_rows=100).map(lambda x, y: (2 * x, y))
    iterator = iter(data)
    next(iterator)
    del data
    gc.collect()
    next(iterator)
    assert made[0]._waiting
    del iterator
    gc.collect()
    assert not made[0]._waiting


@pytest.fixture
def calls(monkeypatch):
    """The arguments of each look into a Parquet file."""
    calls = []
    read = pyarrow.parquet.ParquetFile.iter_batches
    signature = inspect.signature(read)

    def spy(self, *args, **kwargs):
        calls.append(signature.bind(self, *args, **kwargs).arguments)
        return read(self, *args, **kwargs)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", spy)
    return calls


def test_a_first_batch_opens_few_row_groups_and_columns(write, calls):
    path = write(table(10_000), row_group_size=100)
    data = from_parquet(path, ["b"], "row", 10, shuffle_rows=400)
    assert not calls  # metadata are enough to know how many rows there are
    next(iter(data.take(1)))
    assert 0 < len(calls) <= 40  # of 100
    assert all(call["columns"] == ["b", "row"] and len(call["row_groups"]) == 1 for call in calls)
    assert all(call["batch_size"] == 400 // 16 for call in calls)


@pytest.mark.parametrize("room, together", [(0, 1), (4, 4), (100, 16)])
def test_few_row_groups_are_open_at_a_time_where_they_are_large(write, calls, monkeypatch, room, together):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(3200, 3)).astype(np.float32), columns=["a", "b", "c"])
    path = write(frame, row_group_size=100)
    group = pyarrow.parquet.read_metadata(path).row_group(0)
    monkeypatch.setattr(parquet_table, "_OPEN_BYTES", room * 2 * 3 * group.column(0).total_uncompressed_size)
    _, y = rows_of(from_parquet(path, ["a", "b"], "c", 64, shuffle_rows=320))
    np.testing.assert_array_equal(np.sort(y), np.sort(frame["c"]))
    assert {call["batch_size"] for call in calls} == {320 // together}


@pytest.mark.nightly
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="reads Linux' account of memory")
def test_memory_is_bounded(tmp_path):
    """A process that streams 200 MB, in three row groups, takes 2 MB for each of their columns and a little more."""
    path, names = tmp_path / "large.parquet", [f"x{i}" for i in range(16)]
    rng = np.random.default_rng(0)
    columns = pyarrow.table({name: rng.normal(size=2**20).astype(np.float32) for name in names})
    with pyarrow.parquet.ParquetWriter(path, columns.schema) as writer:
        for _ in range(3):
            writer.write_table(columns, row_group_size=2**20)
    assert path.stat().st_size > 2e8
    script = f"""
        import pathlib, re
        from tfp_hybrid.datasets import from_parquet

        def peak():  # of this process; getrusage has that of its parent, too
            return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024

        before = peak()
        data = from_parquet({str(path)!r}, {names[1:]}, {names[0]!r}, 1024, shuffle_rows=2**15)
        assert sum(1 for _ in data) == 3 * 2**10
        print(peak() - before)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 220


@pytest.mark.integration
@pytest.mark.parametrize(
    "options",
    [dict(jit_compile=False), pytest.param(dict(jit_compile=True, steps_per_execution=16), marks=pytest.mark.nightly)],
)
def test_training_on_a_stream_is_training_on_its_arrays(write, options):
    frame = table(1000)
    path = write(frame)
    x, y = frame[["a", "b"]].to_numpy(np.float32), frame["label"].to_numpy()
    weights, losses = [], []
    for data in ((x, y), (from_parquet(path, ["a", "b"], "label", 48, shuffle_rows=0),)):
        model = tiny_model(compile=False)
        model.adapt(x[:48])
        model.compile(keras.optimizers.Adam(1e-2), **options)
        history = model.fit(*data, batch_size=48 if len(data) == 2 else None, epochs=2, shuffle=False, verbose=0)
        weights.append(model.get_weights())
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)
    for streamed, in_memory in zip(*weights, strict=True):
        np.testing.assert_allclose(streamed, in_memory, rtol=1e-5, atol=1e-6)


@pytest.mark.integration
def test_fit_shuffles_validates_and_repeats(write):
    path = write(table(1000))
    histories = []
    for _ in range(2):
        model = tiny_model(hy.heads.HeteroscedasticNormal())
        train = from_parquet(path, ["a", "b"], "row", 64, filters=[("row", "<", 800)], shuffle_rows=128)
        held_out = from_parquet(path, ["a", "b"], "row", 64, filters=[("row", ">=", 800)], shuffle_rows=0)
        histories.append(model.fit(train, validation_data=held_out, epochs=2, verbose=0).history)
        prediction = model.predict(held_out, verbose=0)
        assert prediction.shape == (200,) and model.log_prob(held_out).shape == (200,)
    assert histories[0] == histories[1]
    assert histories[0]["loss"][1] < histories[0]["loss"][0]


@pytest.mark.nightly
def test_a_strategy_trains_on_a_stream(write, calls):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
    with strategy.scope():
        model = tiny_model()
    data = from_parquet(write(table(1000)), ["a", "b"], "label", 64, shuffle_rows=64, drop_remainder=True)
    history = model.fit(data, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all() and model.optimizer.iterations == 2 * 15
    assert len(calls) <= 5 * 6  # row groups, and iterations that Keras starts


def test_names_in_any_sequence(write):
    wanted = rows_of(from_parquet(write(table()), FEATURES, "row", 64, shuffle_rows=0))
    for features in (np.array(FEATURES), pd.Index(FEATURES), iter(FEATURES)):
        got = rows_of(from_parquet(write(table()), features, "row", 64, shuffle_rows=0))
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_file_that_is_gone_while_reading(write):
    path = write(table())
    data = from_parquet(path, FEATURES, "row", 64)
    path.unlink()
    with pytest.raises(tf.errors.OpError, match="rows.parquet cannot be read"):
        list(data)


def test_filters_that_are_no_list(write):
    with pytest.raises(ValueError, match="filters is .*wanted a list of"):
        from_parquet(write(table()), FEATURES, "row", 64, filters=pyarrow.compute.field("a") > 0)


def test_shards_have_every_row_once(write):
    frame = table()
    path, rows = write(frame), []
    for index in range(3):
        data = from_parquet(path, FEATURES, "row", 64, shuffle_rows=100 * index, shard=(index, 3))
        rows.append(rows_of(data)[1])
        assert len(data) == -(-len(rows[-1]) // 64)
    assert min(map(len, rows)) > 0
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), frame["row"])
    for shard in ((3, 3), (-1, 3), (0, 0), 1, (0, 1, 2), (0.0, 2)):
        with pytest.raises(ValueError, match="shard is"):
            from_parquet(path, FEATURES, "row", 64, shard=shard)
    with pytest.raises(ValueError, match="only 5 row groups"):
        from_parquet(path, FEATURES, "row", 64, shard=(0, 6))
