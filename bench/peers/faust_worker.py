"""What Faust's sides share: the application, and how it is run."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import faust

from bench.meter import Meter, arguments

COMMIT_S = 0.5

url, total, name = arguments()
meter = Meter(total)
app = faust.App(
    name,
    broker=url,
    datadir=tempfile.mkdtemp(),
    web_enabled=False,
    topic_partitions=4,
    topic_replication_factor=1,
    broker_commit_interval=COMMIT_S,
    consumer_auto_offset_reset='earliest',
    worker_redirect_stdouts=False,
)


def hit() -> None:
    """Count one message; its service takes seconds to stop, which nobody has to wait for."""
    meter.hit()
    end_when_done()


def end_when_done() -> None:
    """End the process as soon as the figures are out."""
    if meter.done.is_set():
        os._exit(0)


def run() -> None:
    """Run the worker."""
    faust.Worker(app, loglevel='error', quiet=True).execute_from_commandline()
