"""Who has what: the workers of an application and their partitions, as JSON."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from service_scaffold import features
from service_scaffold.http import health
from service_scaffold.http.prefix import PREFIX
from service_scaffold.streams.registry import WorkerInfo
from service_scaffold.streams.worker import Worker


def describe(worker: Worker) -> dict[str, Any]:
    """Return what this worker knows: of itself, of the others, and of each table's partitions."""
    session = worker.session
    if session is None:
        return {'workers': {}, 'tables': {}, 'recovering': {}, 'copies': {}}
    neighbours = session.neighbours
    registry = neighbours.registry
    workers = registry.workers
    tables: dict[str, Any] = {}
    for name, table in worker.topology.tables.items():
        tables[name] = [
            {
                'partition': number,
                'owner': _id(registry.owner('tables', name, number)),
                'copies': sorted(info.id for info in registry.holders(name, number)),
            }
            for number in range(table.count or 0)
        ]
    return {
        'id': neighbours.id,
        'workers': {id: _shown(info) for id, info in sorted(workers.items())},
        'tables': tables,
        'recovering': {
            f'{table}/{number}': progress.shown()
            for (table, number), progress in worker.recovering.items()
        },
        'copies': {
            f'{table}/{number}': {'behind': copy.lag}
            for (table, number), copy in sorted(neighbours.copies.by_place.items())
        },
    }


def add_route(app: web.Application) -> None:
    """Serve `GET /_service/assignment`: what `describe` returns."""

    async def get_assignment(request: web.Request) -> web.Response:
        return web.json_response(describe(features.get(request, Worker)))

    summary = 'Which worker has which partitions'
    health.add_route(app, app.get(PREFIX, ''), 'assignment', get_assignment, summary=summary)


def _id(info: WorkerInfo | None) -> str | None:
    return None if info is None else info.id


def _shown(info: WorkerInfo) -> dict[str, Any]:
    return {
        'url': info.url,
        'generation': info.generation,
        'topics': info.topics,
        'tables': info.tables,
        'copies': info.copies,
    }
