"""Functions on one bus: who receives, who answers, who fails alone, and when all is done."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from service_scaffold import apps, errors, events, features
from service_scaffold.apps import MemoryConfig, TopicMessage, TopicSocket
from test.apps.plants import bus_of, plant, started, until
from test.running import get

ONCE = events.Policy(retry=events.Retry(attempts=1))


# Receiving


async def test_a_message_comes_to_every_function_that_wants_it():
    app, seen = plant(), []

    @app.application(['tanks/*/level', 'pumps'])
    async def watch(message):
        seen.append(('watch', message.topic))

    @app.application('tanks')
    async def store(message):
        seen.append(('store', message.topic))

    async with started(app) as socket:
        await socket.publish('tanks/north/level', 1)
        await socket.publish('tanks', 2)
        await socket.publish('pumps/east', 3)
        await until(lambda: len(seen) == 4)

    assert sorted(seen) == [
        ('store', 'tanks'),
        ('store', 'tanks/north/level'),
        ('watch', 'pumps/east'),
        ('watch', 'tanks/north/level'),
    ]


async def test_a_message_that_two_topics_of_a_function_match_comes_once():
    app, seen = plant(), []

    @app.application(['tanks/north/*', 'tanks/*/level'])
    async def watch(message):
        seen.append(message.value)
        return 'seen'

    async with started(app) as socket:
        for number in range(5):
            assert (await socket.request('tanks/north/level', number)).value == 'seen'

    assert seen == [0, 1, 2, 3, 4]


async def test_instances_share_the_work(unique):
    seen: list[tuple[str, int]] = []

    def instance(name):
        app = plant(eventbus_url=f'memory://{unique}', instance=name)

        @app.application('q')
        async def take(message):
            seen.append((name, message.value))
            await asyncio.sleep(0.01)

        return app

    async with started(instance('a')) as socket, started(instance('b')):
        for number in range(20):
            await socket.publish('q', number)
        await until(lambda: len(seen) == 20)

    assert sorted(value for _, value in seen) == list(range(20))
    assert {name for name, _ in seen} == {'a', 'b'}


async def test_the_group_is_that_of_the_function_unless_it_has_another():
    app = plant()

    @app.application('q')
    async def take(message): ...

    @app.application('q', group='mine')
    async def keep(message): ...

    @app.application('q', name='third')
    async def store(message): ...

    async with started(app):
        listener = events.get_listener(app.application)
        assert set(listener.consumers) == {('q', 'plant.take'), ('q', 'mine'), ('q', 'plant.third')}


async def test_flags_count_for_names_and_bus(monkeypatch, unique):
    app = plant()
    monkeypatch.setattr(
        'sys.argv', ['plant', '--name', 'mill', '--eventbus-url', f'memory://{unique}']
    )
    groups = []

    @app.application('q')
    async def take(message):
        groups.extend(events.get_listener(app.application).consumers)

    @app.producer()
    async def send(socket, app):
        await socket.publish('q', 1)
        await until(lambda: groups)
        await app.stop()

    await asyncio.to_thread(app.start)

    assert groups == [('q', 'mill.take')]


async def test_a_policy_decides(caplog):
    app, seen = plant(), []

    @app.application('q', policy=events.Policy(retry=events.Retry(attempts=2, base_s=0)))
    async def take(message):
        seen.append(message.envelope.attempt)
        raise ValueError('no')

    async with started(app) as socket:
        await socket.publish('q', 1)
        await until(lambda: bus_of(app).dead_letters('q'))

    assert seen == [1, 2]
    assert bus_of(app).dead_letters('q')[0].headers['x-death-reason'] == 'retries_exhausted'


# T22


async def test_what_cannot_be_handled_disturbs_nobody(caplog):
    """Malformed bytes, a wrong shape, a handler that raises; then the good ones."""
    app, good, other = plant(), [], []

    @app.application('q', policy=ONCE)
    async def take(message: TopicMessage[dict[str, int]]):
        if message.value['n'] < 0:
            raise ValueError('negative')
        good.append(message.value['n'])

    @app.application('q', policy=ONCE, name='other')
    async def hear(message):
        other.append(message.value)

    async with started(app) as socket:
        await socket.publish('q/a', b'{', content_type='application/json')
        await socket.publish('q/b', {'n': 'many'})
        await socket.publish('q/c', {'n': -1})
        for number in range(3):
            await socket.publish('q/d', {'n': number})
        await until(lambda: len(good) == 3 and len(other) == 5)
        letters = bus_of(app).dead_letters('q')
        stats = {s.group: s.stats for s in events.get_listener(app.application).subscriptions}

    reasons = [
        (letter.headers['x-death-reason'], letter.headers['x-origin-routing'])
        for letter in letters
        if letter.headers['x-origin-group'] == 'plant.take'
    ]
    assert reasons == [('undecodable', 'a'), ('invalid', 'b'), ('retries_exhausted', 'c')]
    assert good == [0, 1, 2]
    assert stats['plant.take'].dead_lettered == 3
    assert 'group=plant.take' in caplog.text


# Asking


async def test_what_is_returned_is_the_answer():
    app = plant()

    @app.application('double')
    async def double(message):
        return message.value * 2

    async with started(app) as socket:
        answer = await socket.request('double', 4)

    assert (answer.value, answer.payload, answer.topic) == (8, b'8', 'double')
    assert answer.content_type == 'application/json'


async def test_none_is_no_answer_and_what_the_requester_sees():
    app, seen = plant(), []

    @app.application('q')
    async def take(message):
        seen.append(message.value)

    async with started(app) as socket:
        with pytest.raises(TimeoutError, match=r'No answer to q/ within 0\.1 s'):
            await socket.request('q', 1, timeout_s=0.1)
        assert await socket.request('q', 2, timeout_s=0.1, default=None) is None

    assert seen == [1, 2]


async def test_falsy_answers_are_answers():
    app = plant()

    @app.application('q')
    async def take(message):
        return message.value

    async with started(app) as socket:
        for value in (0, False, '', [], {}):
            assert (await socket.request('q', value)).value == value


async def test_nobody_can_answer():
    app = plant()
    async with started(app) as socket:
        with pytest.raises(errors.NoResponder):
            await socket.request('q', 1)
        assert await socket.request('q', 1, default='none') == 'none'


async def test_an_error_of_the_responder_is_raised_even_with_a_default():
    app = plant()

    @app.application('q', policy=ONCE)
    async def take(message):
        raise ValueError('no')

    async with started(app) as socket:
        with pytest.raises(errors.RemoteError, match='ValueError: no'):
            await socket.request('q', 1, default=None)


async def test_a_function_asks_another_while_it_handles():
    app = plant()

    @app.application('outer')
    async def outer(message, socket):
        return (await socket.request('inner', message.value)).value + 1

    @app.application('inner')
    async def inner(message):
        return message.value * 10

    async with started(app) as socket:
        assert (await socket.request('outer', 4)).value == 41


async def test_an_answer_may_be_published_to_where_it_is_expected():
    """As in the source: at once, while the function goes on."""
    app = plant()
    go_on = asyncio.Event()

    @app.application('q')
    async def take(message, socket, message_builder):
        await socket.publish(message_builder(topic=message.reply_to, payload='now'))
        await go_on.wait()

    async with started(app) as socket:
        assert (await socket.request('q', 1)).value == 'now'
        go_on.set()


async def test_what_is_no_request_cannot_be_answered_so():
    app, failures = plant(), []

    @app.application('q', policy=ONCE)
    async def take(message, socket):
        try:
            await socket.publish(message.reply_to, 'now')
        except ValueError as error:
            failures.append(str(error))

    async with started(app) as socket:
        await socket.publish('q', 1)
        await until(lambda: failures)

    assert 'nobody waits for an answer' in failures[0]


async def test_a_built_message_names_who_sends_it():
    app, seen = plant(instance='one'), []

    @app.application('q')
    async def take(message, message_builder):
        seen.append((message.client_name, message.client_id, message.value, message.headers['a']))
        return message_builder('ignored', {'x': 1}, content_type='application/msgpack')

    @app.producer()
    async def send(socket, message_builder):
        answer = await socket.request(message_builder('q', [1], headers={'a': 'b'}))
        seen.append((answer.content_type, answer.value))

    async with started(app):
        await until(lambda: len(seen) == 2)

    assert seen == [('plant', 'one', [1], 'b'), ('application/msgpack', {'x': 1})]


@pytest.mark.parametrize('kind', ['json', 'msgpack', 'yaml', 'toml'])
async def test_values_may_be_encoded_otherwise(kind):
    app, seen = plant(content_type=f'application/{kind}'), []

    @app.application('q')
    async def take(message):
        seen.append((message.content_type, message.value))
        return {'answer': 1}

    @app.producer()
    async def ask(socket, message_builder):
        for request in (('q', {'question': 1}), (message_builder('q', {'question': 1}),)):
            answer = await socket.request(*request)
            seen.append((answer.content_type, answer.value))

    async with started(app):
        await until(lambda: len(seen) == 4)

    assert seen == 2 * [
        (f'application/{kind}', {'question': 1}),
        (f'application/{kind}', {'answer': 1}),
    ]


# Subscribing


async def test_a_function_subscribes_to_more_and_less():
    app, seen = plant(), []

    @app.application('control')
    async def take(message, socket):
        if message.topic == 'control/more':
            await socket.subscribe(message.value)
        elif message.topic == 'control/less':
            await socket.unsubscribe(message.value)
        seen.append(message.topic)
        return 'done'

    async with started(app) as socket:
        await socket.request('control/more', 'data/a')
        assert (await socket.request('data/a', 1)).value == 'done'
        await socket.request('control/less', 'data/a')
        listener = events.get_listener(app.application)
        assert [s.exchange_name for s in listener.subscriptions] == ['control']

    assert seen == ['control/more', 'data/a', 'control/less']


async def test_a_producer_subscribes_with_a_callback():
    app, seen = plant(), []

    @app.producer()
    async def send(socket):
        async def hear(message, socket):
            seen.append(message.value)

        with pytest.raises(TypeError, match='no receiver'):
            await socket.subscribe('q')
        await socket.subscribe('q', hear)
        await socket.publish('q', 1)
        await until(lambda: seen)
        await socket.unsubscribe('q')
        with pytest.raises(ValueError, match='not subscribed'):
            await socket.unsubscribe('q')
        seen.append('end')

    async with started(app):
        await until(lambda: 'end' in seen)

    assert seen == [1, 'end']
    assert app.functions['send'].error is None


# Producing


async def test_producers_begin_when_the_others_can_hear_them():
    app, seen = plant(), []

    @app.producer()
    async def send(socket):
        await socket.publish('q', 'the very first')

    @app.application('q')
    async def take(message):
        seen.append(message.value)

    bus_of(app).down()
    running = asyncio.ensure_future(app.run_async())
    await until(lambda: features.get_lifecycle(app.application).state == 'running')
    assert app.functions['send'].state == 'waiting'
    bus_of(app).up()
    await until(lambda: seen)
    await app.stop()

    assert await running == 0
    assert seen == ['the very first']


async def test_a_failing_producer_leaves_its_siblings_and_shows_in_the_status(caplog):
    app, seen = plant(), []

    @app.producer()
    async def bad():
        raise ValueError('out of ink')

    @app.producer()
    async def good(socket):
        await until(lambda: app.functions['bad'].state == 'failed')
        await socket.publish('q', 1)

    @app.application('q')
    async def take(message):
        seen.append(message.value)

    running = asyncio.ensure_future(app.run_async())
    await until(lambda: seen)
    assert not app.health().ok
    assert app.health().ready
    assert app.health().detail == {'bad': 'failed: out of ink', 'good': 'ended', 'take': 'running'}
    await app.stop()

    assert await running == 1
    assert caplog.text.count('bad failed') == 1
    assert 'out of ink' in caplog.text


async def test_a_producer_whose_wait_was_cancelled_has_failed():
    app = plant()

    @app.producer()
    async def send():
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    running = asyncio.ensure_future(app.run_async())
    await until(lambda: app.functions['send'].state == 'failed')
    await app.stop()

    assert await running == 1


# Being done


async def test_done_is_when_what_producers_sent_is_handled_through_all_stages():
    app, handled = plant(exit_when_done=True), []

    @app.producer()
    async def send(socket):
        for number in range(20):
            await socket.publish('first', number)
        await socket.publish('nobody/hears', 'this')

    @app.application('first')
    async def first(message, socket):
        await asyncio.sleep(0.005)
        await socket.publish('second', message.value)

    @app.application('second', policy=events.Policy(concurrency=4))
    async def second(message):
        await asyncio.sleep(0.02)
        handled.append(message.value)

    assert await asyncio.wait_for(app.run_async(), 20) == 0
    assert sorted(handled) == list(range(20))


def test_it_may_be_done_more_than_once():
    """In an event loop of its own each time."""
    app, handled = plant(exit_when_done=True), []

    @app.producer()
    async def send(socket):
        await socket.publish('q', 1)

    @app.application('q')
    async def take(message):
        await asyncio.sleep(0.05)
        handled.append(message.value)

    for _ in range(2):
        assert asyncio.run(asyncio.wait_for(app.run_async(), 20)) == 0

    assert handled == [1, 1]


async def test_it_is_not_done_before_those_that_wait_for_a_resource_have_heard():
    app, handled, failing = plant(exit_when_done=True), [], [OSError('no database yet')]

    @contextlib.asynccontextmanager
    async def database():
        while failing:
            raise failing.pop()
        yield

    @app.application('q', resources={'db': database})
    async def take(message):
        handled.append(message.value)

    @app.producer()
    async def send(socket):
        await socket.publish('q', 1)

    assert await asyncio.wait_for(app.run_async(), 20) == 0
    assert handled == [1]


async def test_dead_letters_are_done():
    app, tries = plant(exit_when_done=True), []

    @app.producer()
    async def send(socket):
        await socket.publish('q', b'{', content_type='application/json')
        await socket.publish('q', 1)

    @app.application('q', policy=events.Policy(retry=events.Retry(attempts=3, base_s=0.01)))
    async def take(message):
        tries.append(1)
        raise ValueError('no')

    assert await asyncio.wait_for(app.run_async(), 20) == 0
    assert len(tries) == 3


async def test_it_is_done_for_every_function_that_is_to_handle_it():
    """Once, also where two topics match; what one sends at its very end is handled, too."""
    app, handled = plant(exit_when_done=True), []

    @app.producer()
    async def send(socket):
        await socket.publish('q/a/b', 1)

    @app.application('q')
    async def quick(message):
        handled.append('quick')

    @app.application(['q/a/*', 'q/*/b'])
    async def slow(message, socket):
        await asyncio.sleep(0.2)
        handled.append('slow')
        await socket.publish('last', 1)

    @app.application('last')
    async def last(message):
        handled.append('last')

    assert await asyncio.wait_for(app.run_async(), 20) == 0
    assert handled == ['quick', 'slow', 'last']


async def test_done_after_a_failing_producer_is_status_1():
    app, seen = plant(exit_when_done=True), []

    @app.producer()
    async def good(socket):
        await socket.publish('q', 1)

    @app.producer()
    async def bad():
        raise ValueError('no')

    @app.application('q')
    async def take(message):
        seen.append(message.value)

    assert await asyncio.wait_for(app.run_async(), 20) == 1
    assert seen == [1]


async def test_what_another_instance_takes_is_not_waited_for_for_ever(monkeypatch, unique):
    monkeypatch.setattr('service_scaffold.apps.distributed.ledger.QUIET_S', 0.2)
    seen: list[str] = []

    def instance(name, **keywords):
        app = plant(eventbus_url=f'memory://{unique}', instance=name, **keywords)

        @app.application('q')
        async def take(message):
            seen.append(name)
            await asyncio.sleep(0.01)

        return app

    batch = instance('batch', exit_when_done=True)

    @batch.producer()
    async def send(socket):
        for number in range(10):
            await socket.publish('q', number)

    async with started(instance('other')):
        assert await asyncio.wait_for(batch.run_async(), 20) == 0

    assert set(seen) == {'batch', 'other'}
    assert len(seen) == 10


async def test_without_a_producer_nothing_would_ever_be_done():
    app = plant(exit_when_done=True)
    app.add_application(print, 'q')

    with pytest.raises(errors.ConfigError, match='needs a producer'):
        await app.run_async()


async def test_producers_that_end_end_nothing_by_themselves():
    app, ended = plant(), []

    @app.producer()
    async def send():
        ended.append(1)

    @app.application('q')
    async def take(message):
        return 'still there'

    async with started(app) as socket:
        await until(lambda: app.functions['send'].state == 'ended')
        assert (await socket.request('q', 1)).value == 'still there'


# The object


def test_it_may_be_started_in_another_loop():
    app, seen = plant(), []

    @app.application('q', resources={'lock': asyncio.Lock})
    async def take(message, lock):
        seen.append(message.value)

    @app.producer()
    async def send(socket):
        await socket.publish('q', len(seen))

    async def once():
        async with started(app):
            count = len(seen)
            await until(lambda: len(seen) > count)

    for _ in range(2):
        asyncio.run(once())

    assert seen == [0, 1]


@pytest.mark.parametrize('timeout_s', [None, 5])
async def test_whatever_a_function_raises_is_settled_by_its_policy(timeout_s):
    """Also what is no Exception, as `pytest.fail` raises; what comes next is handled."""
    app, seen = plant(), []

    class Outcome(BaseException): ...

    @app.application('q', policy=events.Policy(retry=ONCE.retry, timeout_s=timeout_s))
    async def take(message):
        seen.append(message.value)
        if message.value == 0:
            raise Outcome('no')

    async with started(app) as socket:
        with pytest.raises(errors.RemoteError, match='raised Outcome'):
            await socket.request('q', 0)
        await socket.publish('q', 1)
        await socket.publish('q', 0)
        await socket.publish('q', 2)
        await until(lambda: 2 in seen, 5)

    assert seen == [0, 1, 0, 2]


async def test_what_is_declared_after_the_start_is_refused():
    app = plant()

    async with started(app):
        with pytest.raises(RuntimeError, match="'late' comes too late"):

            @app.application('q')
            async def late(message): ...

    assert not app.functions


async def test_a_function_may_stop_it():
    app, told = plant(), []

    @app.application('q')
    async def take(message, app):
        await app.stop()
        told.append(message.value)

    await app.start_async()
    await TopicSocket(app.application).publish('q', 1)
    await until(lambda: told)
    await asyncio.wait_for(app.stop(), 5)

    assert told == [1]


def test_the_bus_may_be_a_configuration(unique):
    app = plant(eventbus_url=MemoryConfig(bus=unique, content_type='application/msgpack'))

    assert app.config['eventbus_url'] == f'memory://{unique}'
    assert app.config['content_type'] == 'application/msgpack'


async def test_a_content_type_that_nobody_knows_is_refused_at_the_start():
    with pytest.raises(errors.ConfigError, match='application/jsn'):
        await plant(content_type='application/jsn').start_async()


async def test_a_message_without_a_content_type_is_json():
    app, seen = plant(content_type='application/msgpack'), []

    @app.application('q')
    async def take(message):
        seen.append(message.value)
        return TopicMessage('anywhere', b'[2]', [2])

    async with started(app) as socket:
        message = TopicMessage('q', b'{"n": 1}', {'n': 1})
        await socket.publish(message)
        assert (await socket.request(message)).value == [2]

    assert seen == [{'n': 1}] * 2


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="'exit_when_don'; did you mean 'exit_when_done'"):
        plant(exit_when_don=True)


async def test_it_is_furnished_under_its_name_and_tells_how_its_functions_are():
    app = plant('mill')

    @app.application('q')
    async def take(message): ...

    await app.start_async()
    try:
        host, port = app.address
        assert await get(f'http://{host}:{port}/mill/_service/status') == (200, '{"status": "ok"}')
        status, text = await get(f'http://{host}:{port}/_service/metrics')
        assert status == 200
        assert 'plant' in text or 'mill' in text
    finally:
        await app.stop()


async def test_features_are_found_by_its_application():
    app = plant()

    assert features.get(app.application, events.EventPublisher)
    async with started(app):
        assert isinstance(TopicSocket(app.application), TopicSocket)


def test_it_has_a_name_of_its_own_for_each_part():
    for name in apps.__all__:
        assert getattr(apps, name) is not None
