"""What travels: bodies of any type, headers, envelopes."""

from __future__ import annotations

import random
import time

import pytest

from service_scaffold import events
from service_scaffold.testing.conformance.case import Case
from service_scaffold.testing.conformance.inbox import Inbox, RawInbox
from service_scaffold.testing.conformance.instances import Instances

JSON = 'application/json'
BINARY = 'application/octet-stream'
VALUE = {'größe': [1, 2.5, None, True, '\N{SNOWMAN}'], '': {}}
BODIES = {
    'empty': b'',
    'zeros': bytes(100),
    'every byte': bytes(range(256)),
    '1 MB': random.Random(1).randbytes(1_000_000),
}


class Bodies(Case):
    """Nothing is added to a body, and nothing is lost."""

    @pytest.mark.parametrize('group', [None, 'g'], ids=['view', 'group'])
    async def test_bytes_arrive_as_they_are(
        self, instances: Instances, exchange: str, group: str | None
    ) -> None:
        """Empty ones and large ones, too."""
        instance = await instances.start()
        inbox = RawInbox()
        await instance.subscribe(exchange, '#', inbox, group=group)

        for body in BODIES.values():
            await instance.publish(exchange, 'tank', body, key='k')

        for name, body in BODIES.items():
            one = await inbox.next()
            assert one.value == body, name
            assert one.message.content_type == BINARY

    @pytest.mark.parametrize(
        ('content_type', 'value'),
        [
            (None, VALUE),
            ('application/json', VALUE),
            ('application/msgpack', VALUE),
            ('text/plain', 'größe \N{SNOWMAN}'),
            ('text/plain', ''),
        ],
    )
    async def test_values_arrive_under_each_content_type(
        self, instances: Instances, exchange: str, content_type: str | None, value: object
    ) -> None:
        """The consumer decodes by the message's content type."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, '#', inbox)

        await instance.publish(exchange, 'tank', value, content_type=content_type)

        one = await inbox.next()
        assert one.value == value
        assert (one.message.content_type or JSON) == (content_type or JSON)

    async def test_a_foreign_content_type_reaches_a_handler_of_bytes(
        self, instances: Instances, exchange: str
    ) -> None:
        """Nothing is registered for it; who wants bytes gets them."""
        instance = await instances.start()
        inbox = RawInbox()
        await instance.subscribe(exchange, '#', inbox, group='g')

        await instance.publish(exchange, 'tank', b'\x89PNG', content_type='image/png')

        one = await inbox.next()
        assert (one.value, one.message.content_type) == (b'\x89PNG', 'image/png')

    async def test_bytes_of_a_foreign_client_are_decoded_by_their_type(
        self, instances: Instances, exchange: str
    ) -> None:
        """Spacing, parameters of the type, another format: as others write them."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, '#', inbox, group='g')
        foreign = {
            'application/json; charset=utf-8': b' {"a" : [1,\n2]} ',
            'application/toml': b'a = [1, 2]',
            'application/msgpack': b'\x81\xa1a\x92\x01\x02',
        }

        for content_type, body in foreign.items():
            await instance.publish(exchange, 'tank', body, content_type=content_type, key='k')

        assert [one.value for one in await inbox.take(3)] == [{'a': [1, 2]}] * 3

    async def test_the_envelope_arrives(self, instances: Instances, exchange: str) -> None:
        """Headers, key, id and time, in whatever characters."""
        instance = await instances.start()
        view, group = Inbox(), Inbox()
        await instance.subscribe(exchange, '#', view)
        await instance.subscribe(exchange, '#', group, group='g')
        headers = {'x-colour': 'grün', 'x-empty': '', 'x-long': 'x' * 2000, 'X-Case': 'Kept'}
        began = time.time()

        await instance.publish(exchange, 'tänk.level', 1, key='klüc', headers=headers)

        for inbox in (view, group):
            one = await inbox.next()
            message = one.message
            assert (one.key, message.routing, message.exchange) == (
                'tänk.level',
                'tänk.level',
                exchange,
            )
            assert (message.key, message.attempt) == ('klüc', 1)
            assert {name: message.headers.get(name) for name in headers} == headers
            assert began - 1 <= message.timestamp <= time.time() + 1
            assert message.reply_to is None
        assert view.received[0].message.message_id == group.received[0].message.message_id

    async def test_without_a_key_the_routing_is_the_key(
        self, instances: Instances, exchange: str
    ) -> None:
        """And every message has an id of its own."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, '#', inbox, group='g')

        await instance.publisher.publish_many(exchange, [('tank.level', n) for n in range(3)])

        messages = [one.message for one in await inbox.take(3)]
        assert {message.key for message in messages} == {'tank.level'}
        assert len({message.message_id for message in messages}) == 3

    async def test_the_envelope_is_there_inside_the_handler_only(
        self, instances: Instances, exchange: str
    ) -> None:
        """Each of two handlers sees its own message, also after a pause."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, '#', inbox, group='g')
        await instance.publish(exchange, 'tank', 1)
        await inbox.next()

        with pytest.raises(LookupError):
            events.current_message()
