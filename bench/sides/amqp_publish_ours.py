"""publish_many, confirmed."""

from bench import meter, service

url, total, exchange = meter.arguments()
service.publish(url, total, exchange, chunk=500)
