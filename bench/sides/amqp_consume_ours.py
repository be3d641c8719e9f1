"""A group subscription with a typed handler, at least once."""

from bench import meter, service
from service_scaffold import events

url, total, exchange = meter.arguments()
service.consume(url, total, exchange, events.Policy(prefetch=100))
