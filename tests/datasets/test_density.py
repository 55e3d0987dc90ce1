"""The density benchmarks: small files of the same layout, against numpy, and files that are not as they should be."""

import io
import pickle
import tarfile

import h5py
import numpy as np
import pandas as pd
import pytest

from tfp_hybrid import datasets


@pytest.fixture
def folder(tmp_path):
    """Where the content of the archive lies."""
    folder = tmp_path / "downloads" / "manual" / "density"
    folder.mkdir(parents=True)
    return folder


def load(name, tmp_path):
    data = datasets.load_density(name, data_dir=tmp_path)
    assert data.name == name and data.train.dtype == data.test.dtype == np.float32
    return data.train, data.validation, data.test


def save(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, rows)


def sizes(parts):
    return [len(part) for part in parts]


def test_power_has_noise_below_its_steps_and_no_test_row_in_its_units(folder, tmp_path):
    rng = np.random.default_rng(0)
    rows = np.round(rng.normal(size=(200, 8)) * [1, 1, 5, 1, 9, 9, 9, 100])
    save(folder / "power" / "data.npy", rows)
    train, validation, test = load("power", tmp_path)
    assert sizes((train, validation, test)) == [162, 18, 20] and train.shape[1] == 6
    found, widths = np.concatenate([train, validation, test]), np.array([0.001, 0.01, 1, 1, 1, 0])
    shuffled = rows[np.random.RandomState(42).permutation(200)][:, [0, 2, 4, 5, 6, 7]]
    noise = np.random.RandomState(42)
    noise.shuffle(np.zeros(200))
    voltage, gap, meters = noise.rand(200), noise.rand(200), noise.rand(200, 3)
    wanted = shuffled + widths * np.column_stack([gap, voltage, meters, np.zeros(200)])
    mean, stddev = wanted[:180].mean(0), wanted[:180].std(0)
    np.testing.assert_allclose(found, (wanted - mean) / stddev, atol=1e-4)
    seen = np.concatenate([train, validation]).astype(float)
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(seen.std(0), 1, atol=1e-6)


def test_miniboone_is_standardized_by_the_rows_before_test(folder, tmp_path):
    rows = np.random.default_rng(1).normal(3, 2, size=(100, 5))
    save(folder / "miniboone" / "data.npy", rows)
    train, validation, test = load("miniboone", tmp_path)
    assert sizes((train, validation, test)) == [81, 9, 10]
    np.testing.assert_allclose(test, (rows[90:] - rows[:90].mean(0)) / rows[:90].std(0), atol=1e-5)
    np.testing.assert_allclose(train[0] * rows[:90].std(0) + rows[:90].mean(0), rows[0], atol=1e-5)


def test_hepmass_is_signal_without_columns_of_repeated_values(folder, tmp_path):
    rng = np.random.default_rng(2)
    (folder / "hepmass").mkdir()
    train = pd.DataFrame(rng.normal(2, 3, size=(60, 4)), columns=["# label", "f0", "f1", "f2"])
    train["# label"] = np.tile([1.0, 0.0], 30)
    train["f1"] = np.repeat([0.0, 1.0, 2.0], 20)  # its smallest value is there ten times among the signal
    test = pd.DataFrame(rng.normal(size=(20, 5)), columns=["# label", "f0", "f1", "f2", "mass"])
    test["# label"] = np.repeat([1.0, 0.0], 10)
    train.to_csv(folder / "hepmass" / "1000_train.csv", index=False)
    test.to_csv(folder / "hepmass" / "1000_test.csv", index=False)
    parts = load("hepmass", tmp_path)
    assert sizes(parts) == [27, 3, 10]
    signal = train[train["# label"] == 1][["f0", "f2"]]
    mean, stddev = signal.mean(), signal.std()
    np.testing.assert_allclose(np.concatenate(parts[:2]), (signal - mean) / stddev, atol=1e-5)
    np.testing.assert_allclose(parts[2], ((test[["f0", "f2"]] - mean) / stddev)[:10], atol=1e-5)


def test_bsds300_is_as_in_its_file(folder, tmp_path):
    (folder / "BSDS300").mkdir()
    rows = np.random.default_rng(3).normal(size=(3, 7, 63)).astype("float32")
    with h5py.File(folder / "BSDS300" / "BSDS300.hdf5", "w") as file:
        for part, of_part in zip(("train", "validation", "test"), rows, strict=True):
            file[part] = of_part
    np.testing.assert_array_equal(np.stack(load("bsds300", tmp_path)), rows)


def test_gas_keeps_one_of_two_columns_that_go_together(folder, tmp_path):
    table = gas()
    (folder / "gas").mkdir()
    table.to_parquet(folder / "gas" / "ethylene_CO.parquet")
    train, validation, test = load("gas", tmp_path)
    assert sizes((train, validation, test)) == [81, 9, 10]
    kept = table[["b", "c"]]  # a, the first of the two, is left out
    np.testing.assert_allclose(np.concatenate([train, validation, test]), (kept - kept.mean()) / kept.std(), atol=1e-5)


def test_gas_is_not_unpickled(folder, tmp_path):
    (folder / "gas").mkdir()
    mark = tmp_path / "executed"
    (folder / "gas" / "ethylene_CO.pickle").write_bytes(pickle.dumps(Harmful(str(mark))))
    with pytest.raises(ValueError, match=r"is a pickle, which can run any code.*to_parquet"):
        datasets.load_density("gas", data_dir=tmp_path)
    assert not mark.exists()


def test_the_archive_itself_is_enough(folder, tmp_path):
    rows = np.random.default_rng(4).normal(size=(50, 3))
    with tarfile.open(folder / "data.tar.gz", "w:gz") as archive:
        for name, content in (("data/miniboone/data.npy", as_file(rows)), ("data/power/data.npy", b"not read")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    train, validation, test = load("miniboone", tmp_path)
    assert sizes((train, validation, test)) == [41, 4, 5]
    assert [path.name for path in folder.rglob("*.npy")] == ["data.npy"]
    with pytest.raises(ValueError, match="lacks BSDS300/BSDS300.hdf5; wanted the archive at https://zenodo.org"):
        datasets.load_density("bsds300", data_dir=tmp_path)


def test_wrong_names_and_files_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="'powr' is unknown; wanted one of power, gas"):
        datasets.load_density("powr", data_dir=tmp_path)
    save(folder / "power" / "data.npy", np.zeros((5, 7)))
    with pytest.raises(ValueError, match=r"has the shape \(5, 7\); wanted \('n', 8\)"):
        datasets.load_density("power", data_dir=tmp_path)
    np.save(folder / "power" / "data.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        datasets.load_density("power", data_dir=tmp_path)
    (folder / "gas").mkdir()
    gas().drop(columns="Eth").to_parquet(folder / "gas" / "ethylene_CO.parquet")
    with pytest.raises(ValueError, match="wanted Meth, Eth, Time among them"):
        datasets.load_density("gas", data_dir=tmp_path)


class Harmful:
    """What leaves a mark when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def gas():
    rng = np.random.default_rng(5)
    a, c = rng.normal(size=(2, 100))
    columns = {"Time": np.arange(100.0), "Meth": a, "Eth": c, "a": a, "b": 2 * a + 0.01 * c + 1, "c": c}
    return pd.DataFrame(columns)


def as_file(rows):
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()
