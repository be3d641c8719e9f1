"""service_scaffold: a scaffold for asyncio services around a message broker.

Import its modules: `from service_scaffold import events, features, service`.
"""

__version__ = '0.1.0'
