"""Dead-letter stores of real brokers that refuse, until they are opened."""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from service_scaffold import events
from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker


class Store(ABC):
    """The dead-letter store of one exchange on a broker of which all else works.

    Attributes:
        broker: Where it is.
        options: What instances are started with.
        reading: How to subscribe to see the letters that are there.
        hangs_up: The broker ends the connection of whoever it has refused.
        same_instance: What an instance had not settled comes back to its name only.
    """

    broker: Broker
    options: Mapping[str, str] = {}
    reading: Mapping[str, Any] = {}
    hangs_up = False
    same_instance = False

    @abstractmethod
    async def open(self) -> None:
        """Accept dead letters from now on."""

    @abstractmethod
    async def settled(self) -> int:
        """Return how many messages the group `g` has settled, as the broker knows it."""

    @abstractmethod
    def close(self) -> None:
        """End what was made for it."""


class KafkaStore(Store):
    """A topic that refuses every record, or that is missing and not to be created.

    Args:
        missing: There is no such topic, and instances do not create topics. Else it is there
            and takes no record that is as large as a letter.
    """

    def __init__(self, broker: Kafka, exchange: str, *, missing: bool) -> None:
        self.broker = broker
        self.options = {'eventbus_declare': 'passive'} if missing else {}
        self.reading = {'group': 'r', 'policy': events.Policy(start='first')}
        self._bootstrap = broker.bootstrap
        self._exchange = exchange
        self._missing = missing

    async def make(self) -> None:
        """Create the topics of the exchange, with one partition each, and of its letters."""
        topics = [NewTopic(self._exchange + more, 1, 1) for more in ('', '.out', '.ping')]
        if not self._missing:
            small = {'max.message.bytes': '100'}
            topics.append(NewTopic(f'{self._exchange}.dlq', 1, 1, topic_configs=small))
        async with self._admin() as admin:
            await admin.create_topics(topics)

    async def open(self) -> None:
        name = f'{self._exchange}.dlq'
        async with self._admin() as admin:
            if self._missing:
                await admin.create_topics([NewTopic(name, 1, 1)])
            else:  # what is not named gets its default
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {})])

    async def settled(self) -> int:
        async with self._admin() as admin:
            offsets = await admin.list_consumer_group_offsets(f'g@{self._exchange}')
        return int(offsets[TopicPartition(self._exchange, 0)].offset)

    def close(self) -> None:
        """Leave the topics; the broker is the session's."""

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()


class MosquittoStore(Store):
    """A Mosquitto of its own whose access list lets everybody only read the dead letters.

    Args:
        hangs_up: With `max_queued_messages 0`, Mosquitto 2.0.11 answers a publish that it denies
            and then ends the connection.
    """

    same_instance = True

    def __init__(self, exchange: str, *, hangs_up: bool) -> None:
        self.hangs_up = hangs_up
        self._exchange = exchange
        self.broker: Mosquitto = Mosquitto(
            settings={
                'acl_file': 'access',
                'log_dest': 'stderr',  # which is not buffered
                'log_type': 'all',
                'max_queued_messages': '0' if hangs_up else '1000',
            }
        )
        self._write(
            f'topic readwrite {exchange}/#',
            f'topic readwrite {exchange}.out/#',
            f'topic readwrite {exchange}.ping/#',
            f'topic readwrite s{exchange}.sessions/#',
            f'topic read {exchange}.dlq/#',
        )
        self.broker.start()

    def _write(self, *lines: str) -> None:
        (self.broker.directory / 'access').write_text('\n'.join(lines) + '\n')

    async def open(self) -> None:
        self._write('topic readwrite #')
        self.broker.reload()

    async def settled(self) -> int:
        return self._logged(rf'Received PUBACK from \S+\.g@{self._exchange} ')

    def denied(self) -> int:
        """Return how many letters were denied."""
        return self._logged(rf"Denied PUBLISH .*'{self._exchange}\.dlq/")

    def _logged(self, pattern: str) -> int:
        return len(re.findall(pattern, self.broker.log.read_text()))

    def close(self) -> None:
        self.broker.close()
