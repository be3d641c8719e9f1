"""What `STORAGE` says: one back end, or several by name."""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Mapping
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

import msgspec

from service_scaffold import errors, options
from service_scaffold.storage import paths

Text = Annotated[str, msgspec.Meta(min_length=1)]

DEFAULT = 'default'
"""The name of a back end that was given none."""


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field='type'):
    """Base of the settings of a back end; `type` tells which."""


class Local(_Settings, frozen=True, tag='local'):
    """A directory: `mount_point` if it exists, else `local_path`."""

    local_path: Text
    mount_point: str | None = None


class Memory(_Settings, frozen=True, tag='memory'):
    """A dictionary in this process."""


class S3(_Settings, frozen=True, tag='s3'):
    """A bucket, or what is below `prefix` in it.

    What is left out is found as AWS's tools do: environment, profile, role of the machine.
    """

    bucket: Text
    prefix: str = ''
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None

    def __post_init__(self) -> None:
        try:
            paths.clean(self.prefix)
        except OSError as error:
            raise ValueError(f'prefix: {error.strerror}') from None
        if self.endpoint_url is not None and not _is_url(self.endpoint_url):
            raise ValueError('endpoint_url begins with http:// or https://, and has a host')
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError('access_key_id and secret_access_key are given together')

    def __repr__(self) -> str:
        return f'S3(bucket={self.bucket!r}, prefix={self.prefix!r}, …)'  # no credentials


Settings = Local | Memory | S3
_TYPES = {str(one.__struct_config__.tag): one for one in get_args(Settings)}


def parse(text: str) -> dict[str, Settings]:
    """Return the settings of each back end by its name, from JSON."""
    try:
        return from_object(json.loads(text, object_pairs_hook=_unique))
    except json.JSONDecodeError as error:  # it does not show the text, which may hold credentials
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
    if not isinstance(value, Mapping) or not isinstance(kind, str) or kind not in _TYPES:
        found = f'the unknown type {kind!r}' if isinstance(kind, str) else 'no type'
        raise errors.ConfigError(f'storage{name} has {found}; one of {", ".join(_TYPES)}')
    known = _TYPES[kind].__struct_fields__
    for key in value:
        if key != 'type' and key not in known:
            hint = options.nearest(str(key), known)
            raise errors.ConfigError(f'storage{name} of type {kind}: unknown setting {key!r}{hint}')
    try:
        converted: Settings = msgspec.convert(value, Settings)
    except msgspec.ValidationError as error:
        raise errors.ConfigError(f'storage{name} of type {kind}: {error}') from None
    if isinstance(converted, S3):
        check_installed()
    return converted


def check_installed() -> None:
    """Check that what S3 needs is there, without loading it.

    Raises:
        ConfigError: It is not; says what to install.
    """
    if importlib.util.find_spec('boto3') is None:
        raise errors.ConfigError(
            'A storage of type s3 needs the package boto3: pip install service-scaffold[s3]'
        )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ('http', 'https') and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise errors.ConfigError(f'{twice!r} is there twice')
    return found


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
