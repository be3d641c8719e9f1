"""Private brokers for tests and benchmarks: RabbitMQ, Kafka, Mosquitto, and a proxy to break them.

Each class starts one process of its own on free ports of the loopback interface, with its data in
a temporary directory, and never touches a process that it has not started. `scripts/brokers`
installs what they need; `python -m test.brokers kafka` starts one by hand.
"""
