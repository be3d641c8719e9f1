"""Requests to the methods of assets, over the event bus."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import msgspec

from service_scaffold import errors, events
from service_scaffold.assets import answers
from service_scaffold.assets import record as records
from service_scaffold.assets.answering import Answering

EXCHANGE = 'asset-methods'
"""Where requests go; the routing key is the asset's id, a dot, and the method's name."""

METHODS_AT_ONCE = 64
"""How many methods of one asset may run at once; each by itself runs one call after another."""

_POLICY = events.Policy(
    concurrency=METHODS_AT_ONCE, retry=events.Retry(attempts=1), dead_letter=False
)


def answer(
    listener: events.EventListener, asset: str, methods: Answering, pool: Executor
) -> events.EventSubscription:
    """Answer the requests to an asset from now on; each at most once, none after its deadline.

    Args:
        pool: Where plain functions run.
    """

    async def on_request(
        subscription: events.EventSubscription, key: str, arguments: Any
    ) -> dict[str, Any]:
        answer = await methods.answer(key.rpartition('.')[2], arguments, pool)
        found: dict[str, Any] = msgspec.to_builtins(answer)
        return found

    return listener.subscribe(
        EXCHANGE, f'{asset}.*', on_message=on_request, reply=True, policy=_POLICY
    )


async def ask(
    publisher: events.EventPublisher, asset: str, method: str, arguments: Any, timeout_s: float
) -> Any:
    """Call a method of an asset; return what it returns.

    Raises:
        BadRequest, UnknownMethod, AssetUnavailable, MethodFailed, TimeoutError: See
            `AssetProxy.request`.
    """
    if not records.is_method_name(method):
        raise errors.UnknownMethod(f'{asset} has no method {method!r}')
    try:
        body = await publisher.request(
            EXCHANGE, f'{asset}.{method}', arguments, timeout_s=timeout_s
        )
    except errors.NoResponder as error:
        raise errors.AssetUnavailable(f'{asset} does not answer {method}') from error
    except errors.TooLarge as error:
        raise errors.BadRequest(f'{method}: the arguments are too large: {error}') from error
    except errors.RemoteError as error:
        raise errors.MethodFailed(method, error.type, error.message) from error
    except errors.TransportError as error:
        raise errors.AssetUnavailable(f'{asset} has not answered {method}: {error}') from error
    except TimeoutError:
        raise TimeoutError(f'{asset} has not answered {method} within {timeout_s:g} s') from None
    return answers.value_of(method, body)


def not_begun(error: errors.AssetUnavailable) -> bool:
    """Return whether a request that `ask` could not have answered reached nobody."""
    cause = error.__cause__
    if isinstance(cause, errors.PublishError):
        return not cause.maybe_sent
    return isinstance(cause, errors.NoResponder)
