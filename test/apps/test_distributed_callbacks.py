"""Functions are given what they declare, by name; what nobody gives is said where it stands."""

from __future__ import annotations

import functools
import threading

import pytest
from aiohttp import web

from service_scaffold.apps import DistributedApplication, MessageBuilder, TopicMessage, TopicSocket
from service_scaffold.apps.distributed.callback import RECEIVER_NAMES, Callback
from test.apps.plants import plant, started, until


async def test_every_name_is_given():
    app = plant()
    seen = {}

    @app.application('q', state='mine', resources={'db': Database})
    async def take(message, socket, publisher, message_builder, state, app, db):
        seen.update(locals())

    async with started(app) as socket:
        await socket.publish('q', 3, headers={'a': 'b'})
        await until(lambda: seen)

    assert isinstance(seen['message'], TopicMessage)
    assert isinstance(seen['socket'], TopicSocket)
    assert seen['publisher'] is seen['socket']
    assert isinstance(seen['message_builder'], MessageBuilder)
    assert (seen['state'], seen['db']) == ('mine', 'entered')
    assert seen['app'] is app


class Database:
    async def __aenter__(self):
        return 'entered'

    async def __aexit__(self, *facts):
        pass


async def test_a_message_has_what_came():
    app = plant()
    seen: list[TopicMessage] = []

    @app.application('q/#')
    async def take(message):
        seen.append(message)
        return 1

    async with started(app) as socket:
        await socket.publish('q/a/b', {'x': 1}, headers={'a': 'b'}, key='k')
        await socket.publish('q', b'\x00')
        await socket.request('q', 'text')
        await until(lambda: len(seen) == 3)

    first, second, third = seen
    assert (first.topic, first.payload, first.value) == ('q/a/b', b'{"x":1}', {'x': 1})
    assert (first.headers['a'], first.key, first.reply_to) == ('b', 'k', None)
    assert first.envelope is not None
    assert abs(first.timestamp - third.timestamp) < 60
    assert (second.topic, second.value) == ('q', b'\x00')
    assert second.content_type == 'application/octet-stream'
    assert third.value == 'text'
    assert third.reply_to
    assert third.correlation_id


def test_only_what_is_declared_is_given():
    def take(message, *rest, extra=3, **more): ...

    assert Callback(take, RECEIVER_NAMES).names == ('message',)


def test_what_nobody_gives_is_refused_where_it_stands_with_the_nearest():
    app = plant()
    with pytest.raises(TypeError, match=r"take declares 'mesage', .*did you mean 'message'"):

        @app.application('q')
        async def take(mesage): ...

    with pytest.raises(TypeError, match=r"declares 'db'.*nothing"):

        @app.application('q')
        async def store(message, db): ...

    with pytest.raises(TypeError, match=r"'dbs'.*did you mean 'db'"):

        @app.application('q', resources={'db': Database})
        async def keep(message, dbs): ...


def test_a_producer_has_no_message():
    app = plant()
    with pytest.raises(TypeError, match="declares 'message'"):

        @app.producer()
        async def send(message): ...


def test_what_cannot_be_called_by_name_is_refused():
    def by_position(message, /): ...
    async def yields(message):
        yield message

    with pytest.raises(TypeError, match='given by name'):
        Callback(by_position, RECEIVER_NAMES)
    with pytest.raises(TypeError, match='yields'):
        Callback(yields, RECEIVER_NAMES)
    with pytest.raises(TypeError, match='is no function'):
        Callback(3, RECEIVER_NAMES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'declare',
    [
        lambda app: app.application('q', ressources={}),
        lambda app: app.producer(ressources={}),
        lambda app: app.add_application(print, 'q', ressources={}),
        lambda app: app.add_producer_application(print, ressources={}),
    ],
)
def test_the_spelling_of_the_source_is_refused_with_ours(declare):
    with pytest.raises(TypeError, match="'ressources'; did you mean 'resources'"):
        declare(plant())


def test_decorators_return_the_function():
    app = plant()

    async def take(message): ...
    async def send(socket): ...

    assert app.application('q')(take) is take
    assert app.producer()(send) is send


def test_decorators_are_called():
    app = plant()
    with pytest.raises(TypeError, match='with the topics'):
        app.application(print)  # type: ignore[call-overload]

    async def send(): ...

    with pytest.raises(TypeError, match='with parentheses'):
        app.producer(send)
    app.producer(state=dict)(send)
    assert list(app.functions) == ['send']


def test_two_of_one_name_are_refused():
    app = plant()
    app.add_application(lambda message: None, 'q', name='take')
    with pytest.raises(ValueError, match="'take' already"):
        app.add_application(lambda message: None, 'r', name='take')
    with pytest.raises(ValueError, match="'take' already"):
        app.add_producer_application(lambda: None, name='take')


def test_what_cannot_be_subscribed_to_is_said_where_it_stands():
    app = plant()
    with pytest.raises(ValueError, match='Not a topic'):
        app.application('a//b')
    with pytest.raises(ValueError, match='give it another name='):
        app.add_application(lambda message: None, 'q')  # a lambda has no name
    with pytest.raises(ValueError, match="Not a group name: ''"):
        app.add_application(print, 'q', group='')
    with pytest.raises(TypeError, match=r'policy must be an events\.Policy, got 3'):
        app.add_application(print, 'q', policy=3)


async def test_a_plain_function_runs_in_a_thread():
    app = plant()
    threads: list[object] = []

    @app.application('q')
    def take(message):
        threads.append(threading.current_thread())
        return message.value + 1

    async with started(app) as socket:
        assert (await socket.request('q', 1)).value == 2

    assert threads != [threading.main_thread()]


async def test_methods_partials_and_callables_work():
    class Plant:
        async def method(self, message):
            return f'method {message.value}'

        async def __call__(self, message):
            return f'callable {message.value}'

        async def partial(self, prefix, message):
            return f'{prefix} {message.value}'

    app, mine = plant(), Plant()
    app.add_application(mine.method, 'a')
    app.add_application(mine, 'b')
    app.add_application(functools.partial(mine.partial, 'partial'), 'c')
    async with started(app) as socket:
        answers = [(await socket.request(topic, 1)).value for topic in 'abc']

    assert answers == ['method 1', 'callable 1', 'partial 1']
    assert list(app.functions) == ['method', 'Plant', 'partial']


class Level(dict): ...


async def test_a_declared_type_is_what_the_value_is():
    app = plant()

    @app.application('typed')
    async def typed(message: TopicMessage[dict[str, int]]):
        return message.value

    @app.application('raw')
    async def raw(message: TopicMessage[bytes]):
        return {'payload': message.value.decode()}

    async with started(app) as socket:
        assert (await socket.request('typed', {'a': 1})).value == {'a': 1}
        assert (await socket.request('raw', {'a': 1})).value == {'payload': '{"a":1}'}


def test_a_type_that_cannot_be_found_is_refused():
    app = plant()
    with pytest.raises(TypeError, match="'Missing' that take declares"):

        @app.application('q')
        async def take(message: TopicMessage[Missing]): ...  # noqa: F821


def test_a_type_that_nothing_can_be_decoded_into_is_refused_where_it_stands():
    app = plant()
    with pytest.raises(TypeError, match='is not supported'):

        @app.application('q')
        async def take(message: TopicMessage[print]): ...


def test_its_application_is_aiohttp_s_and_the_decorator():
    app = plant()

    assert isinstance(app.application, web.Application)
    assert app.application() is app.application
    assert isinstance(app, DistributedApplication)
