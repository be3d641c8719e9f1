"""What `STORAGE` says: one back end, or several by name."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import msgspec

from service_scaffold import errors, options

DEFAULT = 'default'
"""The name of a back end that was given none."""


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field='type'):
    """Base of the settings of a back end; `type` tells which."""


class Local(_Settings, frozen=True, tag='local'):
    """A directory: `mount_point` if it exists, else `local_path`."""

    local_path: str
    mount_point: str | None = None


class Memory(_Settings, frozen=True, tag='memory'):
    """A dictionary in this process."""


class S3(_Settings, frozen=True, tag='s3'):
    """A bucket, or what is below `prefix` in it.

    What is left out is found as AWS's tools do: environment, profile, role of the machine.
    """

    bucket: str
    prefix: str = ''
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None

    def __repr__(self) -> str:
        return f'S3(bucket={self.bucket!r}, prefix={self.prefix!r}, …)'  # no credentials


Settings = Local | Memory | S3
_TYPES = ('local', 'memory', 's3')


def parse(text: str) -> dict[str, Settings]:
    """Return the settings of each back end by its name, from JSON."""
    try:
        return from_object(msgspec.json.decode(text))
    except msgspec.DecodeError as error:  # it does not hold the text, which may hold credentials
        raise argparse.ArgumentTypeError(f'not JSON: {error}') from None
    except errors.ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def from_object(value: object) -> dict[str, Settings]:
    """Return the settings of each back end by its name.

    Args:
        value: An object with a `type`, or an object of such objects.

    Raises:
        ConfigError: It is neither, or a setting is unknown, missing, or of the wrong type.
    """
    if not isinstance(value, Mapping):
        raise errors.ConfigError(
            f'a storage is an object with a type ({", ".join(_TYPES)}), or several by name'
        )
    if 'type' in value:
        return {DEFAULT: _convert(value)}
    return {str(name): _convert(settings, f' {name!r}') for name, settings in value.items()}


def _convert(value: object, name: str = '') -> Settings:
    if isinstance(value, Settings):
        return value
    kind = value.get('type') if isinstance(value, Mapping) else None
    if kind not in _TYPES:
        found = 'no type' if kind is None else f'the unknown type {kind!r}'
        raise errors.ConfigError(f'storage{name} has {found}; one of {", ".join(_TYPES)}')
    try:
        converted: Settings = msgspec.convert(value, Settings)
    except msgspec.ValidationError as error:
        raise errors.ConfigError(f'storage{name} of type {kind}: {error}') from None
    return converted


OPTIONS = (
    options.Option(
        'storage',
        'Where files are kept, as JSON: {"type": "local", "local_path": …, "mount_point": …},'
        ' {"type": "memory"}, {"type": "s3", "bucket": …}, or several by name [nowhere]',
        type=parse,
        takes=(dict,),
        secret=True,
        metavar='JSON',
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option `--storage` to `parser`."""
    options.add_options(parser, OPTIONS, 'storage')
