"""`service-scaffold assets`: list them, show one, watch it, call it."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Callable
from typing import Any

import click
import msgspec
from aiohttp import web

from service_scaffold import assets as api
from service_scaffold.cli import visitor
from service_scaffold.streams.cli.inspection import columns

Command = Callable[..., Any]


def _common(command: Command) -> Command:
    for option in (
        click.option('--json', 'as_json', is_flag=True, help='For machines.'),
        click.option(
            '--timeout-s', default=10.0, show_default=True, help='Seconds to wait for the bus.'
        ),
        click.option(
            '--url', metavar='URL', help='Event bus [SERVICE_EVENTBUS_URL of the environment].'
        ),
    ):
        command = option(command)
    return command


@click.group()
def assets() -> None:
    """Assets: what they are, how they are, and what they can do."""


@assets.command()
@click.option('--kind', help='Only assets of this kind.')
@click.option('--path', help='Only assets at or below this path.')
@click.option('--available/--away', default=None, help='Only assets that are there, or are not.')
@_common
def ls(
    kind: str | None,
    path: str | None,
    available: bool | None,
    url: str | None,
    timeout_s: float,
    as_json: bool,
) -> None:
    """List assets."""

    async def work(app: web.Application) -> list[dict[str, Any]]:
        found = await api.find(app, kind=kind, path=path, available=available, timeout_s=timeout_s)
        return [
            {'id': one.id, 'kind': one.kind, 'path': one.path, 'available': one.available}
            for one in found
        ]

    rows = visitor.run(work, url, timeout_s)
    _show(rows, as_json, lambda: columns(('id', 'kind', 'path', 'available'), rows))


@assets.command()
@click.argument('asset')
@_common
def show(asset: str, url: str | None, timeout_s: float, as_json: bool) -> None:
    """Show an asset with its attributes and methods."""

    async def work(app: web.Application) -> dict[str, Any]:
        proxy = await _known(app, asset, timeout_s)
        return {
            'id': proxy.id,
            'kind': proxy.kind,
            'path': proxy.path,
            'available': proxy.available,
            'above': sorted(proxy.above),
            'below': sorted(proxy.below),
            'attributes': msgspec.to_builtins(proxy.attributes()),
        }

    found = visitor.run(work, url, timeout_s)
    _show(found, as_json, lambda: _page(found))


@assets.command()
@click.argument('asset')
@click.option('--attribute', help='Only this attribute.')
@click.option('--kind', type=click.Choice(['sample', 'event', 'condition', 'system']))
@_common
def watch(
    asset: str,
    attribute: str | None,
    kind: Any,
    url: str | None,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Print each change of an asset until interrupted."""

    def tell(one: api.Attribute) -> None:
        click.echo(json.dumps(msgspec.to_builtins(one)) if as_json else _line(one))

    async def work(app: web.Application) -> None:
        proxy = await api.open(app, asset, timeout_s=timeout_s)
        for one in proxy.attributes(kind).values():
            if attribute in (None, one.id):
                tell(one)
        proxy.subscribe(tell, attribute=attribute, kind=kind)
        await asyncio.Event().wait()

    visitor.run(work, url, timeout_s)


@assets.command()
@click.argument('asset')
@click.argument('method')
@click.argument('arguments', nargs=-1, metavar='[NAME=VALUE]...')
@click.option('--queue', is_flag=True, help='When the asset is away, wait for it.')
@_common
def call(
    asset: str,
    method: str,
    arguments: tuple[str, ...],
    queue: bool,
    url: str | None,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Call a method of an asset; values are JSON, or text when they are not."""
    given = dict(map(_argument, arguments))

    async def work(app: web.Application) -> Any:
        proxy = await _known(app, asset, timeout_s)
        return await proxy.call(method, given, timeout_s=timeout_s, queue=queue)

    value = visitor.run(work, url, timeout_s)
    _show(value, as_json, lambda: [value if isinstance(value, str) else json.dumps(value)])


async def _known(app: web.Application, asset: str, timeout_s: float) -> api.AssetProxy:
    proxy = await api.open(app, asset, timeout_s=timeout_s)
    if not proxy.known:
        visitor.fail(f'{asset} is not known')
    return proxy


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition('=')
    if not equals:
        raise click.BadParameter(f'{text!r} is no NAME=VALUE')
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _show(value: Any, as_json: bool, lines: Callable[[], Any]) -> None:
    for line in [json.dumps(value)] if as_json else lines():
        click.echo(line)


def _page(found: dict[str, Any]) -> list[str]:
    state = 'available' if found['available'] else 'not available'
    about = ', '.join(text for text in (found['kind'], found['path'], state) if text)
    lines = [f'{found["id"]}: {about}']
    lines += [f'{side}: {", ".join(found[side])}' for side in ('above', 'below') if found[side]]
    rows = [
        {
            'attribute': id,
            'kind': one['kind'],
            'value': _value(one),
            'tag': one['tag'],
            'quality': one['quality'],
            'since': _time(one['timestamp']),
        }
        for id, one in found['attributes'].items()
    ]
    return [*lines, *columns(('attribute', 'kind', 'value', 'tag', 'quality', 'since'), rows)]


def _value(one: dict[str, Any]) -> str:
    value = one['value']
    if one['kind'] == 'method' and isinstance(value, dict):
        arguments = ', '.join(
            f'{argument["name"]}: {argument["type"]}' for argument in value.get('arguments', ())
        )
        return f'({arguments}) -> {value.get("returns", "any")}'
    return value if isinstance(value, str) else json.dumps(value)


def _line(one: api.Attribute) -> str:
    value = one.value if isinstance(one.value, str) else json.dumps(one.value)
    return f'{_time(one.timestamp)}  {one.asset}.{one.id}  {value}  {one.quality}'


def _time(timestamp: float) -> str:
    return datetime.datetime.fromtimestamp(timestamp).astimezone().isoformat(' ', 'milliseconds')
