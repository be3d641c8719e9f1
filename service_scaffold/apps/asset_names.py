"""The names that an application has itself, so that what it declares must have others."""

from __future__ import annotations

from service_scaffold.assets.declarations import Declared
from service_scaffold.assets.methods import METHOD

_OF_OBJECTS = frozenset(
    ('app', 'application', 'asset', 'config', 'extra', 'logger', 'parser', 'stopping', 'sync')
)
"""Names of what the constructor makes."""


def check_names(cls: type) -> None:
    """Check that what a class declares takes the place of nothing that the application needs.

    Raises:
        TypeError: An attribute or a method is named as something of ours is.
    """
    ours = next(base for base in cls.__mro__ if base.__module__.startswith(f'{__package__}.'))
    for base in cls.__mro__:
        for name, value in vars(base).items():
            is_method = hasattr(value, METHOD)
            if not is_method and not isinstance(value, Declared):
                continue
            if name in _OF_OBJECTS or name.startswith('_') or hasattr(ours, name):
                hint = f', as in @assets.method(name={name!r})' if is_method else ''
                raise TypeError(
                    f'{cls.__name__}.{name} would take the place of what every application has:'
                    f' give it another name{hint}'
                )
