"""The environment as the parser sees it: a copy, with the names that platforms use filled in."""

from __future__ import annotations

import logging
from collections.abc import Mapping

LOGGER = logging.getLogger(__name__)

_ALIASES = {
    'PORT': 'SERVICE_PORT',
    'ROOT_PATH': 'SERVICE_ROOT_PATH',
    'STORAGE': 'SERVICE_STORAGE',
    'APP_UUID': 'SERVICE_NAME',
    'APPLICATION_VERSION': 'SERVICE_APPLICATION_VERSION',
    'APPLICATION_MANUFACTURER': 'SERVICE_APPLICATION_MANUFACTURER',
    'APPLICATION_LICENSE': 'SERVICE_APPLICATION_LICENSE',
}
_OTHERS = {'KAFKA_BROKER': 'SERVICE_EVENTBUS_URL', 'SWARM_TASK_SLOT': 'SERVICE_REPLICA'}


def prepare(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of `environ` in which platform names fill the missing `SERVICE_…` ones.

    An empty variable counts as missing, as container tools set one for an unset value.
    """
    prepared = {name: value for name, value in environ.items() if value != ''}
    if prepared.get('SERVICE_PORT', '').startswith('tcp://'):
        LOGGER.warning(
            'Ignoring SERVICE_PORT=%s: Kubernetes sets it for a Service named "service"; use --port'
            ' or PORT, or give the Service another name',
            prepared.pop('SERVICE_PORT'),
        )
    for alias, name in _ALIASES.items():
        if alias in prepared:
            prepared.setdefault(name, prepared[alias])
    if 'KAFKA_BROKER' in prepared:
        prepared.setdefault('SERVICE_EVENTBUS_URL', f'kafka://{prepared["KAFKA_BROKER"]}')
    if prepared.get('SWARM_REPLICAS', '1') != '1':
        slot = prepared.get('SWARM_TASK_SLOT', 'SWARM_REPLICAS without SWARM_TASK_SLOT')
        prepared.setdefault('SERVICE_REPLICA', slot)
    return prepared


def said_in(name: str, environ: Mapping[str, str]) -> str:
    """Return the variable in `environ` that gave `prepare` the value of `name`."""
    aliases = [alias for alias, meant in (_ALIASES | _OTHERS).items() if meant == name]
    return next((each for each in (name, *aliases) if environ.get(each)), name)
