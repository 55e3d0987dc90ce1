"""What the package imports is what it asks for."""

import ast
import importlib.metadata
import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
FOR_OTHERS = {"importlib-resources"}  # tensorflow-datasets imports it and does not ask for it
EXTRAS = ("compression", "onnx")  # whose packages the code imports where they are needed


def imported():
    """The modules that the package's code imports, at the top of a file or in a function."""
    found = set()
    for path in (ROOT / "tfp_hybrid").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"tfp_hybrid"}


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_imports_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {normalized(re.match(r"[\w.-]+", entry)[0]) for entry in project["dependencies"]}
    distributions = importlib.metadata.packages_distributions()
    providers = {name: {normalized(one) for one in distributions.get(name, [name])} for name in imported()}
    assert {"requests", "absl", "google", "keras"} <= providers.keys()
    for extra in EXTRAS:
        optional = {normalized(re.match(r"[\w.-]+", entry)[0]) for entry in project["optional-dependencies"][extra]}
        providers = {name: found for name, found in providers.items() if not found & optional}
    missing = {name: found for name, found in providers.items() if not found & declared}
    assert not missing, "imported, but not in pyproject.toml"
    assert declared - set().union(*providers.values()) == FOR_OTHERS
