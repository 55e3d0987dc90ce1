"""The style of all pictures, and how a figure is written."""

import base64
import functools
import io
import os
import re
import zlib
from collections.abc import Callable

import matplotlib
import matplotlib.figure

from tfp_hybrid import files

# Distinct for the colour-blind (after Okabe and Ito), and each with a contrast of at least 3:1 to white.
COLOURS = ("#0072b2", "#d55e00", "#00805c", "#aa4499", "#8a6d00", "#5b5b5b", "#882255", "#3b7ea1")
STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "figure.figsize": (6.4, 4.0),
    "font.size": 11,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "tfp_hybrid",
}


def styled(draw: Callable) -> Callable:
    """Decorates a function that draws a figure, so that it uses the package's style."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def save(figure: matplotlib.figure.Figure, path: str | os.PathLike):
    """Writes a figure to a file, in the format of the suffix; an existing file is replaced as a whole."""
    form = os.path.splitext(path)[1].removeprefix(".") or None
    with files.replacing(path) as beside:
        _write(figure, beside, form)


def png(figure: matplotlib.figure.Figure) -> str:
    """Returns a figure as a base64-encoded PNG, to embed in a page."""
    return base64.b64encode(_written(figure, "png")).decode()


def svg(figure: matplotlib.figure.Figure) -> str:
    """Returns a figure as the text of an SVG element, to embed in a page; the same figure gives the same text.

    Its ids are its own, so that a page may hold several.
    """
    text = _written(figure, "svg").decode()
    text = text[text.index("<svg") :]
    prefix = f"f{zlib.crc32(text.encode()):08x}_"
    return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", text)


def _written(figure, form):
    buffer = io.BytesIO()
    _write(figure, buffer, form)
    return buffer.getvalue()


def _write(figure, file, form):
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format=form, metadata={"Date": None} if form == "svg" else None)
