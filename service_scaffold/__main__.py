"""`python -m service_scaffold`: a service with nothing but a scheduler and an event bus."""

from service_scaffold import events, scheduler, service


def main() -> None:
    """Run a service under the name `service`; it takes every option of a service."""
    app = service.create_app('service')
    scheduler.setup(app)
    events.setup(app)
    service.furnish(app)
    service.run(app)


if __name__ == '__main__':
    main()
