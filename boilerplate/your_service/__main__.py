"""`python -m your_service`: the service, put together from its features."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from service_scaffold import events, scheduler, service

from your_service import api, monitor, simulator


def create_app(raw_args: Sequence[str] | None = None) -> web.Application:
    """Return the whole service, not yet running; `raw_args` default to the command line."""
    parser = service.create_parser('your_service')
    monitor.add_arguments(parser)
    simulator.add_arguments(parser)
    app = service.create_app(parser=parser, raw_args=raw_args)

    # Features start in this order, and stop in reverse.
    scheduler.setup(app)
    events.setup(app)
    monitor.setup(app)
    simulator.setup(app)
    api.setup(app)

    service.furnish(app)
    return app


def main() -> None:
    """Run the service until it is told to stop."""
    service.run(create_app())


if __name__ == '__main__':
    main()
