"""What the documentation says holds: its code runs, its links lead somewhere, its pages on contributing work."""

import os
import pathlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import types

import keras
import numpy as np
import pytest

import tfp_hybrid
from tfp_hybrid import bijectors, commands, datasets, heads, networks, recipes, serving, tables, uncertainty

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
TEXTS = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
    *sorted((ROOT / "docs" / "contributing").glob("*.md")),
]
CODE = re.compile(r"```python\n(.*?)```", flags=re.DOTALL)
WITH_CODE = [path for path in TEXTS if path.parent.name != "contributing" and CODE.search(path.read_text())]
SLOW = ("posterior", "scikit_learn", "uncertainty")  # half a minute or more each
PAGES = sorted(path.stem for path in (ROOT / "docs" / "contributing").glob("*.md") if path.stem != "index")
STEP = re.compile(
    r"^(?:Write|Import it in|Export it in|Add a line to `(?P<table>\w+)` in) `(?P<path>[\w/]+\.py)`"
    r".*?```python\n(?P<code>.*?)```",
    flags=re.MULTILINE | re.DOTALL,
)
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.ipynb"))


def test_readme_is_one_screen():
    text = README.read_text()
    assert len(text.splitlines()) <= 130 and len(text.split()) <= 1000


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not link.startswith(("http", "#")):
            assert (path.parent / link.partition("#")[0]).exists(), link


def test_links_of_the_package_index_are_absolute(monkeypatch):
    given = {}
    monkeypatch.setattr("setuptools.setup", lambda **metadata: given.update(metadata))
    runpy.run_path(ROOT / "setup.py")
    here, there = (re.findall(r"\]\(([^)\s]+)\)", text) for text in (README.read_text(), given["long_description"]))
    assert len(here) == len(there) and all(link.startswith("https://") for link in there)
    assert f"{ADDRESS}/raw/main/tutorials/answers.png" in there and f"{ADDRESS}/blob/main/CHANGELOG.md" in there


def test_every_guide_is_in_the_table_of_contents():
    index = (ROOT / "docs" / "index.md").read_text().split()
    for path in (ROOT / "docs" / "guides").glob("*.md"):
        assert f"guides/{path.stem}" in index


def test_the_version_and_the_address_are_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {tfp_hybrid.__version__}\n" in citation and f'"{ADDRESS}"' in citation
    for path in TUTORIALS:
        text = path.read_text()
        assert f"git+{ADDRESS}" in text and ADDRESS.removeprefix("https:/").replace("/github.com", "/github") in text


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.nightly if path.stem in SLOW else pytest.mark.integration, id=path.stem)
        for path in WITH_CODE
    ],
)
def test_code_runs(path, monkeypatch, tmp_path, capsys):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (128, 28, 28)).astype("uint8"), rng.integers(0, 10, 128)
    few = images[:64], labels[:64]
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: ((images, labels), few))
    monkeypatch.chdir(tmp_path)
    text = path.read_text()
    for block in CODE.finditer(text):
        names = {}
        exec(block[1].replace("-5000", "-64"), names)  # of MNIST's 60,000 images, of which there are 128 here
        printed = re.match(r"\n\n```text\n(.*?)```", text[block.end() :], flags=re.DOTALL)
        assert printed is None or printed[1] in capsys.readouterr().out
        assert names.get("model", names.get("density")).count_params() > 0


@pytest.mark.nightly
def test_the_site_has_a_page_for_every_public_name(tmp_path):
    """And is built without a warning, such as that of a link that leads nowhere."""
    pytest.importorskip("furo", reason="furo, of the extra docs, is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", str(ROOT / "docs"), str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = {path.stem for path in (tmp_path / "api" / "generated").glob("*.html")}
    public = (bijectors, commands, datasets, heads, networks, recipes, serving, tables, uncertainty)
    for module in (tfp_hybrid, *public):
        for name in module.__all__:
            item = getattr(module, name)
            if callable(item) or isinstance(item, types.ModuleType):
                assert f"{module.__name__}.{name}" in pages, f"{module.__name__}.{name}"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.integration if page == "bijector" else pytest.mark.nightly)
        for page in PAGES
    ],
)
def test_contributing_page_gives_a_passing_test(page, tmp_path):
    """Followed word for word in a copy of the repository."""
    for part in ("tfp_hybrid", "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    text = (ROOT / "docs" / "contributing" / f"{page}.md").read_text()
    for step in STEP.finditer(text):
        _follow(tmp_path / step["path"], step["code"], step["table"])
    for command in (["check", "--fix", "."], ["format", "."]):
        assert f"ruff {' '.join(command)}" in text
        run = subprocess.run([sys.executable, "-m", "ruff", *command], cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
    command = shlex.split(re.findall("^pytest (.*)$", text, re.MULTILINE)[-1])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        # Not the package as it is installed; one process, since two would take longer to start than to test.
        env=os.environ | {"PYTHONPATH": str(tmp_path), "PYTEST_ADDOPTS": "-n 0"},
    )
    assert run.returncode == 0 and " passed" in run.stdout, run.stdout + run.stderr


def _follow(path, code, table):
    """Writes a new module, adds an import to one, or adds a line at the top of a table or list in it."""
    if not path.exists():
        path.write_text(code)
        return
    text = path.read_text()
    found = re.search(rf"^{table}\b.*[{{[]\n", text, re.MULTILINE) if table else None
    place = found.end() if table else [match.end() for match in re.finditer(r"^from [^(]*?\n", text, re.MULTILINE)][-1]
    path.write_text(text[:place] + code + text[place:])
