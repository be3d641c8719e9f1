"""The examples with assets: a machine, who watches it, and a site behind a proxy."""

from __future__ import annotations

import asyncio
import http.cookiejar
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from test.brokers.mosquitto import Mosquitto
from test.brokers.process import free_port, require, search_path
from test.brokers.required import require_program
from test.examples.process import EXAMPLES, running


async def test_a_machine_is_watched_moved_and_missed(mosquitto: Mosquitto) -> None:
    bus = ('--eventbus-url', mosquitto.url, '--asset-lease-s', '2')
    with running('watcher', *bus, '--instance', 'watcher') as watcher:
        with running('mill', *bus, '--instance', 'mill', prefix='/mill-1') as mill:
            await watcher.becomes('/seen', lambda seen: seen['availability'][-1:] == ['AVAILABLE'])  # type: ignore[index]
            assert watcher.ask('/move?x=0.3&y=0.4', {}) == {'moved': 0.5}
            await watcher.becomes('/seen', lambda seen: seen['modes'] == ['IDLE', 'RUN', 'IDLE'])  # type: ignore[index]
            distance: Any = mill.ask('/assets/mill-1/distance')
            assert (distance['value'], distance['kind']) == (0.5, 'sample')
        await watcher.becomes('/seen', lambda seen: seen['availability'][-1] == 'UNAVAILABLE')  # type: ignore[index]
        with pytest.raises(urllib.error.HTTPError) as refused:
            watcher.ask('/move?x=1&y=1', {})
        assert refused.value.code == 503


@contextmanager
def nginx(directory: Path, upstream: str) -> Iterator[str]:
    """Run the proxy of the examples before `upstream`; gives its URL."""
    require_program(require('nginx'))
    port = free_port()
    text = (EXAMPLES / 'nginx.conf').read_text()
    text = text.replace('127.0.0.1:8080', f'127.0.0.1:{port}')
    text = text.replace('http://127.0.0.1:4000', upstream)
    (directory / 'nginx.conf').write_text(text)
    command = ['nginx', '-p', str(directory), '-c', str(directory / 'nginx.conf')]
    process = subprocess.Popen(command, env={'PATH': search_path()}, stderr=subprocess.PIPE)
    try:
        yield f'http://127.0.0.1:{port}/shop'
    finally:
        process.terminate()
        process.communicate(timeout=10)


async def test_a_site_under_a_prefix_of_a_proxy_keeps_links_redirects_and_cookies(
    tmp_path: Path,
) -> None:
    with (
        running('site', '--root-path', '/shop', prefix='') as site,
        nginx(tmp_path, site.base) as shop,
    ):
        jar = http.cookiejar.CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))

        async def ask(path: str, body: bytes | None = None) -> tuple[str, Any]:
            request = urllib.request.Request(shop + path, body)
            answer = await asyncio.to_thread(browser.open, request, timeout=10)
            with answer:
                return answer.url, json.load(answer)

        async with asyncio.timeout(10):
            while True:  # the proxy takes a moment to listen
                try:
                    _, home = await ask('/')
                    break
                except urllib.error.URLError:
                    await asyncio.sleep(0.02)
        assert home == {'light': 'OFF', 'visits': 1, 'mill': '/shop/machines/mill-1'}
        url, home = await ask('/switch/on', b'')
        assert (url, home['light'], home['visits']) == (f'{shop}/', 'ON', 2)
        assert {cookie.path for cookie in jar} == {'/shop'}
