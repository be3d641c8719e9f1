"""`StreamApp`: its options, its pages, its life."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
import types
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from service_scaffold import apps, errors, events, features, streams
from service_scaffold.apps import StreamApp
from service_scaffold.apps import stream_options as app_table
from service_scaffold.journal import partitioner
from service_scaffold.options import streams as table
from service_scaffold.streams import Topology, View
from service_scaffold.streams.configured import tuning_of
from service_scaffold.streams.worker import Worker
from test.apps.programs import program
from test.running import get

OPTIONS = (*table.OPTIONS, *app_table.OPTIONS)

# Every keyword of Faust's App as it is documented, with a value that is not the default.
SEED_KEYWORDS = {
    'broker': 'memory://x',
    'autodiscover': False,
    'origin': 'json',
    'canonical_url': 'http://one:1',
    'broker_consumer': 'memory://x',
    'broker_producer': 'memory://x',
    'cache': 'memory://',
    'web': 'aiohttp://',
    'web_enabled': False,
    'web_transport': 'tcp:',
    'web_cors_options': {'https://a.example': {}},
    'logging_config': {'level': 'WARNING'},
    'loghandlers': [logging.NullHandler()],
    'datadir': '/nowhere',
    'tabledir': 'tables',
    'debug': False,
    'quiet': True,
    'no_color': True,
    'blocking_timeout': 3.0,
    'broker_heartbeat': 2.0,
    'broker_commit_interval': 1.5,
    'broker_commit_livelock_soft_timeout': 30.0,
    'broker_commit_livelock_hard_timeout': 60.0,
    'broker_session_timeout': 20.0,
    'broker_request_timeout': 7.0,
    'broker_retry_backoff_type': 'constant',
    'broker_retry_max_delay': 3.0,
    'broker_retry_delay': 0.5,
    'broker_api_version': '2.5',
    'topic_replication_factor': 1,
    'topic_partitions': 3,
    'topic_allow_declare': False,
    'topic_disable_leader': True,
    'id_format': '{id}_v{self.version}',
    'stream_buffer_maxsize': 10,
    'stream_wait_empty': False,
    'stream_ack_cancelled_tasks': False,
    'stream_ack_exceptions': False,
    'stream_publish_on_commit': True,
    'stream_recovery_delay': 0.1,
    'producer_linger': 0.01,
    'producer_max_batch_size': 1000,
    'producer_acks': 1,
    'producer_max_request_size': 2000,
    'producer_compression_type': 'gzip',
    'producer_partitioner': partitioner.murmur2,
    'producer_request_timeout': 4.0,
    'producer_api_version': '2.5',
    'consumer_max_fetch_size': 5000,
    'consumer_auto_offset_reset': 'latest',
    'consumer_connections_max_idle': 100.0,
    'consumer_request_timeout': 8.0,
    'consumer_api_version': '2.5',
    'consumer_session_timeout': 21.0,
    'consumer_heartbeat_interval': 3.0,
    'consumer_max_poll_records': 50,
    'consumer_max_poll_interval': 60.0,
    'consumer_rebalance_timeout': 9.0,
    'consumer_group_instance_id': 'one',
    'web_bind': '127.0.0.1',
    'web_port': 0,
    'web_host': 'here',
    'web_in_thread': True,
    'worker_redirect_stdouts': True,
    'worker_redirect_stdouts_level': logging.INFO,
    'reply_to': 'answers',
    'reply_to_prefix': 'r-',
    'reply_expires': 5.0,
    'reply_create_topic': True,
    'ssl_context': None,
    'store_check_exists': False,
    'table_cleanup_interval': 1.0,
    'table_key_index_size': 5,
    'table_standby_replicas': 0,
    'timezone': 'Europe/Berlin',
    # what is in Faust's source alone, and needed
    'version': 2,
    'store': 'memory://',
    'processing_guarantee': 'at_least_once',
    'broker_credentials': 'me:secret-of-mine',
    'broker_commit_every': 5,
    'key_serializer': 'json',
    'value_serializer': 'raw',
    'stream_processing_timeout': 10.0,
}


@pytest.fixture
def app() -> StreamApp:
    return StreamApp('shop', broker='memory://', web_bind='127.0.0.1', web_port=0)


# Options


def test_every_documented_keyword_is_taken_and_means_something():
    app = StreamApp('shop', **SEED_KEYWORDS)

    for name, value in SEED_KEYWORDS.items():
        if name not in ('worker_redirect_stdouts_level', 'datadir'):
            assert getattr(app.conf, name) == value, name
    settings = app.settings
    assert (app.id, settings.topic_partitions, settings.topic_replicas) == ('shop_v2', 3, 1)
    assert (settings.checkpoint_s, settings.checkpoint_every, settings.drain_s) == (1.5, 5, 0.0)
    assert (settings.stalled_s, settings.stuck_s, settings.processing_s) == (30, 60, 10)
    assert (settings.backoff.base_s, settings.backoff.factor, settings.backoff.max_s) == (0.5, 1, 3)
    assert (settings.buffer, settings.fetch_limit, settings.max_pause_s) == (10, 50, 60)
    assert str(settings.directory) == '/nowhere/tables'
    assert (settings.reply_to, settings.reply_prefix, settings.reply_create) == (
        'answers',
        'r-',
        True,
    )
    assert (settings.blocking_s, settings.standbys, settings.offset_reset) == (3, 0, 'latest')
    assert not settings.may_declare
    assert not settings.may_elect
    assert not settings.elect
    assert settings.publish_on_commit
    assert app.config['cors_origins'] == ['https://a.example']
    assert app.config['log_level'] == 'warning'
    tuning = tuning_of(app.config)
    assert (tuning.session_s, tuning.beat_s, tuning.rebalance_s) == (21, 3, 9)
    assert (tuning.acks, tuning.compression, tuning.linger_s) == (1, 'gzip', 0.01)
    assert (tuning.batch_bytes, tuning.request_bytes, tuning.fetch_bytes) == (1000, 2000, 5000)
    assert (tuning.consumer_request_s, tuning.producer_request_s) == (8, 4)
    assert (tuning.idle_s, tuning.instance_id) == (100, 'one')


def test_the_defaults_are_those_documented():
    conf = StreamApp('shop').conf

    assert (conf.web_bind, conf.web_port, conf.version) == ('localhost', 6066, 1)
    assert (conf.blocking_timeout, conf.reply_expires, conf.stream_buffer_maxsize) == (
        10,
        120,
        4096,
    )
    assert (conf.consumer_max_fetch_size, conf.consumer_auto_offset_reset) == (4194304, 'earliest')
    assert (conf.producer_acks, conf.producer_linger, conf.broker_api_version) == (-1, 0, 'auto')
    assert (conf.broker_retry_delay, conf.broker_retry_max_delay) == (0.1, 32)
    assert (conf.table_standby_replicas, conf.table_cleanup_interval) == (1, 30)
    assert conf.web_enabled
    assert conf.autodiscover
    assert not conf.reply_create_topic


def test_every_option_is_a_flag_and_a_variable(monkeypatch):
    app = StreamApp('shop')
    flags = {flag for action in app.parser._actions for flag in action.option_strings}
    assert {f'--{option.name}' for option in OPTIONS} <= flags

    monkeypatch.setenv('SERVICE_TOPIC_PARTITIONS', '5')
    monkeypatch.setenv('SERVICE_WEB_ENABLED', 'no')
    app = StreamApp('shop', topic_partitions=4)
    assert app.settings.topic_partitions == 5
    assert not app.listens

    app.read_arguments(['--topic-partitions', '6', '--broker', 'memory://y', '--web-enabled'])
    assert app.settings.topic_partitions == 6
    assert (app.broker, app.listens) == ('memory://y', True)


@pytest.mark.parametrize('option', OPTIONS, ids=lambda option: option.name)
def test_an_option_says_in_a_line_what_it_does(option):
    assert option.help
    assert '\n' not in option.help
    reasons = {**table.WITHOUT_EFFECT, **app_table.WITHOUT_EFFECT}
    assert ('Without effect' in option.help) == (option.key in reasons)


def test_flags_come_late_and_rename_what_is_named_after_the_id(app):
    counts = app.Table('counts', default=int)

    app.read_arguments(['--name', 'store', '--processing-guarantee', 'exactly_once'])

    assert app.id == 'store'
    assert counts.changelog == 'store-counts-changelog'
    assert app.settings.interval_s == 0.2


def test_an_unknown_keyword_is_refused_with_the_nearest():
    with pytest.raises(TypeError, match="'brokr'; did you mean 'broker'"):
        StreamApp('shop', brokr='memory://')
    with pytest.raises(TypeError, match="'web_port' and 'port' are one option: give one of them"):
        StreamApp('shop', port=1, web_port=2)
    assert StreamApp('shop', x_mine=1).extra == {'x_mine': 1}


@pytest.mark.parametrize(
    ('keywords', 'message'),
    [
        ({'broker': 'amqp://here'}, 'no log'),
        ({'broker': 'memory://', 'broker_consumer': 'memory://other'}, 'one cluster'),
        ({'store': 'paper://'}, 'not a store'),
        ({'processing_guarantee': 'twice'}, 'not one of'),
        ({'processing_guarantee': 'exactly_once', 'producer_acks': 1}, 'producer_acks=-1'),
        ({'topic_partitions': 0}, '1 or more'),
        ({'id_format': '{nothing}', 'version': 2}, 'id_format'),
        ({'logging_config': {'levle': 'INFO'}}, 'levle'),
        ({'broker_credentials': 'me'}, 'USER:PASSWORD'),
        ({'timezone': 'Europe/Berln'}, 'Europe/Berlin'),
        ({'logging_config': {'level': 'loud'}}, 'loud'),
        ({'broker': 'x://here'}, 'kafka://, kafka[+]ssl:// or memory://'),
        ({'broker': ['kafka://a:1', 'memory://']}, 'schemes differ'),
        ({'broker_session_timeout': 2, 'broker_heartbeat': 5}, 'less than broker_session_timeout'),
        ({'broker_retry_delay': 5, 'broker_retry_max_delay': 2}, 'broker_retry_max_delay'),
    ],
)
async def test_a_wrong_value_is_refused(keywords, message):
    with pytest.raises(errors.ConfigError, match=message):
        await StreamApp('shop', web_port=0, **keywords).start()


def test_the_broker_is_the_event_bus_too_unless_that_is_given():
    assert StreamApp('a', broker='memory://m').config['eventbus_url'] == 'memory://m'
    app = StreamApp('a', broker='memory://m', eventbus_url='amqp://there')
    assert app.config['eventbus_url'] == 'amqp://there'
    assert StreamApp('a', eventbus_url='memory://n').broker == 'memory://n'


async def test_an_event_bus_without_a_log_needs_another_option():
    app = StreamApp('a', eventbus_url='amqp://there', web_port=0)

    with pytest.raises(errors.ConfigError, match='--streams-url'):
        await app.start()


def test_several_brokers_are_one_cluster():
    urls = ['kafka://a:9092', 'kafka://b:9093']
    assert StreamApp('a', broker=urls).broker == 'kafka://a:9092,b:9093'
    assert StreamApp('a', broker='kafka://a:1;kafka://b:2').broker == 'kafka://a:1,b:2'


@pytest.mark.parametrize('choice', ['fail', 'earliest', 'latest'])
def test_what_to_do_about_a_lost_offset_can_be_set(choice):
    assert StreamApp('a', on_offset_lost=choice).settings.on_offset_lost == choice


def test_credentials_are_nowhere_shown():
    app = StreamApp('a', broker='kafka://h:1', broker_credentials='me:secret-of-mine')

    assert app.broker == 'kafka://h:1'
    assert app.parser.is_secret('broker_credentials')


async def test_what_has_no_effect_is_said_once_it_is_set(caplog, unique):
    app = StreamApp(unique, broker='memory://', web_port=0, cache='redis://', web_in_thread=True)
    async with running(app):
        pass

    told = [record.getMessage() for record in caplog.records if 'no effect' in record.getMessage()]
    assert told == [
        'Option web_in_thread has no effect: one event loop serves all',
        'Option cache has no effect: pages are not cached; what they show is in memory',
    ]


def test_modules_are_found(monkeypatch):
    module = types.ModuleType('sa_found')
    monkeypatch.setitem(sys.modules, 'sa_found', module)

    assert StreamApp('a').discover_modules() == []
    assert StreamApp('a', autodiscover=['sa_found']).discover_modules() == ['sa_found']
    assert StreamApp('a', autodiscover=lambda: ['sa_found']).discover_modules() == ['sa_found']
    assert StreamApp('a', origin='sa_found:app').discover_modules() == ['sa_found']
    assert StreamApp('a', origin='sa_found', autodiscover=False).discover_modules() == []
    with pytest.raises(errors.ConfigError, match='sa_missing'):
        StreamApp('a', autodiscover='sa_missing').discover_modules()


def test_the_apps_are_loaded_when_asked_for():
    assert apps.StreamApp is StreamApp
    assert 'StreamApp' in dir(apps)
    with pytest.raises(AttributeError, match='Nothing'):
        apps.Nothing  # noqa: B018


# Life


@asynccontextmanager
async def running(app):
    """Start an app, and stop it at the end of the block; give the URL."""
    await app.start()
    try:
        yield 'http://{}:{}'.format(*(app.address or ('', 0)))
    finally:
        await app.stop()


async def test_started_its_agents_have_their_partitions(app):
    seen = asyncio.Queue()

    @app.agent(app.topic('orders', partitions=2))
    async def work(orders):
        async for order in orders:
            await seen.put(order)

    async with running(app):
        worker = features.get(app.application, Worker)
        assert worker.session.settled
        assert len(worker.session.tasks) == 3  # two, and the leader's
        assert app.is_leader()
        await work.send(value=1)
        assert await asyncio.wait_for(seen.get(), 5) == 1


async def test_where_others_reach_it():
    keywords = {'broker': 'memory://', 'web_bind': '127.0.0.1', 'web_port': 0}
    for more, url in (
        ({}, 'http://127.0.0.1:{}'),
        ({'web_host': 'here'}, 'http://here:{}'),
        ({'canonical_url': 'https://there'}, 'https://there'),
    ):
        app = StreamApp('shop', **keywords, **more)
        async with running(app):
            assert app.canonical_url == url.format(app.address[1])


async def test_without_pages_nothing_listens():
    app = StreamApp('shop', broker='memory://', web_enabled=False)
    async with running(app):
        assert app.address is None


async def test_features_are_found_with_the_application(app):
    events.setup(app.application)

    assert streams.get_streams(app.application) is app
    assert features.get(app.application, Topology) is app
    assert features.get(app.application, events.EventPublisher)


async def test_a_wrong_partition_count_is_raised_by_start(app):
    app.topic('orders', partitions=2)
    counts = app.Table('counts', default=int, partitions=3)

    @app.agent(app.topic('orders'))
    async def work(orders):
        async for _ in orders:
            counts['n'] += 1

    with pytest.raises(errors.CoPartitionError):
        await app.start()


async def test_the_options_are_told_before_anything_starts(app):
    seen = []
    app.on_before_configured.connect(lambda sender: seen.append('before'))
    app.on_configured.connect(lambda sender, conf: seen.append(conf.web_bind))
    app.on_after_configured.connect(lambda sender: seen.append('after'))
    app.on_worker_init.connect(lambda sender: seen.append('init'))
    app.on_before_shutdown.connect(lambda sender: seen.append('end'))

    async with running(app):
        assert seen == ['before', '127.0.0.1', 'after', 'init']

    assert seen[-1] == 'end'
    seen.clear()
    async with app.test():
        assert seen == ['before', '127.0.0.1', 'after', 'init']


# Ports


async def test_another_port_when_the_default_is_taken(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr('service_scaffold.apps.stream.DEFAULT_PORT', port)
        app = StreamApp('shop', broker='memory://', web_bind='127.0.0.1')
        assert app.conf.web_port == port
        async with running(app):
            assert app.address[1] != port
            assert app.canonical_url.endswith(f':{app.address[1]}')
            assert await get('http://{}:{}/_service/live'.format(*app.address))

    assert f'Port {port} is taken, so any free one is used' in caplog.text


@pytest.mark.parametrize('how', ['keyword', 'flag', 'environment'])
async def test_a_port_that_somebody_gave_is_the_only_one(how, monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        if how == 'environment':
            monkeypatch.setenv('SERVICE_PORT', str(port))
        given = {'web_port': port} if how == 'keyword' else {}
        app = StreamApp('shop', broker='memory://', web_bind='127.0.0.1', **given)
        if how == 'flag':
            app.read_arguments(['--port', str(port)])
        with pytest.raises(OSError, match=str(port)):
            await app.start()


async def test_pages_on_a_unix_socket(tmp_path):
    path = tmp_path / 'shop.sock'
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))  # as a dead process leaves it
    app = StreamApp('shop', broker='memory://', web_transport=f'unix://{path}')

    async with running(app):
        assert app.address is None
        connector = aiohttp.UnixConnector(str(path))
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.get('http://shop/_service/status') as answer,
        ):
            assert answer.status == 200
        other = StreamApp('other', broker='memory://', web_transport=f'unix://{path}')
        with pytest.raises(OSError, match='Cannot listen on unix://'):
            await other.start()

    assert not path.exists()


def test_a_transport_may_name_host_and_port():
    app = StreamApp('shop', web_transport='tcp://127.0.0.1:7000')

    assert (app.conf.web_bind, app.conf.web_port, app.any_port) == ('127.0.0.1', 7000, False)
    assert StreamApp('shop', web_transport='tcp://h:1', web_port=2).conf.web_port == 2
    with pytest.raises(errors.ConfigError, match='not a transport'):
        StreamApp('shop', web_transport='carrier://pigeon')


# Pages


async def test_pages_are_functions_and_classes(app):
    @app.page('/text/{name}')
    async def text(web, request, name):
        return web.text(f'{request.method} {name} {web.url_for("text", name="x")}')

    @app.page('/page')
    async def page(web, request):
        return web.html('<p>')

    @app.page('/raw')
    async def raw(web, request):
        return web.bytes(b'\x00')

    @app.page('/gone')
    async def gone(web, request):
        return web.notfound('no such thing', thing=1)

    @app.page('/bad')
    async def bad(web, request):
        return web.error(409, 'not now')

    @app.page('/away')
    async def away(web, request):
        return web.redirect(web.url_for('page'))

    @app.page('/view/{n}', name='view')
    class Counted(View):
        async def get(self, request, n):
            return self.json({'n': n, 'path': self.url_for('view', n=2)})

        async def post(self, request, n):
            return self.text((await self.read_request_content(request)).decode())

    @app.page('/plain')
    class Plain:
        async def get(self, request):
            return self.json(1)

    async with running(app) as url, aiohttp.ClientSession(url) as http:
        assert await get(f'{url}/text/ann') == (200, 'GET ann /text/x')
        assert await get(f'{url}/view/1') == (200, '{"n":"1","path":"/view/2"}')
        assert await get(f'{url}/plain') == (200, '1')
        assert await get(f'{url}/page') == (200, '<p>')
        status, problem = await get(f'{url}/gone')
        assert (status, json.loads(problem)['detail']) == (404, 'no such thing')
        assert (await get(f'{url}/bad'))[0] == 409
        async with http.post('/view/1', data='hello') as answer:
            assert (answer.status, await answer.text()) == (200, 'hello')
        async with http.put('/view/1') as answer:
            assert answer.status == 405
        async with http.head('/plain') as answer:
            assert answer.status == 200
        async with http.get('/away', allow_redirects=False) as answer:
            assert (answer.status, answer.headers['Location']) == (302, '/page')
        async with http.get('/raw') as answer:
            assert await answer.read() == b'\x00'


async def test_a_page_may_have_origins_of_its_own(app):
    @app.page('/mine', cors_options={'https://a.example': {'allow_credentials': True}})
    class Mine:
        async def get(self, request):
            return self.json(1)

    @app.page('/open')
    async def opened(web, request):
        return web.json(1)

    def allowed(answer):
        return answer.headers.get('Access-Control-Allow-Origin')

    async with running(app) as url, aiohttp.ClientSession(url) as http:
        for origin, mine in (('https://a.example', 'https://a.example'), ('https://b', None)):
            headers = {'Origin': origin}
            async with http.get('/mine', headers=headers) as answer:
                assert allowed(answer) == mine
            headers['Access-Control-Request-Method'] = 'GET'
            async with http.options('/mine', headers=headers) as answer:
                assert (answer.status, allowed(answer)) == (204, mine)
            async with http.get('/open', headers={'Origin': origin}) as answer:
                assert allowed(answer) == '*'
        async with http.options('/mine') as answer:
            assert answer.status == 405


def test_what_is_no_page_is_refused(app):
    with pytest.raises(TypeError, match='async def'):
        app.page('/x')(lambda web, request: None)
    with pytest.raises(TypeError, match='none of the methods'):
        app.page('/y')(type('Empty', (), {}))


class Show:
    async def get(self, request, order): ...


async def show(web, request, order): ...


@pytest.mark.parametrize('page', [show, Show])
def test_a_page_takes_the_parameters_of_its_path(app, page):
    with pytest.raises(TypeError, match=r"/\{orders\}: .* is given orders: .*'order'"):
        app.page('/{orders}')(page)
    with pytest.raises(TypeError, match='no parameters'):
        app.page('/orders')(page)
    app.page('/{order:[0-9]+}')(page)


def test_a_path_has_one_page(app):
    app.page('/{order}')(show)
    with pytest.raises(ValueError, match='There is a page'):
        app.page('/{order}')(Show)
    app.page('/x/{order}')(Show)
    app.page('/x/{order}')(type('Post', (), {'post': show}))
    with pytest.raises(ValueError, match='There is a page'):
        app.page('/x/{order}')(type('Get', (), {'get': show}))


# As a program


PROGRAM = """
    from service_scaffold.apps import StreamApp
    from service_scaffold.streams import Decision
    app = StreamApp('shop', broker='memory://', web_bind='127.0.0.1', web_port=0)
    orders = app.topic('orders', partitions=1)

    @app.agent(orders, on_error=lambda agent, exc: Decision.STOP)
    async def work(orders):
        async for order in orders:
            raise ValueError('this cannot go on')

    @app.page('/order')
    async def order(web, request):
        await orders.send(value=1)
        return web.text('sent')

    @app.task
    async def tell():
        print('ready', flush=True)

    app.run()
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_with_status_0(number):
    async with program(PROGRAM) as process:
        await process.printed('ready')
        process.signal(number)

        assert await process.ended() == 0
        assert 'Stopped' in process.log


async def test_an_error_hook_that_says_stop_makes_the_status_1():
    async with program(PROGRAM) as process:
        await process.printed('ready')
        await get(f'{await process.url()}/order')

        assert await process.ended() == 1
        assert 'this cannot go on' in process.log


async def test_a_usage_error_is_status_2():
    async with program(PROGRAM, '--topic-partition', '3') as process:
        assert await process.ended() == 2
        assert 'did you mean --topic-partitions?' in process.log


async def test_what_is_printed_can_be_logged():
    async with program(PROGRAM, '--worker-redirect-stdouts') as process:
        assert await process.logged(r'WARNING .*printed +ready')
        process.signal()
        assert await process.ended() == 0
        assert process.output == ''


MAIN = PROGRAM.replace(
    'app.run()',
    """
    @app.command()
    async def hello():
        print('Hello from', app.id)

    app.main()
""",
)


async def test_main_is_a_program_with_commands():
    async with program(MAIN, 'hello') as process:
        assert await process.ended() == 0
        assert process.output == 'Hello from shop\n'


async def test_its_worker_takes_the_flags():
    async with program(MAIN, 'worker', '--name', 'store', '--log-format', 'json') as process:
        await process.printed('ready')
        process.signal()
        assert await process.ended() == 0
        assert '"message": "Service store"' in process.log


def test_nothing_is_logged_differently_before_run():
    before = logging.getLogger().handlers[:]

    StreamApp('shop', logging_config={'level': 'DEBUG'}, loghandlers=[logging.NullHandler()])

    assert logging.getLogger().handlers == before


def test_every_option_is_on_the_page():
    page = (Path(__file__).parent.parent.parent / 'docs' / 'streams.md').read_text()

    for option in OPTIONS:
        assert f'| `{option.key}` |' in page
