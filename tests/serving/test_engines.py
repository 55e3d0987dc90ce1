"""A `Scorer` in the engines that score tables on many machines, as the guide says, here on one."""

import numpy as np
import pandas as pd
import pytest

from tfp_hybrid import serving

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def parquet(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parquet")
    for part in range(4):
        run.rows[part::4].to_parquet(folder / f"{part}.parquet", index=False)
    return folder


@pytest.fixture(scope="module")
def expected(run):
    return serving.Scorer(run.folder, keep=["key"])(run.rows).sort_values("key", ignore_index=True)


def assert_same(found, expected):
    """Up to the order of the rows, the last bits, and types of Arrow in place of numpy's."""
    assert list(found) == list(expected)
    found = found.sort_values("key", ignore_index=True).astype(expected.dtypes)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found["abstain"], expected["abstain"])


@pytest.mark.nightly
def test_ray(run, parquet, expected, monkeypatch):
    """With two actors, which hold the model."""
    ray = pytest.importorskip("ray", reason="ray, of the extra scale, is not installed")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else its workers wait for all other tests
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)
    try:
        rows = ray.data.read_parquet(str(parquet), override_num_blocks=4)  # else one actor takes all
        options = {"fn_constructor_kwargs": {"path": run.folder, "keep": ["key"]}, "concurrency": 2}
        scores = rows.map_batches(serving.Scorer, **options, batch_format="pyarrow", batch_size=1250)
        assert_same(scores.to_pandas(), expected)
    finally:
        ray.shutdown()


def test_dask(run, parquet, expected):
    dataframe = pytest.importorskip("dask.dataframe", reason="dask, of the extra scale, is not installed")
    scorer = serving.Scorer(run.folder, keep=["key"])
    rows = dataframe.read_parquet(parquet)
    scores = rows.map_partitions(scorer)
    assert rows.npartitions == 4
    assert_same(scores.compute(scheduler="threads"), expected)


@pytest.mark.nightly
def test_spark(run, parquet, expected):
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    try:
        spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    except PySparkRuntimeError as error:
        pytest.skip(f"Spark is not installed with a JDK: {error}")
    try:
        scorer = serving.Scorer(run.folder, keep=["key"])
        rows = spark.read.parquet(str(parquet))
        schema = spark.createDataFrame(scorer(rows.limit(1).toPandas())).schema
        scores = rows.mapInPandas(lambda tables: map(scorer, tables), schema)
        assert_same(scores.toPandas(), expected)
    finally:
        spark.stop()
