"""Configuration files (TOML, YAML) and `@file` arguments."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

import configargparse

_NEXT_OPTION = re.compile(r'\s-')
_NESTING_LIMIT = 10


class FileParser(configargparse.ConfigFileParser):  # type: ignore[misc]  # it has no types
    """Reads one file and has each of its values checked before argparse sees it."""

    check: Callable[[str, Mapping[str, object]], dict[str, str | list[str]]]

    def get_syntax_description(self) -> str:
        return 'The file is TOML or YAML, with the options at the top level: port = 5000.'

    def parse(self, stream: TextIO) -> dict[str, str | list[str]]:
        """Return `key -> text or list of texts`.

        Raises:
            ConfigFileParserException: It cannot be read, or one of its keys or values is wrong.
        """
        name = str(getattr(stream, 'name', 'the configuration file'))
        try:
            return self.check(name, load(name, stream.read()))
        except (ValueError, OSError) as error:
            raise configargparse.ConfigFileParserException(f'{name}: {error}') from error


def load(name: str, text: str) -> Mapping[str, object]:
    """Return what a file holds; its extension tells the format, else TOML is tried, then YAML.

    Raises:
        ValueError: It is not in its format, or not a mapping at the top.
    """
    extension = os.path.splitext(name)[1].lower()
    if extension in ('.yaml', '.yml'):
        return _load_yaml(text)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if extension != '.toml':
            try:
                return _load_yaml(text)
            except ValueError as yaml_error:
                raise ValueError(f'neither TOML ({error}) nor YAML ({yaml_error})') from error
        raise ValueError(f'not TOML: {error}') from error


def _load_yaml(text: str) -> Mapping[str, object]:
    try:
        import yaml
    except ImportError as error:
        raise ValueError(
            "reading YAML needs PyYAML; install 'service-scaffold[yaml]', or use TOML"
        ) from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f'not YAML: {error}') from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError('has no options at the top level; write one "key: value" a line')
    return {str(key): value for key, value in content.items()}


def expand_arguments(arguments: Sequence[str], nesting: int = 0) -> list[str]:
    """Return `arguments` with each `@file` replaced by the arguments in that file.

    Raises:
        argparse.ArgumentTypeError: A file cannot be read, or includes itself.
    """
    expanded: list[str] = []
    for argument in arguments:
        if not argument.startswith('@') or len(argument) == 1:
            expanded.append(argument)
            continue
        if nesting == _NESTING_LIMIT:
            raise argparse.ArgumentTypeError(f'{argument}: files that include each other')
        try:
            with open(argument[1:], encoding='utf-8') as stream:
                lines = stream.read().splitlines()
            words = [word for line in lines for word in split_line(line)]
        except (OSError, ValueError) as error:
            raise argparse.ArgumentTypeError(f'{argument}: {error}') from error
        expanded += expand_arguments(words, nesting + 1)
    return expanded


def split_line(line: str) -> list[str]:
    """Return the arguments on one line of an `@file`.

    A line with options is split as by a shell: `--port 80 --info "two words"`. A line with only
    `--option=value` and no quotes, or with no option at all, is one argument, spaces included.
    Empty lines and lines that begin with `#` hold none.
    """
    line = line.strip()
    if not line or line.startswith('#'):
        return []
    quoted = '"' in line or "'" in line
    assigned = line.startswith('--') and '=' in line.split()[0] and not _NEXT_OPTION.search(line)
    if not quoted and (assigned or not line.startswith('-')):
        return [line]
    return shlex.split(line, comments=True)
