"""Dead letters that the broker forbids: nothing is lost, the status says why, and it goes on."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest_v1, DeleteAclsRequest_v1

from service_scaffold.journal.base import TopicPartition, TopicSpec
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import Access
from service_scaffold.journal.kafka_protocol import Exactly
from service_scaffold.streams.decision import Decision
from test.brokers.kafka import Kafka
from test.brokers.required import require_broker
from test.streams.several import Crew, SharedLog, until

USER = 'al'
TOPIC, CLUSTER, LITERAL, WRITE, CREATE, DENY = 2, 4, 3, 4, 5, 2


class Guarded(Kafka):
    """A Kafka that asks what its one user may do; whoever comes from inside may do all."""

    def __init__(self) -> None:
        super().__init__(
            user=USER,
            password='right',
            settings={
                'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
                'super.users': 'User:ANONYMOUS',
                'allow.everyone.if.no.acl.found': 'true',
            },
        )

    async def forbid(self, kind: int, name: str, operation: int) -> None:
        """Deny the user something."""
        rule = (kind, name, LITERAL, f'User:{USER}', '*', operation, DENY)
        await self._ask(CreateAclsRequest_v1([rule]))

    async def allow(self, kind: int, name: str, operation: int) -> None:
        """Take that back."""
        rule = (kind, name, LITERAL, f'User:{USER}', '*', operation, DENY)
        await self._ask(DeleteAclsRequest_v1([rule]))

    async def _ask(self, request: object) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=f'{self.host}:{self._internal_port}')
        await admin.start()
        try:
            [*_, answers] = (await admin._client.send(1, Exactly(request))).to_object().values()
            assert all(not answer['error_code'] for answer in answers), answers
        finally:
            await admin.close()


@pytest.fixture(scope='module')
def guarded():
    require_broker(Guarded)
    with Guarded() as broker:
        yield broker


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
@pytest.mark.parametrize('denied', ['write', 'create'])
async def test_a_letter_that_is_forbidden_waits_with_its_event(guarded, unique, guarantee, denied):
    access = Access([(guarded.host, guarded.port)], client_id=unique, user=USER, password='right')
    log = SharedLog(unique, lambda: KafkaJournal(access))
    source, dead = f'{unique}-numbers', f'{unique}-numbers.dlq'
    journal = log.open_journal()
    await journal.connect()
    await journal.create([TopicSpec(source, 2), TopicSpec(f'{unique}-workers', 1)])
    if denied == 'write':
        await journal.create([TopicSpec(dead, 1)])
    rules = [(TOPIC, dead, WRITE)]
    if denied == 'create':  # either would do
        rules = [(TOPIC, dead, CREATE), (CLUSTER, 'kafka-cluster', CREATE)]
    for rule in rules:
        await guarded.forbid(*rule)
    handled, decided = set(), []

    def declare(app):
        def decide(agent, error):
            decided.append(str(error))
            return Decision.DEAD_LETTER

        @app.agent(app.topic(source, value_type=int), on_error=decide)
        async def work(stream):
            async for n in stream:
                if n == 1:
                    raise ValueError(n)
                handled.add(n)

    crew = Crew(log, declare, guarantee=guarantee, registry=False)
    try:
        peer = await crew.join()
        await crew.send('numbers', *[(f'k{n}', b'%d' % n) for n in range(8)])
        found = await until(lambda: peer.worker.health().detail.get('interrupted'), 60)
        assert dead in found
        assert not peer.worker.health().ok
        assert peer.worker.failure is None
        await until(lambda: handled >= {0, 2, 3, 4, 5, 6, 7})

        for rule in rules:
            await guarded.allow(*rule)
        await until(lambda: is_there(journal, dead), 60)
        letters = await records_of(journal, dead)
        assert {letter.value for letter in letters} == {b'1'}
        assert guarantee == 'at_least_once' or len(letters) == 1
        assert set(decided) == {'1'}
    finally:
        await crew.close()
        await journal.close()


async def is_there(journal, topic):
    count = (await journal.partitions([topic]))[topic] or 0
    where = [TopicPartition(topic, number) for number in range(count)]
    return sum((await journal.offsets(where, 'end')).values())


async def records_of(journal, topic):
    count = (await journal.partitions([topic]))[topic]
    reader = await journal.reader()
    await reader.assign({TopicPartition(topic, number): 0 for number in range(count)})
    found = []
    async with asyncio.timeout(20):
        while not found:
            found += await reader.fetch(100, 0.5)
    await reader.close()
    return found
