"""What an import brings with it, each in a process of its own."""

import pathlib
import subprocess
import sys

import keras
import pytest

import tfp_hybrid as hy
from tfp_hybrid.recipes import FlightTimes


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_modules_with_public_names_are_public():
    modules = {
        path.stem for path in pathlib.Path(hy.__file__).parent.glob("[a-z]*.py") if "\n__all__" in path.read_text()
    }
    assert {"active", "bandits"} <= modules - {"registered"} <= set(hy.__all__)
    assert all(hasattr(hy, name) for name in hy.__all__)


@pytest.mark.integration
def test_help_comes_without_tensorflow():
    code = """
import sys
sys.argv = ["/usr/bin/tfp-hybrid", "drift", "--help"]
from tfp_hybrid.cli import app
try:
    app()
except SystemExit:
    print("imported:", sorted({"keras", "tensorflow", "pandas"} & sys.modules.keys()))
"""
    printed = run(code)
    assert "Examples" in printed and "imported: []" in printed


@pytest.mark.integration
def test_the_package_knows_flight_times_and_reads_no_data():
    code = """
import sys, tfp_hybrid
from tfp_hybrid import registry
print(registry.find("tfp_hybrid>FlightTimes").__name__, "tensorflow_datasets" in sys.modules)
"""
    assert run(code).split()[-2:] == ["FlightTimes", "False"]


@pytest.mark.integration
def test_the_console_script_loads_every_model(tmp_path):
    """Although it has not imported the whole package."""
    flow = hy.bijectors.FusedChain([FlightTimes(), hy.bijectors.ActNorm((8,))], (8,))
    keras.utils.set_random_seed(0)
    hy.HybridModel(hy.flow_distribution(flow), hy.heads.NormalMixture()).save(tmp_path / "model.keras")
    (tmp_path / "new.csv").write_text("a,b,c,d,e,f,g,h\n1,2,3,4,100,500,1055,905\n")
    code = f"""
import sys
sys.argv = ["tfp-hybrid", "score", {str(tmp_path)!r}, {str(tmp_path / "new.csv")!r}]
from tfp_hybrid.cli import app
app()
"""
    header, row = run(code).split()
    assert header == "prediction,uncertainty,log_prob_x" and len(row.split(",")) == 3
