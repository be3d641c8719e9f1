"""The command line parser: flag before environment before file before default."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import NoReturn

import configargparse

from service_scaffold.options import declaration, environment, files, secrets, table

_SWITCH_WORDS = frozenset({'true', 'yes', 'on', '1', 'false', 'no', 'off', '0'})
_NEGATIVE_NUMBER = re.compile(r'-\d+|-\d*\.\d+')
_SWITCHES = (
    argparse._StoreTrueAction,
    argparse._StoreFalseAction,
    argparse._StoreConstAction,
    argparse.BooleanOptionalAction,
)

_FILE_TYPES: dict[object, tuple[type | tuple[type, ...], str]] = {
    str: (str, 'a text; put it in quotes'),
    list: (str, 'a list or a text'),
    int: (int, 'a whole number, without quotes'),
    float: ((int, float), 'a number, without quotes'),
}


class OptionParser(configargparse.ArgumentParser):  # type: ignore[misc]  # it has no types
    """An `ArgumentParser` whose options are also file keys and `SERVICE_…` variables.

    That holds for arguments added with `add_argument`, too. Wrong values in the environment or in
    a file are usage errors (status 2) that name the variable, or the file and the key.
    """

    def __init__(self, **keywords: object) -> None:
        self.declared: dict[str, declaration.Option] = {}
        self.arguments: list[str] = []
        reader = files.FileParser()
        reader.check = self._check_file
        settings: dict[str, object] = {
            'allow_abbrev': False,  # an abbreviation would get past the order of precedence
            'auto_env_var_prefix': declaration.ENVIRONMENT_PREFIX,
            'config_file_parser_class': reader,
            'config_file_open_func': _open,
        }
        super().__init__(**(settings | keywords))

    def parse_known_args(
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
        config_file_contents: str | None = None,
        env_vars: Mapping[str, str] | None = None,
        ignore_help_args: bool = False,
    ) -> tuple[argparse.Namespace, list[str]]:
        """As in `argparse`; `env_vars` is the environment to read, default that of the process."""
        given = os.environ if env_vars is None else env_vars
        environ = environment.prepare(given)
        if args is None:
            args = sys.argv[1:]
        try:
            # Here, not by argparse, as only arguments that are known by now outrank the rest.
            self.arguments = files.expand_arguments(args)
        except argparse.ArgumentTypeError as error:
            self.error(str(error))
        self._check_environment(environ, given)
        found: tuple[argparse.Namespace, list[str]] = super().parse_known_args(
            self.arguments, namespace, config_file_contents, environ, ignore_help_args
        )
        return found

    def parse_args(self, *args: object, **keywords: object) -> argparse.Namespace:
        """As in `argparse`; takes what `parse_known_args` takes."""
        namespace, unknown = self.parse_known_args(*args, **keywords)  # type: ignore[arg-type]
        if unknown:
            self.error(f'unrecognized arguments: {" ".join(unknown)}{self._nearest(unknown[0])}')
        return namespace

    def error(self, message: str) -> NoReturn:
        """End with status 2 and a message that holds no credentials."""
        super().error(secrets.mask_text(message))
        raise AssertionError('argparse exits')

    def sources(self) -> dict[str, str]:
        """Return where each value came from, by its key in the configuration.

        `flag`, `environment NAME`, `file NAME` or `default`; valid once arguments were parsed.
        """
        found = {action.dest: 'default' for action in self._actions}
        settings = self.get_source_to_settings_dict()
        for source, values in settings.items():
            kind, _, path = source.partition('|')
            for key, (action, _) in values.items():
                if kind == 'config_file' and action is not None:
                    found[action.dest] = f'file {path}'
                elif kind == 'environment_variables':
                    found[action.dest] = f'environment {key}'
        for action in self._actions:
            if self._is_given(action):
                found[action.dest] = 'flag'
        return found

    def is_secret(self, key: str) -> bool:
        """Tell whether the value under that key must not be shown."""
        option = self.declared.get(key)
        return secrets.looks_secret(key) if option is None else option.secret

    def _nearest(self, argument: str) -> str:
        flag = argument.partition('=')[0].replace('_', '-')
        known = [flag for action in self._actions for flag in action.option_strings]
        close = difflib.get_close_matches(flag, known, n=1) if flag.startswith('--') else []
        return f'; did you mean {close[0]}?' if close else ''

    def _is_given(self, action: argparse.Action) -> bool:
        for argument in self.arguments:
            if argument == '--':
                return False
            for flag in action.option_strings:
                short = len(flag) == 2 and argument.startswith(flag)
                if argument == flag or argument.startswith(f'{flag}=') or short:
                    return True
        return False

    def _check_environment(self, environ: Mapping[str, str], given: Mapping[str, str]) -> None:
        for action in self._actions:
            for key in _keys(action)[:1]:
                name = action.env_var or declaration.ENVIRONMENT_PREFIX + key.upper().replace(
                    '-', '_'
                )
                if name in environ:
                    try:
                        _check_text(action, environ[name])
                    except ValueError as error:
                        said = environment.said_in(name, given)
                        self.error(f'environment variable {said}: {error}')

    def _check_file(self, file: str, content: Mapping[str, object]) -> dict[str, str | list[str]]:
        known = {key: action for action in self._actions for key in _keys(action)}
        checked: dict[str, str | list[str]] = {}
        for given, value in content.items():
            key = given if given in known else given.replace('_', '-')
            if key in checked:
                raise ValueError(f'key {given!r} is given twice')
            if key not in known:
                raise ValueError(_unknown(given, value, known))
            try:
                checked[key] = _text(known[key], value)
            except ValueError as error:
                raise ValueError(f'key {given!r}: {error}') from error
        return checked


def create_parser(default_name: str | None = None) -> OptionParser:
    """Return a parser with every option of a service; add your own with `add_argument`.

    Args:
        default_name: Default of `--name`; without one, `--name` is required.
    """
    parser = OptionParser(
        prog=_program(),
        description='Each option is also an environment variable: --log-level is SERVICE_LOG_LEVEL.'
        ' An argument @FILE is replaced by the arguments in that file.',
    )
    parser.add_argument(
        '-c',
        '--config',
        metavar='FILE',
        is_config_file_arg=True,
        env_var=f'{declaration.ENVIRONMENT_PREFIX}CONFIG',
        help='TOML or YAML file with options at the top level',
    )
    parser.add_argument(
        *table.NAME.flags,
        f'--{table.NAME.name}',
        type=table.NAME.type,
        default=default_name,
        required=default_name is None,
        help=f'{table.NAME.help} [%(default)s]' if default_name else table.NAME.help,
    )
    parser.declared[table.NAME.key] = table.NAME
    table.add_arguments(parser)
    return parser


def _program() -> str | None:
    """Return how a package was run, which argparse before Python 3.14 calls `__main__.py`."""
    spec = getattr(sys.modules['__main__'], '__spec__', None)
    return None if spec is None else f'python -m {spec.name.removesuffix(".__main__")}'


def _open(path: str, mode: str = 'r') -> object:
    return open(path, mode, encoding='utf-8')


def _keys(action: argparse.Action) -> list[str]:
    """Return the file keys of an option: its long flags; none for those that only act."""
    if isinstance(action, (argparse._HelpAction, argparse._VersionAction)):
        return []
    if getattr(action, 'is_config_file_arg', False) or action.dest == 'print_config':
        return []
    return [flag[2:] for flag in action.option_strings if flag.startswith('--')]


def _unknown(key: str, value: object, known: Mapping[str, argparse.Action]) -> str:
    if isinstance(value, dict):
        return f'table {key!r}: options stand at the top level'
    close = difflib.get_close_matches(key.replace('_', '-'), known, n=1)
    hint = f'; did you mean {close[0]!r}?' if close else ''
    return f'unknown key {key!r}{hint}'


def _takes_list(action: argparse.Action) -> bool:
    several = action.nargs in ('+', '*') or (isinstance(action.nargs, int) and action.nargs > 1)
    return several or isinstance(action, argparse._AppendAction)


def _text(action: argparse.Action, value: object) -> str | list[str]:
    """Return a file's value as argparse wants it; ValueError when it is of the wrong type."""
    if isinstance(value, dict):
        raise ValueError('a table; options stand at the top level')
    if value is None:
        raise ValueError('has no value')
    if isinstance(value, list) and _takes_list(action):
        items = [_scalar(action, item) for item in value]
        _check_items(action, items)
        return items
    if isinstance(value, list) and _kind(action) is list:
        value = ','.join(str(item) for item in value)
    return _scalar(action, value)


def _check_items(action: argparse.Action, items: list[str]) -> None:
    """Raise ValueError when argparse would take an item for a flag, as of another option."""
    if isinstance(action, argparse._AppendAction):
        return  # each is given as --flag=item
    for item in items:
        if item.startswith('-') and not _NEGATIVE_NUMBER.fullmatch(item):
            raise ValueError(f"{item!r}: an item of a list cannot begin with '-'")


def _kind(action: argparse.Action) -> object:
    """Return the type of an option's value, as far as its declaration tells it."""
    if action.type is None or isinstance(action.type, type):
        return action.type or str
    try:
        found = typing.get_type_hints(action.type).get('return')
    except (TypeError, NameError):  # a callable without readable annotations
        return None
    return typing.get_origin(found) or found


def _scalar(action: argparse.Action, value: object) -> str:
    switch = isinstance(action, _SWITCHES)
    if switch != isinstance(value, bool):
        expected = 'true or false' if switch else 'a value, not true or false'
        raise ValueError(f'{value!r}: expected {expected}')
    if isinstance(value, (list, dict)) or value is None:
        raise ValueError(f'{value!r}: expected one value')
    expected_types, expected = _FILE_TYPES.get(_kind(action), (object, ''))
    if not switch and not isinstance(value, expected_types):
        raise ValueError(f'{value!r}: expected {expected}')
    text = str(value).lower() if isinstance(value, bool) else str(value)
    _check_text(action, text)
    return text


def _check_text(action: argparse.Action, text: str) -> None:
    """Raise ValueError, with a text fit to be shown, when argparse would refuse the value."""
    if isinstance(action, _SWITCHES):
        if text.lower() not in _SWITCH_WORDS:
            raise ValueError(f'{text!r}: expected true or false')
        return
    if _takes_list(action) and text.startswith('['):
        # A list in a variable, which configargparse splits.
        _check_items(action, [item.strip() for item in text[1:-1].split(',')])
        return
    value: object = text
    if callable(action.type):
        try:
            value = action.type(text)
        except argparse.ArgumentTypeError as error:
            raise ValueError(str(error)) from error
        except (TypeError, ValueError) as error:
            kind = getattr(action.type, '__name__', repr(action.type))
            raise ValueError(f'invalid {kind} value: {text!r}') from error
    if action.choices is not None and value not in action.choices:
        raise ValueError(f'{text!r}: choose from {", ".join(map(str, action.choices))}')
