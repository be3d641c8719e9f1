"""A group subscription with a typed handler, at least once."""

from bench import meter, service
from service_scaffold import events

url, total, topic = meter.arguments()
service.consume(url, total, topic, events.Policy(prefetch=1000, start='first'))
