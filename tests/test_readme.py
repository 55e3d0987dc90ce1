"""The Python of the README runs as it stands."""

import pathlib
import re

import keras
import numpy as np
import pytest

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.integration
@pytest.mark.parametrize("code", BLOCKS, ids=["keras", "density", "tfp", "uncertainty", "checks"])
def test_block_runs(code, monkeypatch, tmp_path, capsys):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (64, 28, 28)).astype("uint8"), rng.integers(0, 10, 64)
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: ((images, labels), (images, labels)))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    printed = re.search(r"```text\n(.*?)```", README[README.index(code) + len(code) :], flags=re.DOTALL)
    assert "except" not in code or printed[1] in capsys.readouterr().out
    assert names["density" if "density" in names else "model"].count_params() > 0
    if "density" in names:
        assert names["log_px"].shape == (500,) and names["one_pass"].z.shape == (3, 4)
    elif "log_px" in names:
        assert names["log_px"].shape == (64,) and (tmp_path / "mnist.keras").exists()
