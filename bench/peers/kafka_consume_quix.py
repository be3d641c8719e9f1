"""A Quix Streams dataframe with one function."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from quixstreams import Application

from bench.meter import Meter, arguments

url, total, topic = arguments()
meter = Meter(total)
app = Application(
    broker_address=url.removeprefix('kafka://'),
    consumer_group=f'{topic}-quix',
    auto_offset_reset='earliest',
    auto_create_topics=False,
    loglevel='ERROR',
)


def handle(message: dict) -> dict:
    meter.hit()
    return message


app.dataframe(app.topic(topic, value_deserializer='json')).apply(handle)
app.run(count=total)
