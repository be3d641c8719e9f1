"""The path prefix of a service: every resource moves under it."""

from __future__ import annotations

import re

from aiohttp import web
from aiohttp.web_urldispatcher import MatchedSubAppResource

PREFIX = web.AppKey('service_scaffold.prefix', str)
"""Where the prefix of an application stands in it, once it is furnished."""

_PREFIX = re.compile(r'(/(?!\.\.?(/|$))[^/\s?#{}]+)+')


def normalise(prefix: str) -> str:
    """Return `prefix` with a leading and without a trailing slash; '' for none.

    Raises:
        ValueError: It cannot be a path prefix.
    """
    stripped = prefix.strip('/')
    if not stripped:
        return ''
    normal = f'/{stripped}'
    if not _PREFIX.fullmatch(normal):
        raise ValueError(f'{prefix!r} is not a path prefix; write it as in "/greenhouse"')
    return normal


def apply(router: web.UrlDispatcher, prefix: str) -> None:
    """Move every resource of `router` under `prefix`, and keep it findable there."""
    if not prefix:
        return
    for resource in router.resources():
        if isinstance(resource, MatchedSubAppResource):
            # Found by host name, not by path: its own resources move.
            apply(resource.get_info()['app'].router, prefix)
            continue
        move(router, resource, prefix)


def move(router: web.UrlDispatcher, resource: web.AbstractResource, prefix: str) -> None:
    """Move one resource under `prefix`.

    The router looks resources up by their path, so one whose path has changed must be taken out of
    its index and put in again; `add_prefix` alone leaves it where nobody looks.
    """
    router.unindex_resource(resource)
    resource.add_prefix(prefix)
    router.index_resource(resource)
