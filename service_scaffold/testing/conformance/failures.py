"""Handlers that fail, bodies that cannot be read: retries and dead letters."""

from __future__ import annotations

import time

import msgspec

from service_scaffold import events
from service_scaffold.testing.conformance.case import Case
from service_scaffold.testing.conformance.inbox import Inbox, RawInbox
from service_scaffold.testing.conformance.instances import Instance, Instances

QUICK = events.Retry(attempts=3, base_s=0.01)


class Level(msgspec.Struct):
    """What a typed handler declares."""

    litres: float


class Failing(Inbox):
    """A handler that fails for the values it is told to, and keeps each attempt.

    Args:
        errors: Value to the errors of its attempts; after these it succeeds.
    """

    def __init__(self, errors: dict[object, list[Exception]]) -> None:
        super().__init__()
        self._errors = {value: list(reversed(found)) for value, found in errors.items()}

    async def __call__(
        self, subscription: events.EventSubscription, key: str, message: object
    ) -> object:
        """Keep the message, and fail if that is wanted."""
        self.put(key, message)
        if self._errors.get(message):
            raise self._errors[message].pop()
        return None


class Failures(Case):
    """What cannot be handled does not hold up the rest, and is not lost."""

    async def test_a_failed_message_is_tried_again(
        self, instances: Instances, exchange: str
    ) -> None:
        """Three attempts, counted in the envelope; then the next message."""
        instance = await instances.start()
        inbox = Failing({1: [RuntimeError('one'), events.RetryLater(0.01)]})
        policy = events.Policy(retry=QUICK)
        made = await instance.subscribe(exchange, '#', inbox, group='g', policy=policy)

        await instance.publisher.publish_many(exchange, [('tank', n, 'k') for n in (1, 2)])

        attempts = [(one.value, one.message.attempt) for one in await inbox.take(4)]
        assert attempts == [(1, 1), (1, 2), (1, 3), (2, 1)]
        assert (made.stats.retried, made.stats.dead_lettered) == (2, 0)

    async def test_hundreds_of_errors_end_with_everything_handled(
        self, instances: Instances, exchange: str
    ) -> None:
        """Every message fails twice."""
        instance = await instances.start()
        done = Inbox()
        counts: dict[int, int] = {}

        async def handle(subscription: events.EventSubscription, key: str, message: int) -> None:
            counts[message] = counts.get(message, 0) + 1
            if counts[message] < 3:
                raise RuntimeError('again')
            done.put(key, message)

        policy = events.Policy(concurrency=8, retry=events.Retry(base_s=0.001))
        await instance.subscribe(exchange, '#', handle, group='g', policy=policy)
        items = [(f'tank.{n}', n) for n in range(150)]
        await instance.publisher.publish_many(exchange, items)

        await done.take(150)
        assert counts == dict.fromkeys(range(150), 3)

    async def test_a_hopeless_message_becomes_a_dead_letter(
        self, instances: Instances, exchange: str
    ) -> None:
        """After its attempts it is in the store with all facts, under its own routing key."""
        instance = await instances.start()
        letters = await _letters(instance, exchange)
        inbox = Failing({'bad': [RuntimeError('broken pipe')] * 3})
        policy = events.Policy(retry=QUICK)
        made = await instance.subscribe(exchange, '#', inbox, group='g', policy=policy)
        began = time.time()

        await instance.publish(exchange, 'tank.1', 'bad', key='k', headers={'x-colour': 'grün'})
        await instance.publish(exchange, 'tank.2', 'good', key='k')

        letter = await letters.next()
        await inbox.take(4)
        assert inbox.values == ['bad', 'bad', 'bad', 'good']
        assert (letter.key, letter.value) == ('tank.1', b'"bad"')
        assert letter.message.content_type in (None, 'application/json')
        headers = dict(letter.message.headers)
        assert began - 1 <= float(headers.pop('x-death-time')) <= time.time() + 1
        assert headers.pop('x-origin-message-id') == inbox.received[0].message.message_id
        expected = {
            'x-colour': 'grün',
            'x-death-reason': 'retries_exhausted',
            'x-death-error': 'RuntimeError: broken pipe',
            'x-death-attempts': '3',
            'x-origin': exchange,
            'x-origin-routing': 'tank.1',
            'x-origin-group': 'g',
        }
        assert {name: headers.get(name) for name in expected} == expected
        assert made.stats.dead_lettered == 1

    async def test_a_rejected_message_is_not_tried_again(
        self, instances: Instances, exchange: str
    ) -> None:
        """One attempt, reason `rejected`."""
        instance = await instances.start()
        letters = await _letters(instance, exchange)
        inbox = Failing({1: [events.Reject('never')]})
        await instance.subscribe(exchange, '#', inbox, group='g')

        await instance.publisher.publish_many(exchange, [('tank', n, 'k') for n in (1, 2)])

        letter = await letters.next()
        await inbox.take(2)
        assert inbox.values == [1, 2]
        assert letter.message.headers['x-death-reason'] == 'rejected'
        assert letter.message.headers['x-death-error'] == 'Reject: never'

    async def test_a_body_that_cannot_be_decoded_becomes_a_dead_letter(
        self, instances: Instances, exchange: str
    ) -> None:
        """The handler never sees it; the store has it byte for byte."""
        instance = await instances.start()
        letters = await _letters(instance, exchange)
        inbox = Inbox()
        await instance.subscribe(exchange, '#', inbox, group='g')
        body = b'{"a":\xff\x00'

        await instance.publish(exchange, 'tank', body, content_type='application/json', key='k')
        await instance.publish(exchange, 'tank', 'good', key='k')

        letter = await letters.next()
        assert (await inbox.next()).value == 'good'
        assert len(inbox.received) == 1
        assert (letter.key, letter.value) == ('tank', body)
        assert letter.message.headers['x-death-reason'] == 'undecodable'
        assert letter.message.headers['x-death-attempts'] == '0'

    async def test_an_invalid_body_becomes_a_dead_letter_that_names_the_field(
        self, instances: Instances, exchange: str
    ) -> None:
        """It is JSON, but not what the handler declares."""
        instance = await instances.start()
        letters = await _letters(instance, exchange)
        inbox = Inbox()

        async def handle(subscription: events.EventSubscription, key: str, message: Level) -> None:
            inbox.put(key, message)

        await instance.subscribe(exchange, '#', handle, group='g')
        await instance.publish(exchange, 'tank', {'litres': 'many'}, key='k')
        await instance.publish(exchange, 'tank', {'litres': 3}, key='k')

        letter = await letters.next()
        assert (await inbox.next()).value == Level(3.0)
        assert letter.message.headers['x-death-reason'] == 'invalid'
        assert '$.litres' in letter.message.headers['x-death-error']

    async def test_an_attempt_that_takes_too_long_has_failed(
        self, instances: Instances, exchange: str
    ) -> None:
        """`timeout_s` is for one attempt."""
        instance = await instances.start()
        letters = await _letters(instance, exchange)
        gate = Inbox()
        never = events.Policy(timeout_s=0.05, retry=events.Retry(attempts=2, base_s=0.01))

        async def hang(subscription: events.EventSubscription, key: str, message: object) -> None:
            gate.put(key, message)
            await Inbox().next(60)

        await instance.subscribe(exchange, '#', hang, group='g', policy=never)
        await instance.publish(exchange, 'tank', 1)

        letter = await letters.next()
        assert letter.message.headers['x-death-error'].startswith('TimeoutError')
        assert gate.values == [1, 1]

    async def test_without_a_store_it_is_dropped_and_counted(
        self, instances: Instances, exchange: str
    ) -> None:
        """`dead_letter=False`: acked, and the next message comes."""
        instance = await instances.start()
        inbox = Failing({1: [events.Reject('never')]})
        policy = events.Policy(dead_letter=False)
        made = await instance.subscribe(exchange, '#', inbox, group='g', policy=policy)

        await instance.publisher.publish_many(exchange, [('tank', n, 'k') for n in (1, 2)])

        await inbox.take(2)
        assert (made.stats.dropped, made.stats.dead_lettered) == (1, 0)

    async def test_acking_before_the_handler_means_at_most_once(
        self, instances: Instances, exchange: str
    ) -> None:
        """`ack='before'`: what a stopped instance had begun does not come again."""
        other = await instances.start()
        worker = await instances.start('worker', shutdown_timeout_s=0.5)
        begun, after = Inbox(), Inbox()

        async def hang(subscription: events.EventSubscription, key: str, message: object) -> None:
            begun.put(key, message)
            await Inbox().next(60)

        policy = events.Policy(ack='before')
        await worker.subscribe(exchange, '#', hang, group='g', policy=policy)
        await other.publish(exchange, 'tank', 1, key='k')
        await begun.next()
        await worker.stop()

        again = await instances.start('worker')
        await again.subscribe(exchange, '#', after, group='g', policy=policy)
        await other.publish(exchange, 'tank', 2, key='k')

        assert (await after.next()).value == 2

    async def test_a_replay_goes_to_its_group_only(
        self, instances: Instances, exchange: str
    ) -> None:
        """Other groups and live views skip what has `x-replay-group`."""
        instance = await instances.start()
        mine, other, view = Inbox(), Inbox(), Inbox()
        await instance.subscribe(exchange, '#', mine, group='mine')
        await instance.subscribe(exchange, '#', other, group='other')
        await instance.subscribe(exchange, '#', view)

        headers = {'x-replay-group': 'mine'}
        await instance.publish(exchange, 'tank', 1, key='k', headers=headers)
        await instance.publish(exchange, 'tank', 2, key='k')

        await mine.take(2)
        assert mine.values == [1, 2]
        assert ((await other.next()).value, (await view.next()).value) == (2, 2)


async def _letters(instance: Instance, exchange: str) -> RawInbox:
    """Subscribe to the dead letters as anybody may."""
    letters = RawInbox()
    await instance.subscribe(f'{exchange}.dlq', '#', letters)
    return letters
