"""What a worker has counted, as families of metrics; nothing is computed before one asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service_scaffold.events import HANDLER_BUCKETS_S
from service_scaffold.features import Family, Histogram, Labels, Spread
from service_scaffold.streams.session import Session
from service_scaffold.streams.tables.buffer import JoinBuffer
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.tables.windowed import WindowedTable
from service_scaffold.streams.task import Phase
from service_scaffold.streams.topology import Topology

_AGENT_COUNTERS = (
    ('processed', 'Events that were handled.'),
    ('failed', 'Attempts of an agent that raised.'),
    ('retried', 'Attempts that were made again.'),
    ('skipped', 'Events dropped because an error hook said so.'),
    ('dead_lettered', 'Events put into the dead letters.'),
)
_SCHEDULE_COUNTERS = (
    ('runs', 'Runs of a timer or crontab that have begun.'),
    ('errors', 'Runs of a timer or crontab that raised.'),
    ('skipped', 'Ticks of a timer or crontab that have come to no run.'),
)
_PHASES: tuple[Phase, ...] = ('recovering', 'running', 'held')

Places = Mapping[tuple[str, int], Any]
Samples = Sequence[tuple[Labels, float]]


def of_topology(topology: Topology) -> Iterator[Family | Histogram]:
    """Yield what is counted from the start of the process, whatever the connection does."""
    app = topology.id
    agents = topology.all_agents
    for name, help in _AGENT_COUNTERS:
        samples = [((app, agent.name), getattr(agent.stats, name)) for agent in agents]
        yield _counter(name, help, ('agent',), samples)
    for name, help in _SCHEDULE_COUNTERS:
        found = topology.schedules.items()
        samples = [((app, key), getattr(schedule, name)) for key, schedule in found]
        yield _counter(f'timer_{name}', help, ('timer',), samples)
    yield from _of_tables(app, list(topology.tables.values()))
    late = topology.calls.late
    yield _counter('late_replies', 'Answers that nobody waited for any more.', (), [((app,), late)])
    yield from _of_checkpoints(topology)


def _of_tables(app: str, tables: Sequence[Table]) -> Iterator[Family]:
    yield _counter(
        'late',
        'Writes to windows that had closed, and values of a join whose time had passed.',
        ('table',),
        [
            ((app, table.name), table.late)
            for table in tables
            if isinstance(table, WindowedTable | JoinBuffer)
        ],
    )
    yield _counter(
        'windows_closed',
        'Windows that have closed.',
        ('table',),
        [((app, each.name), each.closed) for each in tables if isinstance(each, WindowedTable)],
    )


def _of_checkpoints(topology: Topology) -> Iterator[Family | Histogram]:
    app, stats = topology.id, topology.checkpoints
    yield Histogram(
        'streams_checkpoint_duration_seconds',
        'Seconds that a checkpoint of one task took.',
        ('app',),
        HANDLER_BUCKETS_S,
        [((app,), Spread(stats.durations.counts, stats.durations.sum_s))],
    )
    help = 'Checkpoints that came to nothing: a rebalance was first, or the connection was lost.'
    yield _counter('checkpoints_failed', help, (), [((app,), stats.failed)])


def of_session(
    topology: Topology, session: Session | None, recovering: Places, stalled: int
) -> Iterator[Family]:
    """Yield how it is now; without a connection little can be told.

    Args:
        recovering: Recoveries that go on.
        stalled: Partitions that stand still.
    """
    app, up = topology.id, int(session is not None)
    yield _gauge('connected', 'Whether there is a connection to the log.', (), [((app,), up)])
    help = 'Partitions whose committed offset stands still although there is something to do.'
    yield _gauge('stalled', help, (), [((app,), stalled)])
    if session is not None:
        yield from _of_tasks(topology, session)
        yield from _of_lags(app, session, recovering)


def _of_tasks(topology: Topology, session: Session) -> Iterator[Family]:
    app = topology.id
    phases = Counter(task.phase for task in session.tasks.values())
    yield _gauge(
        'tasks',
        'Tasks of this worker: one for each partition number and partition count.',
        ('phase',),
        [((app, phase), phases[phase]) for phase in _PHASES],
    )
    yield _gauge(
        'in_flight',
        'Events in hand: a body is busy with them, or waits before another attempt.',
        ('agent',),
        [
            *(((app, agent.name), 0) for agent in topology.all_agents if not agent.topic.here),
            *(((app, lane.agent.name), lane.in_flight) for lane in session.lanes),
        ],
    )


def _of_lags(app: str, session: Session, recovering: Places) -> Iterator[Family]:
    known = () if session.lag is None else session.lag.by_partition()
    yield _gauge(
        'lag',
        'Records of a partition that are not committed, counted in offsets.',
        ('topic', 'partition'),
        [((app, where.topic, str(where.partition)), lag) for where, lag in known],
    )
    yield _gauge(
        'recovery_lag',
        'Changelog records that a recovery has still to read, while there is one.',
        ('table', 'partition'),
        _by_place(app, recovering, 'left'),
    )
    yield _gauge(
        'standby_lag',
        'Changelog records that a copy of a partition is behind: a standby, or of a global table.',
        ('table', 'partition'),
        _by_place(app, session.neighbours.copies.by_place, 'lag'),
    )


def _by_place(app: str, places: Places, attribute: str) -> Samples:
    return [
        ((app, table, str(number)), getattr(each, attribute))
        for (table, number), each in places.items()
    ]


def _counter(name: str, help: str, labels: Labels, samples: Samples) -> Family:
    return Family('counter', f'streams_{name}', help, ('app', *labels), samples)


def _gauge(name: str, help: str, labels: Labels, samples: Samples) -> Family:
    return Family('gauge', f'streams_{name}', help, ('app', *labels), samples)
