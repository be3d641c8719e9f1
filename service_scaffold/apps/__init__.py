"""Ready-made apps: each is a whole service in one object. They are loaded when they are asked for.

from service_scaffold.apps import StreamApp
"""

from __future__ import annotations

import importlib
from typing import Any

_HERE = 'service_scaffold.apps.distributed'
_HOMES = {
    'AbstractApplication': f'{_HERE}.standalone',
    'AmqpConfig': f'{_HERE}.configs',
    'ApplicationLifeCycle': f'{_HERE}.protocols',
    'AssetApp': 'service_scaffold.apps.asset',
    'BusConfig': f'{_HERE}.configs',
    'ConsumerApplication': f'{_HERE}.standalone',
    'DistributedApplication': f'{_HERE}.application',
    'KafkaConfig': f'{_HERE}.configs',
    'MemoryConfig': f'{_HERE}.configs',
    'MessageBuilder': f'{_HERE}.message',
    'MqttConfig': f'{_HERE}.configs',
    'ProducerApplication': f'{_HERE}.standalone',
    'SocketProvider': f'{_HERE}.protocols',
    'StreamApp': 'service_scaffold.apps.stream',
    'TopicMessage': f'{_HERE}.message',
    'TopicSocket': f'{_HERE}.socket',
    'WebAssetApp': 'service_scaffold.apps.web',
    'socket_provider': f'{_HERE}.configs',
}

__all__ = [
    'AbstractApplication',
    'AmqpConfig',
    'ApplicationLifeCycle',
    'AssetApp',
    'BusConfig',
    'ConsumerApplication',
    'DistributedApplication',
    'KafkaConfig',
    'MemoryConfig',
    'MessageBuilder',
    'MqttConfig',
    'ProducerApplication',
    'SocketProvider',
    'StreamApp',
    'TopicMessage',
    'TopicSocket',
    'WebAssetApp',
    'socket_provider',
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
