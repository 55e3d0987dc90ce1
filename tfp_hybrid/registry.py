"""The names of bijectors of this package and of users in saved models.

A name holds the top-level package and the class, as Keras names registered classes: `tfp_hybrid>ActNorm`, or
`mine>MyBijector` for a class of the package `mine`. It holds no module path, so that a file can still be loaded after a
class has moved to another module.
"""

_CLASSES: dict[str, type] = {}


def registered_name(cls: type) -> str:
    """Returns the name of a class in saved models."""
    return f"{cls.__module__.split('.')[0]}>{cls.__name__}"


def register(cls: type):
    """Registers `cls`, so that saved models can hold its instances; replaces an earlier class of the same name."""
    _CLASSES[registered_name(cls)] = cls


def find(name: str) -> type | None:
    """Returns the registered class of that name, or None if there is none."""
    return _CLASSES.get(name)
