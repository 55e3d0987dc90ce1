"""The house: rooms import downward, no cycles, no long files, private names of other packages in one place."""

import ast
import pathlib

import pytest

import tfp_hybrid

ROOT = pathlib.Path(tfp_hybrid.__file__).parent
# From the top down: a room imports from rooms below it only.
ROOMS = (
    "cli",
    "console options",
    "commands",
    "registered",
    "recipes",
    "estimators active bandits compression serving shift",
    "uncertainty",
    "bayes",
    "models",
    "callbacks penalties",
    "heads",
    "flows",
    "latents",
    "tables",
    "bijectors",
    "networks",
    "convolution made position_encoding",
    "interop serialization",
    "trusted",
    "registry",
    "datasets",
    "exporting",
    "execution pipeline workers files strict_json archives arguments moments fingerprint",
    "_compat _backend",
)
LEVELS = {name: level for level, names in enumerate(ROOMS) for name in names.split()}
LONGEST = 350  # lines


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def imported(tree):
    """The modules of this package that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "tfp_hybrid")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tfp_hybrid":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in TREES else node.module


def room(module):
    return module.split(".")[1]


def test_every_module_has_a_room():
    assert {room(module) for module in TREES if module != "tfp_hybrid"} == set(LEVELS)


def test_imports_point_downward():
    upward = [
        f"{module} imports {other}"
        for module, tree in TREES.items()
        for other in imported(tree)
        if "tfp_hybrid" not in (module, other)
        and room(module) != room(other)
        and LEVELS[room(other)] <= LEVELS[room(module)]
    ]
    assert upward == []


def test_no_import_cycles():
    graph = {module: set(imported(tree)) - {"tfp_hybrid"} for module, tree in TREES.items() if module != "tfp_hybrid"}
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=module_name)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def names_of_ours():
    """Every name with an underscore that this package defines."""
    found = set()
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if module == "tfp_hybrid._compat":
                continue
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                parts = [part for target in targets for part in getattr(target, "elts", [target])]
                found |= {part.attr if isinstance(part, ast.Attribute) else getattr(part, "id", "") for part in parts}
    return found


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def test_private_names_of_others_are_in_one_file():
    """What begins with an underscore and is not ours, and modules that are not for users."""
    ours, strangers = names_of_ours(), []
    for module, tree in TREES.items():
        if module == "tfp_hybrid._compat":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in ours:
                strangers.append(f"{module}:{node.lineno} {ast.unparse(node)}")
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names]
                path = ".".join([getattr(node, "module", None) or "", *names])
                foreign = not path.startswith("tfp_hybrid") and not path.startswith("__future__")
                if foreign and ({"python", "src"} & set(path.split(".")) or any(map(is_private, path.split(".")))):
                    strangers.append(f"{module}:{node.lineno} {ast.unparse(node)}")
    assert strangers == []
