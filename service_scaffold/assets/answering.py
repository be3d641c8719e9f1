"""The methods of an owned asset, and the answers to those who call them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any

import msgspec

from service_scaffold import errors
from service_scaffold.assets import record as records
from service_scaffold.assets.answers import Answer, answer_to
from service_scaffold.assets.methods import Method

LOGGER = logging.getLogger(__name__)


class Answering:
    """What others may call.

    Args:
        asset: The asset's id.
        methods: Its methods, by name.
    """

    def __init__(self, asset: str, methods: Mapping[str, Method]) -> None:
        self._asset = asset
        self._methods = dict(methods)

    def __contains__(self, name: str) -> bool:
        return name in self._methods

    def __bool__(self) -> bool:
        return bool(self._methods)

    def contracts(self) -> dict[str, Any]:
        """Return what others know of each method."""
        return {
            name: msgspec.to_builtins(method.contract) for name, method in self._methods.items()
        }

    async def answer(self, name: str, arguments: Any, pool: Executor) -> Answer:
        """Return the answer to a request, whatever comes of it.

        Args:
            pool: Where plain functions run.
        """
        try:
            method = self._find(name)
            checked = method.check(_object(name, arguments))
        except errors.AssetError as error:
            return answer_to(error)
        try:
            value = await method.call(checked, pool)
            return Answer(value=records.check_value(self._asset, name, value))
        except (Exception, asyncio.CancelledError, SystemExit) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise  # it is we who are cancelled, not something that the method has awaited
            LOGGER.exception('%s.%s failed', self._asset, name)
            return Answer('failed', type=type(error).__name__, message=str(error))

    def _find(self, name: str) -> Method:
        method = self._methods.get(name)
        if method is None:
            known = ', '.join(sorted(self._methods)) or 'none'
            raise errors.UnknownMethod(f'{self._asset} has no method {name!r}; it has: {known}')
        return method


def _object(name: str, arguments: Any) -> dict[str, Any]:
    if not isinstance(arguments, dict):
        raise errors.BadRequest(f'{name}: the arguments must be an object', ('not an object',))
    return arguments
