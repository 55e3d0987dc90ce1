"""Names of this package's bijectors, and of a user's, in saved models.

A name has no module path, so that files outlive moves: `tfp_hybrid>ActNorm`, or `mine>MyBijector` for a class of the
package `mine`, as Keras names registered classes.
"""

_CLASSES: dict[str, type] = {}


def registered_name(cls: type) -> str:
    """What a saved model calls a class: its top-level package, and its name."""
    return f"{cls.__module__.split('.')[0]}>{cls.__name__}"


def register(cls: type):
    """Lets saved models hold instances of `cls`; a later class of the same name takes its place."""
    _CLASSES[registered_name(cls)] = cls


def find(name: str) -> type | None:
    """The registered class of that name, or None."""
    return _CLASSES.get(name)
