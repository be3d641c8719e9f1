"""Commands of an application: what was declared; `cli` makes a program of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: As it is typed; default the function's, with hyphens.
        function: What it runs, sync or async.
        options: Decorators of click, such as `click.option('--count')`, from left to right.
        base: A `click.Command` class; None is click's own.
        help: Default the function's docstring.
        settings: Further arguments of the click command.
    """

    name: str
    function: Callable[..., Any]
    options: tuple[Callable[..., Any], ...] = ()
    base: type | None = None
    help: str = ''
    settings: Mapping[str, Any] = field(default_factory=dict)


def make_command(
    function: Callable[..., Any],
    options: tuple[Callable[..., Any], ...],
    base: type | None,
    name: str | None,
    settings: Mapping[str, Any],
) -> Command:
    """Return the command of a function.

    Raises:
        TypeError: It is not a function, an option is not a decorator of click, or a setting is
            none of the class's.
    """
    if not callable(function):
        raise TypeError(f'app.command() is put on a function, not on {function!r}')
    for option in options:
        if not callable(option):
            raise TypeError(f'app.command takes decorators such as click.option, not {option!r}')
    chosen = name or getattr(function, '__name__', 'command').replace('_', '-')
    _check_settings(chosen, base, settings)
    rest = dict(settings)
    text = rest.pop('help', None) or inspect.getdoc(function) or ''
    return Command(chosen, function, options, base, text, rest)


def _check_settings(name: str, base: type | None, settings: Mapping[str, Any]) -> None:
    """Find at the declaration what would fail when the program is run."""
    if not settings:
        return
    if base is None:
        import click  # which who has settings for it has

        base = click.Command
    known = dict(inspect.signature(base).parameters)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    unknown = sorted(settings.keys() - known.keys())
    if unknown:
        raise TypeError(f'command {name}: {base.__name__} takes no {", ".join(unknown)}')
