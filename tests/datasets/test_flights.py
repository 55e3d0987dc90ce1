import bz2

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds

from tfp_hybrid.datasets import flights

COLUMNS = ["Month", "DayofMonth", "DayOfWeek", "AirTime", "Distance", "ArrTime", "DepTime"]


def data_expo(rows: int) -> pd.DataFrame:
    """Complete flights in the order of their dates, numbered by ArrDelay."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(1, 12, (rows, len(COLUMNS))), columns=COLUMNS)
    frame = frame.sort_values(["Month", "DayofMonth"], kind="stable", ignore_index=True)
    return frame.assign(Year=2008, TailNum="N1", ArrDelay=np.arange(rows))


def write_data_expo(folder, rows, name="2008.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    content = data_expo(rows).to_csv(index=False).encode()
    (folder / name).write_bytes(bz2.compress(content) if name.endswith("bz2") else content)
    (folder / "plane-data.csv").write_text("tailnum,year\nN1,2001\n")


def write_composite(folder, years):
    folder.mkdir(parents=True, exist_ok=True)
    frame = data_expo(len(years)).assign(PlaneAge=3).drop(columns="TailNum")
    frame = frame.assign(Year=years, Month=1, DayofMonth=1)
    frame.to_parquet(folder / "bts_8attr.parquet")


def check_parts(dataset, num_train, num_test):
    """Rows are numbered by the target, so the parts can be told by counting."""
    rows = np.arange(num_train)
    held_out = rows % 20 == 19
    np.testing.assert_array_equal(dataset.train[1], rows[~held_out])
    np.testing.assert_array_equal(dataset.validation[1], rows[held_out])
    np.testing.assert_array_equal(dataset.test[1], num_train + np.arange(num_test))


def test_data_expo_smaller_than_the_papers(data_dir):
    write_data_expo(data_dir / "flights", rows=1000)
    dataset = flights.load()
    check_parts(dataset, num_train=980, num_test=20)
    frame = data_expo(1000).assign(PlaneAge=7)[list(dataset.feature_names)]
    np.testing.assert_array_equal(dataset.test[0], frame[980:])
    assert dataset.train[0].dtype == dataset.train[1].dtype == np.float32


def test_data_expo_with_the_papers_split(data_dir, monkeypatch):
    monkeypatch.setattr(flights, "_TRAIN_2008", 400)
    monkeypatch.setattr(flights, "_TEST", 8)
    write_data_expo(data_dir.parent / "Flights", rows=1000, name="2008.csv.bz2")
    check_parts(flights.load(), num_train=400, num_test=8)


def test_composite(data_dir):
    write_composite(data_dir.parent / "flights", years=[2015] * 30 + [2016] * 30 + [2017] * 9)
    dataset = flights.load()
    check_parts(dataset, num_train=60, num_test=9)
    assert dataset.description.startswith("BTS composite")
    assert dataset.feature_names[3] == "PlaneAge" and (dataset.train[0][:, 3] == 3).all()


def test_the_papers_data_come_first(data_dir):
    manual = data_dir / "downloads" / "manual"
    write_composite(manual, years=[2015] * 30 + [2017])
    assert "composite" in flights.load().description
    write_data_expo(manual, rows=100)
    assert "2008" in flights.load().description


@pytest.mark.parametrize("years", [[2016] * 30, [2017] * 30, [2016, 2017]])
def test_composite_that_cannot_be_split(data_dir, years):
    write_composite(data_dir / "flights", years)
    with pytest.raises(ValueError, match="bts_8attr.parquet has too few rows or dates"):
        flights.load()


def test_planes_are_missing(data_dir):
    write_data_expo(data_dir / "flights", rows=100)
    (data_dir / "flights" / "plane-data.csv").unlink()
    with pytest.raises(ValueError, match=r"has 2008.csv, but not the plane-data.csv"):
        flights.load()


@pytest.mark.parametrize("config", ["data_expo_2008", "bts_composite"])
def test_builder_gives_the_same_rows(data_dir, config):
    if config == "bts_composite":
        write_composite(data_dir.parent / "flights", years=[2016] * 30 + [2017] * 5)
    else:
        write_data_expo(data_dir.parent / "flights", rows=100)
    splits = tfds.load(f"flights/{config}", data_dir=data_dir, batch_size=-1, as_supervised=True)
    dataset = flights.load()
    for split in ("train", "validation", "test"):
        for ours, theirs in zip(getattr(dataset, split), splits[split], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_builder_of_the_composite_names_file_and_folder(data_dir):
    folder = data_dir / "downloads" / "manual" / "flights"
    with pytest.raises(FileNotFoundError, match=f"Put bts_8attr.parquet into {folder}"):
        tfds.load("flights/bts_composite", data_dir=data_dir)


def test_download(web, monkeypatch, data_dir):
    folder, address = web
    write_data_expo(folder, rows=100, name="2008.csv.bz2")
    for file in flights._FILES:
        monkeypatch.setitem(flights._FILES, file, f"{address}/{file}?persistentId=doi:10.7910/x")
    check_parts(flights.load(), num_train=98, num_test=2)
    assert len(tfds.load("flights", split="test", data_dir=data_dir)) == 2


def test_no_network_names_files_addresses_and_folder(data_dir):
    with pytest.raises(ConnectionError) as caught:
        flights.load()
    for part in (
        "2008.csv.bz2 (https://dataverse.harvard.edu/api/access/datafile/:persistentId",
        "plane-data.csv (https",
        str(data_dir / "downloads" / "manual" / "flights"),
    ):
        assert part in str(caught.value)


@pytest.mark.integration
def test_real_composite(real_data, files_of):
    path = real_data / "flights" / "bts_8attr.parquet"
    if not path.exists():
        pytest.skip(f"no flights at {path}")
    before = files_of(path.parent)
    dataset = flights.load(real_data / "tfds")
    assert files_of(path.parent) == before

    frame = pd.read_parquet(path)
    train, test = frame[frame.Year <= 2016], frame[frame.Year == 2017][:100_000]
    names = list(dataset.feature_names)
    np.testing.assert_array_equal(dataset.test[0], test[names])
    np.testing.assert_array_equal(dataset.test[1], test["ArrDelay"])
    np.testing.assert_array_equal(dataset.validation[1], train["ArrDelay"][19::20])
    assert len(dataset.train[1]) + len(dataset.validation[1]) == len(train) == 1_545_431
    # The constant's error, measured beforehand on the same rows.
    error = dataset.test[1] - dataset.train[1].mean(dtype=np.float64)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(54.39, abs=0.02)
