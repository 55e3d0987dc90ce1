import bz2
import re

import numpy as np
import pandas as pd
import pytest

from tfp_hybrid.datasets.flight_tables import FEATURES, read_composite, read_data_expo

HEADER = (
    "Year,Month,DayofMonth,DayOfWeek,DepTime,CRSDepTime,ArrTime,CRSArrTime,UniqueCarrier,FlightNum,"
    "TailNum,ActualElapsedTime,CRSElapsedTime,AirTime,ArrDelay,DepDelay,Origin,Dest,Distance,"
    "TaxiIn,TaxiOut,Cancelled,CancellationCode,Diverted,CarrierDelay,WeatherDelay,NASDelay,"
    "SecurityDelay,LateAircraftDelay"
)
# In order: complete; of an earlier day; cancelled; unknown plane; plane without a year; plane
# younger than the flight; diverted, without a delay; a plane known twice, the second of its day.
FLIGHTS = f"""{HEADER}
2008,1,3,4,2003,1955,2211,2225,WN,335,N712SW,128,150,116,-14,8,IAD,TPA,810,4,8,0,,0,NA,NA,NA,NA,NA
2008,1,2,3,754,735,1002,1000,WN,3231,N772SW,128,145,113,2,19,IAD,TPA,810,5,10,0,,0,NA,NA,NA,NA,NA
2008,1,3,4,NA,1100,NA,1200,WN,126,,NA,60,NA,NA,NA,IND,JAX,688,NA,NA,1,A,0,NA,NA,NA,NA,NA
2008,1,3,4,628,620,804,750,WN,448,N999ZZ,96,90,76,14,8,IND,BWI,515,3,17,0,,0,NA,NA,NA,NA,NA
2008,1,3,4,926,930,1054,1100,WN,1746,N000AA,88,90,78,-6,-4,IND,BWI,515,3,7,0,,0,NA,NA,NA,NA,NA
2008,1,3,4,926,930,1054,1100,WN,1746,N111AA,88,90,78,-6,-4,IND,BWI,515,3,7,0,,0,NA,NA,NA,NA,NA
2008,1,3,4,926,930,1054,1100,WN,1746,N712SW,NA,90,NA,NA,-4,IND,BWI,515,3,7,0,,1,NA,NA,NA,NA,NA
2008,1,3,4,1829,1755,1959,1925,WN,3920,N464WN,90,90,77,34,34,IND,BWI,515,3,10,0,,0,2,0,0,0,32
"""
PLANES = """tailnum,type,manufacturer,issue_date,model,status,aircraft_type,engine_type,year
N050AA
N712SW,Corporation,BOEING,10/01/1998,737-7H4,Valid,Fixed Wing Multi-Engine,Turbo-Fan,1998
N772SW,Corporation,BOEING,08/01/2000,737-7H4,Valid,Fixed Wing Multi-Engine,Turbo-Fan,2000
N000AA,Corporation,BOEING,08/01/2000,737-7H4,Valid,Fixed Wing Multi-Engine,Turbo-Fan,0000
N222AA,Corporation,BOEING,08/01/2000,737-7H4,Valid,Fixed Wing Multi-Engine,Turbo-Fan,None
N111AA,Corporation,BOEING,08/01/2009,737-7H4,Valid,Fixed Wing Multi-Engine,Turbo-Fan,2009
N464WN,Corporation,BOEING,08/01/2004,737-7H4,Valid,Fixed Wing Multi-Engine,Turbo-Fan,2004
N464WN,Corporation,BOEING,08/01/2004,737-7H4,Valid,Fixed Wing Multi-Engine,Turbo-Fan,2004
"""


@pytest.fixture
def files(tmp_path):
    flights, planes = tmp_path / "2008.csv", tmp_path / "plane-data.csv"
    flights.write_text(FLIGHTS)
    planes.write_text(PLANES)
    return flights, planes


@pytest.mark.parametrize("compressed", [False, True])
def test_data_expo(files, compressed):
    flights, planes = files
    if compressed:
        flights.write_bytes(bz2.compress(FLIGHTS.encode()))
    table = read_data_expo(flights, planes)
    # Month, DayofMonth, DayOfWeek, PlaneAge, AirTime, Distance, ArrTime, DepTime: by hand, by date.
    expected = [
        [1, 2, 3, 8, 113, 810, 1002, 754],
        [1, 3, 4, 10, 116, 810, 2211, 2003],
        [1, 3, 4, 4, 77, 515, 1959, 1829],
    ]
    np.testing.assert_array_equal(table.x, np.float32(expected))
    np.testing.assert_array_equal(table.y, np.float32([2, -14, 34]))
    assert table.x.dtype == table.y.dtype == np.float32
    assert table.num_dropped == 5
    assert table.year.tolist() == [2008] * 3


def test_data_expo_over_several_chunks(files, monkeypatch):
    whole = read_data_expo(*files)
    monkeypatch.setattr("tfp_hybrid.datasets.flight_tables._CHUNK_ROWS", 3)
    pieces = read_data_expo(*files)
    np.testing.assert_array_equal(pieces.x, whole.x)
    assert pieces.num_dropped == whole.num_dropped


@pytest.mark.parametrize(
    ("flights", "planes", "complaint"),
    [
        (FLIGHTS.replace("AirTime", "Air"), PLANES, r"2008.csv lacks the columns \['AirTime'\]"),
        (FLIGHTS, PLANES.replace("year", "y"), r"plane-data.csv lacks the columns \['year'\]"),
        (FLIGHTS.replace("2211", "22:11"), PLANES, "2008.csv is not a readable CSV file of"),
        ("", PLANES, "2008.csv is not a readable CSV file"),
        (FLIGHTS, "", "plane-data.csv is not a readable CSV file"),
        (HEADER, PLANES, "2008.csv has no row with all of"),
        (FLIGHTS, "tailnum,year\n", "2008.csv has no row with all of"),
        (re.sub("N...[A-Z][A-Z],", ",", FLIGHTS), PLANES, "2008.csv has no row with all of"),
        (bz2.compress(FLIGHTS.encode())[:-20], PLANES, "2008.csv is not a readable CSV file"),
    ],
    ids=[
        "column",
        "plane column",
        "text",
        "empty",
        "empty planes",
        "no rows",
        "no planes",
        "no tails",
        "cut off",
    ],
)
def test_damaged_data_expo(files, flights, planes, complaint):
    for path, content in zip(files, (flights, planes), strict=True):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=complaint):
        read_data_expo(*files)


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    numbers = rng.uniform(1, 12, (50, len(FEATURES) + 1))
    frame = pd.DataFrame(numbers, columns=[*FEATURES, "ArrDelay"], dtype=np.float32)
    frame["Year"] = np.sort(rng.integers(2010, 2019, 50)).astype(np.int16)
    frame["source"] = "somewhere"
    return frame.sort_values(["Year", "Month", "DayofMonth"], ignore_index=True)


def test_composite(frame, tmp_path):
    path = tmp_path / "table.parquet"
    frame.sample(frac=1, random_state=0).to_parquet(path)
    table = read_composite(path)
    np.testing.assert_array_equal(table.x, frame[list(FEATURES)])
    np.testing.assert_array_equal(table.y, frame["ArrDelay"])
    np.testing.assert_array_equal(table.year, frame["Year"])
    assert table.num_dropped == 0


def test_incomplete_rows_of_a_composite_are_dropped(frame, tmp_path):
    path = tmp_path / "table.parquet"
    frame.loc[3, "AirTime"] = np.nan
    frame.loc[7, "ArrDelay"] = np.inf
    frame.to_parquet(path)
    table = read_composite(path)
    assert table.num_dropped == 2
    np.testing.assert_array_equal(table.y, frame["ArrDelay"].drop([3, 7]))


def test_damaged_composite(frame, tmp_path):
    path = tmp_path / "table.parquet"
    frame.drop(columns=["PlaneAge", "Year"]).to_parquet(path)
    with pytest.raises(ValueError, match=rf"{path} lacks the columns \['Year', 'PlaneAge'\]"):
        read_composite(path)
    frame.assign(DepTime="noon").to_parquet(path)
    with pytest.raises(ValueError, match=f"{path} is not a readable Parquet table of numbers"):
        read_composite(path)
    frame.assign(DepTime=np.nan).to_parquet(path)
    with pytest.raises(ValueError, match=f"{path} has no row with all of"):
        read_composite(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"{path} is not a readable Parquet table"):
        read_composite(path)
