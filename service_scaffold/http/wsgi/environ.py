"""The environment of a WSGI call (PEP 3333)."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from aiohttp import web

from service_scaffold.http import forwarded

LOGGER = logging.getLogger(__name__)

FILE_BLOCK = 2**16
# Applied already, or not to be believed: a view must do neither again. The port is that of the
# host, but a ProxyFix would believe this one.
_FORWARDED = frozenset(
    name.lower()
    for name in (
        forwarded.FOR,
        forwarded.PROTO,
        forwarded.HOST,
        forwarded.PREFIX,
        'X-Forwarded-Port',
    )
)
_NOT_HTTP = frozenset({'content-type', 'content-length', 'host', 'transfer-encoding'})
_DEFAULT_PORTS = {'http': '80', 'https': '443'}


def make(
    request: web.Request, prefix: str, body: BinaryIO, *, is_decoded: bool = False
) -> dict[str, Any]:
    """Return the environment of a request.

    Args:
        request: With forwarded headers applied.
        prefix: Where the application is mounted, as in `/site`; '' at the top.
        body: Of the request; it ends at its end.
        is_decoded: The body was decompressed, so that its headers no longer hold.
    """
    url = request.rel_url
    environ: dict[str, Any] = {
        'REQUEST_METHOD': request.method,
        'SCRIPT_NAME': _decoded(forwarded.root_path(request) + prefix),
        'PATH_INFO': _decoded(_below(url.raw_path, prefix)),
        'QUERY_STRING': _latin1(url.raw_query_string),
        'REQUEST_URI': _latin1(request.raw_path),
        'REMOTE_ADDR': request.remote or '',
        'SERVER_PROTOCOL': f'HTTP/{request.version.major}.{request.version.minor}',
        'wsgi.version': (1, 0),
        'wsgi.url_scheme': request.scheme,
        'wsgi.input': body,
        'wsgi.input_terminated': True,
        'wsgi.errors': _Errors(),
        'wsgi.multithread': True,
        'wsgi.multiprocess': False,
        'wsgi.run_once': False,
        'wsgi.file_wrapper': _wrap_file,
    }
    _add_host(environ, request)
    _add_headers(environ, request, is_decoded)
    return environ


def _add_host(environ: dict[str, Any], request: web.Request) -> None:
    if 'Host' in request.headers or forwarded.HOST in request.headers:
        host = environ['HTTP_HOST'] = _latin1(request.host)
    else:
        host = _own_address(request)
    name, colon, port = host.rpartition(':')
    if not colon or port.endswith(']'):  # a bare IPv6 address
        name, port = host, ''
    environ['SERVER_NAME'] = name
    if not port.isdecimal():  # there is none, or the client has made it up
        port = _DEFAULT_PORTS.get(request.scheme, '80')
    environ['SERVER_PORT'] = port


def _own_address(request: web.Request) -> str:
    transport = request.transport
    own = None if transport is None else transport.get_extra_info('sockname')
    return f'{own[0]}:{own[1]}' if isinstance(own, tuple) else 'localhost'  # or a Unix socket


def _add_headers(environ: dict[str, Any], request: web.Request, is_decoded: bool) -> None:
    headers = request.headers
    if content_type := headers.get('Content-Type'):
        environ['CONTENT_TYPE'] = _latin1(content_type)
    if 'Content-Length' in headers and not is_decoded:
        environ['CONTENT_LENGTH'] = headers['Content-Length']
    for name, value in headers.items():
        lower = name.lower()
        # A name with an underscore would pass for one with a hyphen.
        if lower in _NOT_HTTP or lower in _FORWARDED or '_' in lower:
            continue
        if is_decoded and lower == 'content-encoding':
            continue
        key = f'HTTP_{name.upper().replace("-", "_")}'
        separator = '; ' if lower == 'cookie' else ','
        text = _latin1(value)
        environ[key] = f'{environ[key]}{separator}{text}' if key in environ else text


def _below(path: str, prefix: str) -> str:
    """Return the path below a prefix, both percent-encoded, each in its own way."""
    # By the number of segments: the client may have encoded more than it had to.
    parts = path.split('/', prefix.count('/') + 1)
    return f'/{parts[-1]}' if len(parts) > prefix.count('/') + 1 else ''


def _decoded(path: str) -> str:
    return unquote_to_bytes(path.encode('utf-8', 'surrogateescape')).decode('latin-1')


def _latin1(text: str) -> str:
    """Return the bytes of a text of aiohttp as WSGI has them: a text of that many characters."""
    if text.isascii():
        return text
    return text.encode('utf-8', 'surrogateescape').decode('latin-1')


def _wrap_file(file: Any, block_size: int = FILE_BLOCK) -> FileWrapper:
    """Read a file in blocks that are worth a way to the event loop."""
    return FileWrapper(file, max(block_size, FILE_BLOCK))


class _Errors(io.TextIOBase):
    """`wsgi.errors`: each line is a line of our log."""

    def __init__(self) -> None:
        super().__init__()
        self._line = ''

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split('\n')
        for line in lines:
            if line:
                LOGGER.error('%s', line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._line:
            line, self._line = self._line, ''
            LOGGER.error('%s', line)
