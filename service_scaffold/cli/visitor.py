"""A service for the length of one command: it has features and no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import click
from aiohttp import web

from service_scaffold import assets, errors, features, service

NAME = 'service-scaffold'


def run(
    work: Callable[[web.Application], Awaitable[Any]], url: str | None, timeout_s: float
) -> Any:
    """Run `work(app)` in a service of its own; what it raises is told in one line, with status 1.

    Args:
        url: The event bus; None is what the environment says.
        timeout_s: Default limit of whatever waits.
    """
    try:
        return asyncio.run(_run(work, url, timeout_s))
    except (errors.ScaffoldError, OSError, ValueError) as error:
        fail(str(error) or type(error).__name__)
    except KeyboardInterrupt:
        sys.exit(130)


def fail(text: str) -> NoReturn:
    """Say what is wrong, and end with status 1."""
    click.echo(f'{NAME}: {text}', err=True)
    sys.exit(1)


async def _run(
    work: Callable[[web.Application], Awaitable[Any]], url: str | None, timeout_s: float
) -> Any:
    async with _visiting(url, timeout_s) as app:
        return await work(app)


@asynccontextmanager
async def _visiting(url: str | None, timeout_s: float) -> AsyncIterator[web.Application]:
    flags = ['--name', NAME, '--instance', f'cli-{secrets.token_hex(4)}']
    flags += ['--connect-timeout-s', f'{timeout_s:g}', '--log-level', 'error']
    if url is not None:
        flags += ['--eventbus-url', url]
    app = service.create_app(NAME, raw_args=flags)
    logging.getLogger().setLevel(logging.ERROR)
    assets.setup(app)
    lifecycle = features.get_lifecycle(app)
    await lifecycle.start()
    try:
        yield app
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await lifecycle.shutdown()
