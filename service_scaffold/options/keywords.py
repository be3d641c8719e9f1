"""Options as keywords of a ready-made app: they are the options' defaults."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Mapping

from service_scaffold import errors
from service_scaffold.options import parser as parsers


def apply_keywords(
    parser: parsers.OptionParser, keywords: Mapping[str, object], extra: Iterable[str] = ()
) -> dict[str, object]:
    """Make `keywords` the defaults of the options of the same name; None means not given.

    Args:
        extra: Further names that the caller knows, for the hint.

    Returns:
        Those whose names begin with `x_`: they belong to the user.

    Raises:
        TypeError: An unknown keyword; names it and the nearest option.
        ConfigError: A value that the option does not accept.
    """
    actions = {action.dest: action for action in parser._actions}
    kept: dict[str, object] = {}
    for name, value in keywords.items():
        if name.startswith('x_'):
            kept[name] = value
            continue
        if name not in actions:
            raise TypeError(f'unknown option {name!r}{nearest(name, [*actions, *extra])}')
        if value is not None:
            option = parser.declared.get(name)
            as_it_is = option is not None and isinstance(value, option.takes)
            parser.set_defaults(**{name: value if as_it_is else _checked(actions[name], value)})
            actions[name].required = False
    return kept


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the most similar of `known`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean {close[0]!r}?' if close else ''


def _checked(action: argparse.Action, value: object) -> object:
    if isinstance(value, bool) or action.nargs == 0:
        if isinstance(value, bool) and action.nargs == 0:
            return value
        expected = 'True or False' if action.nargs == 0 else 'a value, not True or False'
        raise errors.ConfigError(f'option {action.dest!r}: expected {expected}')
    parts = value if isinstance(value, (list, tuple)) else None
    text = ','.join(map(str, parts)) if parts is not None else str(value)
    if callable(action.type):
        try:
            value = action.type(text)
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise errors.ConfigError(f'option {action.dest!r}: {error}') from error
    if action.choices is not None and value not in action.choices:
        choices = ', '.join(map(str, action.choices))
        raise errors.ConfigError(f'option {action.dest!r}: {value!r} is not one of {choices}')
    return value
