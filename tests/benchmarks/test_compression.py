"""The benchmark of compression, with hardly any training, and the sizes that others take."""

import io
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks import compression
from benchmarks.__main__ import app


@pytest.mark.integration
def test_it_compresses_resumes_and_reports(tmp_path):
    command = ["compression", "--out", str(tmp_path), "--seeds", "1", "--quick"]
    assert CliRunner().invoke(app, command).exit_code == 0
    (row,) = pd.read_csv(tmp_path / "compression.csv").to_dict("records")
    assert 0 < 8 * row["flow"] / row["bits"] - 1 < 0.01
    assert row["bits"] / (447 * 64) == pytest.approx(row["bits_per_dim"], rel=1e-4)
    assert row["zlib"] < 447 * 64 and row["PNG, one sheet"] < row["PNG, each digit"]
    report = (tmp_path / "compression.md").read_text()
    assert f"| integer flow, 1,000 digits, seed 0 | {row['flow']:,} | " in report and "| lzma | " in report
    (tmp_path / "compression.md").unlink()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (tmp_path / "compression.md").read_text() == report


def test_the_others_keep_all_images():
    x = np.random.default_rng(0).integers(17, size=(5, 8, 8, 1)).astype("uint8")
    for kind, options in (("PNG", dict(optimize=True)), ("WEBP", dict(lossless=True, quality=100, method=6))):
        file = io.BytesIO()
        Image.fromarray(x.reshape(40, 8)).save(file, kind, **options)
        kept = np.asarray(Image.open(file))
        np.testing.assert_array_equal(kept if kept.ndim == 2 else kept[..., 0], x.reshape(40, 8))
    assert compression.OTHERS["PNG, one sheet"](x) < compression.OTHERS["PNG, each digit"](x)
    assert compression.OTHERS["zlib"](x) == len(zlib.compress(x.tobytes(), 9))
