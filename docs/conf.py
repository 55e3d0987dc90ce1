"""Settings of Sphinx. `sphinx-build -W docs site` builds the documentation."""

import re

import tfp_hybrid

project = "tfp_hybrid"
author = "The tfp_hybrid authors"
version = release = tfp_hybrid.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
templates_path = ["_templates"]
html_theme = "furo"
html_title = "tfp_hybrid"
html_show_copyright = False
myst_heading_anchors = 3
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # Keras' and TFP's are in their own format
napoleon_numpy_docstring = False
napoleon_use_ivar = True

SECTION = re.compile(r"^(Args|Arguments|Attributes|Call arguments|Example|Raises|References|Returns|Yields):$")


def markdown_to_rst(app, what, name, obj, options, lines):
    """Formats a docstring for Sphinx: `code` as literals, and indented formulas as literal blocks."""
    in_text, result = True, []
    for i, line in enumerate(lines):
        in_text = in_text and not SECTION.match(line)
        starts_block = line.startswith("    ") and i > 0 and not lines[i - 1].strip()
        if in_text and starts_block and not _in_block(result):
            result += ["::", ""]
        result.append(line if in_text and line.startswith("    ") else _inline(line))
    lines[:] = result


def skip_foreign(app, what, name, obj, skip, options):
    """Leaves out methods that classes get without being asked: of scikit-learn's metadata routing, and TFP's own."""
    is_tfps = str(getattr(obj, "__module__", "")).startswith("tensorflow_probability")
    return True if is_tfps or re.fullmatch(r"set_\w+_request|get_metadata_routing", name) else None


def _inline(line):
    """Doubles the backticks, and escapes bars in the text between them, which would be substitutions."""
    parts = line.split("`")
    if len(parts) % 2 == 0 or ":`" in line:  # code over two lines, or a role
        return line.replace("|", "\\|")
    return "``".join(part if i % 2 else part.replace("|", "\\|") for i, part in enumerate(parts))


def _in_block(lines):
    """Whether the last line that is not empty belongs to an indented block."""
    text = [line for line in lines if line.strip()]
    return bool(text) and text[-1].startswith("    ")


def setup(app):
    app.connect("autodoc-process-docstring", markdown_to_rst, priority=400)  # before napoleon, at 500
    app.connect("autodoc-skip-member", skip_foreign)
