"""What the stateful sides of Quix Streams share."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from quixstreams import Application, State

from bench.meter import Meter, arguments


def count(guarantee: str, commit_s: float) -> None:
    """Count by key."""
    url, total, topic = arguments()
    meter = Meter(total)
    app = Application(
        broker_address=url.removeprefix('kafka://'),
        consumer_group=f'{topic}-quix',
        auto_offset_reset='earliest',
        commit_interval=commit_s,
        state_dir=tempfile.mkdtemp(),
        processing_guarantee=guarantee,
        loglevel='ERROR',
    )

    def update(message: dict, state: State) -> dict:
        state.set('count', state.get('count', 0) + 1)
        meter.hit()
        return message

    frame = app.dataframe(app.topic(topic, key_deserializer='str', value_deserializer='json'))
    frame.apply(update, stateful=True)
    app.run(count=total, collect=False)
