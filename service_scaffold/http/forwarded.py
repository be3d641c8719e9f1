"""What a reverse proxy tells about the client: address, scheme, host and stripped path prefix.

Only proxies in `--trusted-proxies` are believed; from anyone else the headers mean nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import partial

from aiohttp import web
from multidict import CIMultiDictProxy

FOR, PROTO, HOST, PREFIX = (
    'X-Forwarded-For',
    'X-Forwarded-Proto',
    'X-Forwarded-Host',
    'X-Forwarded-Prefix',
)
FORWARDED: web.AppKey[Forwarded] = web.AppKey('service_scaffold.forwarded')
_ROOT_PATH = web.RequestKey('service_scaffold.root_path', str)

# No '//', which a browser reads as another host, and nothing that could end a header or a quote.
_VALID_PREFIX = re.compile(r'(/[A-Za-z0-9._~%-]+)*/?')
_VALID_HOST = re.compile(r'[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?')
_COOKIE_PATH = re.compile(r'(;\s*path=)(/[^;]*)', re.IGNORECASE)


class Forwarded:
    """Applies forwarded headers to requests, and the stripped prefix to responses.

    Args:
        networks: Trusted proxies, as networks (`10.0.0.0/8`).
        root_path: Prefix that the proxy strips, where it does not send `X-Forwarded-Prefix`.

    Attributes:
        public_paths: Cookie paths that are as the browser sees them: no prefix comes before them.
    """

    def __init__(self, networks: Iterable[str], root_path: str = '') -> None:
        self.networks = tuple(ipaddress.ip_network(network) for network in networks)
        self.root_path = root_path.rstrip('/')
        self.public_paths: set[str] = set()
        self._trusted: dict[str, bool] = {}

    def is_trusted(self, address: str | None) -> bool:
        """Tell whether `address` is one of the trusted proxies."""
        if not address:
            return False
        known = self._trusted.get(address)
        if known is None:
            if len(self._trusted) >= 1024:  # clients come and go; the few proxies are soon back
                self._trusted.clear()
            known = self._trusted[address] = self._is_in_networks(address)
        return known

    def apply(self, request: web.Request) -> web.Request:
        """Return the request as the client made it, as far as a trusted proxy says so.

        `remote`, `scheme`, `host` (and `url` with them) change, and `root_path(request)`.
        """
        headers = request.headers
        if not (FOR in headers or PROTO in headers or HOST in headers or PREFIX in headers):
            return request
        if not self.is_trusted(request.remote):
            return request
        remote, hops = self._client(request.remote or '', _values(headers, FOR))
        scheme = _pick(_values(headers, PROTO), hops).lower()
        host = _pick(_values(headers, HOST), hops)
        prefix = _pick(_values(headers, PREFIX), hops)
        if prefix and _VALID_PREFIX.fullmatch(prefix):
            request[_ROOT_PATH] = prefix.rstrip('/')
        return request.clone(
            scheme=scheme if scheme in ('http', 'https', 'ws', 'wss') else request.scheme,
            host=host if _VALID_HOST.fullmatch(host) else request.host,
            remote=remote,
        )

    def prepare(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Put the stripped prefix before `Location` and cookie paths that lack it."""
        root = self.root_path
        if PREFIX in request.headers:
            root = request.get(_ROOT_PATH, root)
        if not root:
            return
        headers = response.headers
        location = headers.get('Location')
        if location is not None:
            headers['Location'] = f'{root}/' if location == '/' else _under(root, location)
        cookies = headers.popall('Set-Cookie', ())
        for cookie in cookies:
            headers.add('Set-Cookie', _COOKIE_PATH.sub(partial(self._rooted, root), cookie))

    def _rooted(self, root: str, found: re.Match[str]) -> str:
        attribute, path = found.groups()
        return attribute + (path if path in self.public_paths else _under(root, path))

    def _client(self, peer: str, chain: list[str]) -> tuple[str, int]:
        """Return the client's address, and how many trusted proxies stand before us."""
        hops = 1
        client = peer
        for claimed in reversed(chain):
            address = _address(claimed)
            if address is None:
                break  # "unknown", or made up: who said so is the last that we know
            client = address
            if not self.is_trusted(address):
                break
            hops += 1
        return client, hops

    def _is_in_networks(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address.partition('%')[0])
        except ValueError:
            return False
        mapped = getattr(parsed, 'ipv4_mapped', None)  # how a dual-stack socket shows IPv4
        return any((mapped or parsed) in network for network in self.networks)


def root_path(request: web.Request) -> str:
    """Return the prefix that a proxy has stripped from the path of this request; '' for none.

    Put it before each path that goes to the client as a URL. Redirects and cookies get it without
    your doing.
    """
    found: str | None = request.get(_ROOT_PATH)
    if found is not None:
        return found
    forwarded: Forwarded | None = request.config_dict.get(FORWARDED)
    return forwarded.root_path if forwarded is not None else ''


def _under(root: str, path: str) -> str:
    """Return `path` below `root`; unchanged when it is already, or is no path of this host."""
    if not path.startswith('/') or path.startswith('//'):
        return path
    if path == root or path.startswith((f'{root}/', f'{root}?', f'{root}#')):
        return path
    return root if path == '/' else root + path


def _address(claimed: str) -> str | None:
    """Return the address that `X-Forwarded-For` claims, without its port; None if it is none."""
    address = claimed.strip('"')
    if address.startswith('['):
        address = address[1:].partition(']')[0]
    elif address.count(':') == 1:
        address = address.partition(':')[0]
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return None
    return address


def _values(headers: CIMultiDictProxy[str], name: str) -> list[str]:
    joined = ','.join(headers.getall(name, ()))
    return [value.strip() for value in joined.split(',') if value.strip()]


def _pick(values: list[str], hops: int) -> str:
    """Return the value that the outermost trusted proxy has set; earlier ones anybody could."""
    return values[max(0, len(values) - hops)] if values else ''
