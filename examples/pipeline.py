"""Three applications in a row: readings are checked, averaged and stored; a producer measures.

python examples/pipeline.py
curl localhost:5000/pipeline/report
python examples/pipeline.py --exit-when-done      # ends when all is stored
python examples/pipeline.py --eventbus-url amqp://localhost --port 0   # as often as you like
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web

from service_scaffold import events
from service_scaffold.apps import DistributedApplication, TopicMessage, TopicSocket

app = DistributedApplication('pipeline')
STATIONS = ('north', 'south', 'west')


@dataclass
class Reading:
    """What a station measures."""

    celsius: float


class Averages:
    """What is known of each station."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}

    def add(self, station: str, value: float) -> float:
        """Take a value; return the average so far."""
        total, count = self.sums.get(station, (0.0, 0))
        self.sums[station] = total + value, count + 1
        return (total + value) / (count + 1)


@contextlib.contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A table of averages, there as long as the application that stores them."""
    connection = sqlite3.connect(':memory:')
    connection.execute('CREATE TABLE averages (station TEXT PRIMARY KEY, celsius REAL)')
    try:
        yield connection
    finally:
        connection.close()


@app.producer()
async def measure(socket):
    """Publish ten readings of each station; one sensor is broken."""
    for _ in range(10):
        for station in STATIONS:
            celsius = 1000.0 if station == 'west' else random.uniform(10, 30)
            await socket.publish(f'readings/{station}', Reading(celsius))


@app.application('readings')
async def check(message: TopicMessage[Reading], socket):
    """Pass on what can be true; the rest is kept as dead letters."""
    if not -90 < message.value.celsius < 60:
        raise events.Reject(f'{message.value.celsius} °C cannot be')
    station = message.topic.partition('/')[2]
    await socket.publish(f'checked/{station}', message.value)


@app.application('checked', state=Averages)
async def average(message: TopicMessage[Reading], socket, state):
    """Publish the average of a station after each reading."""
    station = message.topic.partition('/')[2]
    await socket.publish(f'averages/{station}', state.add(station, message.value.celsius))


@app.application(['averages', 'report'], resources={'db': database})
async def store(message: TopicMessage[float | None], db):
    """Store averages, and answer whoever asks for the report."""
    if message.topic == 'report':
        return dict(db.execute('SELECT station, celsius FROM averages ORDER BY station'))
    row = (message.topic.partition('/')[2], message.value)
    db.execute('INSERT OR REPLACE INTO averages VALUES (?, ?)', row)
    return None


async def get_report(request: web.Request) -> web.Response:
    """Ask the application that has the table, whichever instance that is."""
    answer = await TopicSocket(request.app).request('report', None, timeout_s=5)
    return web.json_response(answer.value)


app.application.router.add_get('/report', get_report)

if __name__ == '__main__':
    app.run()
