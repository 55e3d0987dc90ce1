"""Everything that a saved model may name: importing this module checks the backend, and registers it with Keras."""

from tfp_hybrid import _backend, bijectors, heads, interop, latents, networks, penalties, recipes, tables, uncertainty

__all__ = [
    "_backend",
    "bijectors",
    "heads",
    "interop",
    "latents",
    "networks",
    "penalties",
    "recipes",
    "tables",
    "uncertainty",
]
