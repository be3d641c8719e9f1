"""publish_many."""

from bench import meter, service

url, total, topic = meter.arguments()
service.publish(url, total, topic, chunk=2000)
