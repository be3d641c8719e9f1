"""Tests of `service_scaffold.features`: lookup and the one lifecycle."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service_scaffold import clock, features, options
from service_scaffold.features import Health, Startup


class Recorder(features.ServiceFeature):
    """Writes down what is asked of it."""

    def __init__(
        self,
        app: web.Application,
        calls: list[str],
        name: str,
        startup: Startup = Startup.AUTODETECT,
    ) -> None:
        super().__init__(app, startup)
        self.calls = calls
        self.name = name
        self.state: Health | None = None

    async def startup(self, app: web.Application) -> None:
        assert app is self.app
        self.calls.append(f'startup {self.name}')

    async def drain(self, app: web.Application) -> None:
        self.calls.append(f'drain {self.name}')

    async def before_shutdown(self, app: web.Application) -> None:
        self.calls.append(f'before_shutdown {self.name}')

    async def shutdown(self, app: web.Application) -> None:
        self.calls.append(f'shutdown {self.name}')

    def health(self) -> Health | None:
        return self.state


class Broken(Recorder):
    """Raises in one of its hooks."""

    hook = 'startup'

    async def startup(self, app: web.Application) -> None:
        await super().startup(app)
        if self.hook == 'startup':
            raise ConnectionError('no device')

    async def shutdown(self, app: web.Application) -> None:
        await super().shutdown(app)
        if self.hook == 'shutdown':
            raise ConnectionError('no goodbye')


class Hanging(Recorder):
    """Never comes back from one of its hooks."""

    async def before_shutdown(self, app: web.Application) -> None:
        await super().before_shutdown(app)
        await asyncio.Event().wait()


class Stubborn(Recorder):
    """Does not even come back when it is cancelled."""

    release: asyncio.Event

    async def before_shutdown(self, app: web.Application) -> None:
        self.release = asyncio.Event()
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.calls.append('resists')


@pytest.fixture
def app() -> web.Application:
    return web.Application()


@pytest.fixture
def calls() -> list[str]:
    return []


STOP_OF_A_AND_B = [
    *('drain b', 'drain a'),
    *('before_shutdown b', 'before_shutdown a'),
    *('shutdown b', 'shutdown a'),
]


# Lookup


def test_what_was_added_is_found_by_its_type(app: web.Application) -> None:
    features.add(app, 'text')
    features.add(app, 5, key='five')

    assert features.get(app, str) == 'text'
    assert features.get(app, key='five') == 5
    assert features.get(app, int, 'five') == 5
    assert features.has(app, str)
    assert not features.has(app, 'six')


@pytest.mark.parametrize('feature', [[], 0, '', {}])
def test_falsy_features_and_keys_are_fine(app: web.Application, feature: object) -> None:
    features.add(app, feature)
    features.add(app, feature, key='')

    assert features.get(app, type(feature)) is feature
    assert features.get(app, key='') is feature


def test_an_unknown_feature_is_a_key_error(app: web.Application) -> None:
    with pytest.raises(KeyError, match='No feature under Recorder'):
        features.get(app, Recorder)
    with pytest.raises(KeyError, match="No feature under 'nothing'"):
        features.get(app, key='nothing')


def test_a_taken_key_is_a_key_error(app: web.Application) -> None:
    features.add(app, 'first')

    with pytest.raises(KeyError, match='str'):
        features.add(app, 'second')
    features.add(app, 'third', exist_ok=True)

    assert features.get(app, str) == 'first'


def test_a_wrong_type_or_no_identifier_is_an_assertion_error(app: web.Application) -> None:
    features.add(app, 'text', key='it')

    with pytest.raises(AssertionError, match="'it' is a str, not a int"):
        features.get(app, int, 'it')
    with pytest.raises(AssertionError, match='identifier'):
        features.get(app)


async def test_requests_of_sub_applications_find_the_root(app: web.Application) -> None:
    """Also with `request.app`, which is the sub-application."""
    sub, inner = web.Application(), web.Application()

    async def handler(request: web.Request) -> web.Response:
        config = options.get_config(request)
        assert config is options.get_config(request.app)
        assert features.get_clock(request) is features.get_clock(app)
        return web.Response(text=features.get(request, str) + features.get(request.app, str))

    inner.router.add_get('/x', handler)
    sub.add_subapp('/inner', inner)
    app.add_subapp('/sub', sub)
    options.store_config(app, {'port': 1})
    features.add(app, 'root')

    async with TestClient(TestServer(app)) as client:
        response = await client.get('/sub/inner/x')

        assert await response.text() == 'rootroot'


async def test_what_a_sub_application_adds_is_found_in_its_requests(app: web.Application) -> None:
    sub = web.Application()

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=features.get(request, str))

    sub.router.add_get('/x', handler)
    features.add(sub, 'own')
    app.add_subapp('/sub', sub)

    async with TestClient(TestServer(app)) as client:
        response = await client.get('/sub/x')

        assert await response.text() == 'own'


async def test_a_plain_application_that_runs_can_still_look_up_and_add() -> None:
    app = web.Application()

    async with TestServer(app):
        assert isinstance(features.get_clock(app), clock.SystemClock)
        assert not features.has(app, str)
        with pytest.warns(DeprecationWarning, match='Changing state'):  # by aiohttp
            features.add(app, 'late')
        assert features.get(app, str) == 'late'


def test_the_clock_can_be_replaced(app: web.Application) -> None:
    manual = clock.ManualClock()

    assert isinstance(features.get_clock(app), clock.SystemClock)
    features.set_clock(app, manual)

    assert features.get_clock(app) is manual


# Lifecycle


async def test_features_start_in_order_and_stop_in_reverse(
    app: web.Application, calls: list[str]
) -> None:
    lifecycle = features.get_lifecycle(app)
    Recorder(app, calls, 'a')
    Recorder(app, calls, 'b')
    states = [lifecycle.state]

    async with TestServer(app):
        states.append(lifecycle.state)
        assert calls == ['startup a', 'startup b']
        calls.clear()

    assert calls == STOP_OF_A_AND_B
    assert [*states, lifecycle.state] == ['created', 'running', 'stopped']
    assert lifecycle.failures == []


async def test_no_warning_comes_from_us(app: web.Application, calls: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        features.add(app, Recorder(app, calls, 'a'))
        async with TestServer(app):
            pass

    assert 'shutdown a' in calls


async def test_handlers_appended_later_find_the_features_started(
    app: web.Application, calls: list[str]
) -> None:
    async def handler(app: web.Application) -> None:
        calls.append('handler')

    features.get_lifecycle(app)  # create_app does this
    app.on_startup.append(handler)
    Recorder(app, calls, 'a')

    async with TestServer(app):
        assert calls == ['startup a', 'handler']


async def test_what_cleanup_ctx_opens_is_open_from_first_to_last(
    app: web.Application, calls: list[str]
) -> None:
    async def pool(app: web.Application) -> AsyncIterator[None]:
        calls.append('pool opened')
        yield
        calls.append('pool closed')

    app.cleanup_ctx.append(pool)
    Recorder(app, calls, 'a')

    async with TestServer(app):
        pass

    assert (calls[0], calls[-1]) == ('pool opened', 'pool closed')


async def test_a_failed_start_stops_those_already_started_and_not_itself(
    app: web.Application, calls: list[str]
) -> None:
    for name in ('a', 'b'):
        Recorder(app, calls, name)
    Broken(app, calls, 'c')
    Recorder(app, calls, 'd')

    with pytest.raises(ConnectionError, match='no device') as failed:
        await TestServer(app).start_server()

    assert calls == ['startup a', 'startup b', 'startup c', *STOP_OF_A_AND_B]
    assert features.get_lifecycle(app).state == 'stopped'
    assert failed.value.__notes__ == ['while starting Broken']


async def test_after_a_failing_handler_of_the_user_whoever_drives_can_stop_all_features(
    app: web.Application, calls: list[str]
) -> None:
    """aiohttp calls no clean-up when the start fails, so `run` has to do it."""

    async def handler(app: web.Application) -> None:
        raise ValueError('mine')

    Recorder(app, calls, 'a')
    app.on_startup.append(handler)
    runner = web.AppRunner(app)

    with pytest.raises(ValueError, match='mine'):
        await runner.setup()
    await features.get_lifecycle(app).shutdown()

    assert calls == ['startup a', 'drain a', 'before_shutdown a', 'shutdown a']


async def test_a_cancelled_start_is_rolled_back(app: web.Application, calls: list[str]) -> None:
    Recorder(app, calls, 'a')
    entered = asyncio.Event()

    class Slow(Recorder):
        async def startup(self, app: web.Application) -> None:
            entered.set()
            await asyncio.Event().wait()

    Slow(app, calls, 'slow')
    task = asyncio.create_task(features.get_lifecycle(app).start())
    await entered.wait()

    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert calls == ['startup a', 'drain a', 'before_shutdown a', 'shutdown a']


async def test_the_steps_can_be_driven_one_by_one_and_do_their_work_once(
    app: web.Application, calls: list[str]
) -> None:
    lifecycle = features.get_lifecycle(app)
    Recorder(app, calls, 'a')
    await lifecycle.start()
    await lifecycle.start()
    assert lifecycle.ready

    lifecycle.begin_stop()
    assert (lifecycle.ready, calls) == (False, ['startup a'])
    for _ in range(2):
        await lifecycle.drain()
    assert calls == ['startup a', 'drain a']
    for _ in range(2):
        await lifecycle.shutdown()

    assert calls == ['startup a', 'drain a', 'before_shutdown a', 'shutdown a']


async def test_stopping_before_the_start_does_nothing(
    app: web.Application, calls: list[str]
) -> None:
    Recorder(app, calls, 'a')
    lifecycle = features.get_lifecycle(app)

    await lifecycle.shutdown()

    assert (calls, lifecycle.state) == ([], 'created')


async def test_it_can_start_again(app: web.Application, calls: list[str]) -> None:
    Recorder(app, calls, 'a')
    lifecycle = features.get_lifecycle(app)

    for _ in range(2):
        await lifecycle.start()
        await lifecycle.shutdown()

    assert calls == ['startup a', 'drain a', 'before_shutdown a', 'shutdown a'] * 2


async def test_a_stop_hook_that_raises_is_recorded_and_stops_nobody_else(
    app: web.Application, calls: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    Recorder(app, calls, 'a')
    Broken(app, calls, 'b').hook = 'shutdown'

    async with TestServer(app):
        calls.clear()

    assert calls == STOP_OF_A_AND_B
    [failure] = features.get_lifecycle(app).failures
    assert (failure.feature, failure.hook) == ('Broken', 'shutdown')
    assert isinstance(failure.error, ConnectionError)
    assert 'shutdown of Broken failed' in caplog.text
    assert 'no goodbye' in caplog.text


@pytest.mark.parametrize('kind', [Hanging, Stubborn])
async def test_a_stop_hook_that_hangs_is_recorded_and_the_budget_is_kept(
    app: web.Application, calls: list[str], kind: type[Recorder]
) -> None:
    options.store_config(app, {'shutdown_timeout_s': 0.5})
    Recorder(app, calls, 'a')
    hanging = kind(app, calls, 'b')
    lifecycle = features.get_lifecycle(app)
    await lifecycle.start()
    began = time.monotonic()

    await lifecycle.shutdown()

    took_s = time.monotonic() - began
    if isinstance(hanging, Stubborn):
        assert 'resists' in calls
        hanging.release.set()
    assert 0.3 < took_s < 0.9
    assert [call for call in calls if call.endswith(' a')] == [
        f'{hook} a' for hook in ('startup', 'drain', 'before_shutdown', 'shutdown')
    ]
    [failure] = lifecycle.failures
    assert (failure.feature, failure.hook) == (kind.__name__, 'before_shutdown')
    assert isinstance(failure.error, TimeoutError)


async def test_a_drain_may_use_most_of_the_budget(app: web.Application, calls: list[str]) -> None:
    class Slow(Recorder):
        async def drain(self, app: web.Application) -> None:
            await asyncio.sleep(0.35)
            await super().drain(app)

    options.store_config(app, {'shutdown_timeout_s': 0.5})
    for name in ('a', 'b', 'c', 'd'):
        Recorder(app, calls, name)
    Slow(app, calls, 'slow')
    lifecycle = features.get_lifecycle(app)
    await lifecycle.start()

    await lifecycle.drain()

    assert 'drain slow' in calls
    assert 0 < lifecycle.spare_s < lifecycle.remaining_s < 0.2
    await lifecycle.shutdown()
    assert lifecycle.failures == []


async def test_a_hook_gets_its_turn_with_no_budget_at_all(
    app: web.Application, calls: list[str]
) -> None:
    options.store_config(app, {'shutdown_timeout_s': 0})
    Recorder(app, calls, 'a')

    async with TestServer(app):
        pass

    assert calls[1:] == ['drain a', 'before_shutdown a', 'shutdown a']


# Who starts it


async def test_a_managed_feature_cannot_be_made_after_the_start(
    app: web.Application, calls: list[str]
) -> None:
    Recorder(app, calls, 'early', Startup.MANAGED)

    async with TestServer(app):
        with pytest.raises(RuntimeError, match='Recorder was made after'):
            Recorder(app, calls, 'late', Startup.MANAGED)

    assert calls[0] == 'startup early'


async def test_made_after_the_start_it_is_the_users_to_start_and_stop(
    app: web.Application, calls: list[str]
) -> None:
    features.get_lifecycle(app)
    async with TestServer(app):
        late = Recorder(app, calls, 'late')
        await late.startup(app)

    assert calls == ['startup late']


async def test_a_manual_feature_is_never_started_or_stopped(
    app: web.Application, calls: list[str]
) -> None:
    Recorder(app, calls, 'a', Startup.MANUAL)

    async with TestServer(app):
        pass

    assert calls == []


async def test_a_feature_made_while_others_start_is_manual(
    app: web.Application, calls: list[str]
) -> None:
    class Parent(Recorder):
        async def startup(self, app: web.Application) -> None:
            Recorder(app, self.calls, 'child')

    Parent(app, calls, 'parent')

    async with TestServer(app):
        assert calls == []


def test_both_methods_must_be_written(app: web.Application) -> None:
    class Half(features.ServiceFeature):
        async def startup(self, app: web.Application) -> None: ...

    with pytest.raises(TypeError, match='shutdown'):
        Half(app)  # type: ignore[abstract]


# Health


async def test_readiness_is_that_of_all_features(app: web.Application, calls: list[str]) -> None:
    first, second = Recorder(app, calls, 'a'), Recorder(app, calls, 'b')
    lifecycle = features.get_lifecycle(app)
    assert not lifecycle.ready

    async with TestServer(app):
        assert lifecycle.ready
        first.state = Health(ok=False, detail={'why': 'cold'})
        assert lifecycle.ready
        second.state = Health(ok=True, ready=False)
        assert not lifecycle.ready

    assert not lifecycle.ready


def test_health_names_are_unique(app: web.Application, calls: list[str]) -> None:
    for feature in [Recorder(app, calls, name) for name in 'abcd']:
        feature.state = Health(ok=True, detail={'name': feature.name})
        if feature.name == 'b':
            features.add(app, feature, key='pump')
        if feature.name == 'c':
            features.add(app, feature)

    found = features.get_lifecycle(app).health()

    assert {name: health.detail['name'] for name, health in found.items()} == {
        'Recorder': 'a',
        'pump': 'b',
        'Recorder#2': 'c',
        'Recorder#3': 'd',
    }


def test_manual_features_that_were_added_have_a_health_too(
    app: web.Application, calls: list[str]
) -> None:
    manual = Recorder(app, calls, 'm', Startup.MANUAL)
    manual.state = Health(ok=True)
    features.add(app, manual, key='manual')
    features.add(app, 'a text')

    assert features.get_lifecycle(app).health() == {'manual': Health(ok=True)}


async def test_features_of_a_sub_application_are_told_with_the_rest(
    app: web.Application, calls: list[str]
) -> None:
    class Faulty(Recorder):
        async def shutdown(self, app: web.Application) -> None:
            raise ValueError('stuck')

        def health(self) -> Health:
            return Health(ok=False, ready=False)

    sub = web.Application()
    Faulty(sub, calls, 'a')
    app.add_subapp('/sub', sub)
    lifecycle = features.get_lifecycle(app)

    async with TestServer(app):
        assert (lifecycle.well, lifecycle.ready) == (False, False)
        assert list(lifecycle.health()) == ['Faulty']

    assert [failure.feature for failure in lifecycle.failures] == ['Faulty']


def test_a_health_of_another_type_is_not_ok(
    app: web.Application, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Recorder):
        def health(self) -> Health:
            return True  # type: ignore[return-value]

    Odd(app, [], 'a')

    assert features.get_lifecycle(app).health()['Odd'].ok is False
    assert 'health() returned True, which is no Health' in caplog.text


def test_a_health_that_raises_is_not_ok(
    app: web.Application, calls: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Ill(Recorder):
        def health(self) -> Health | None:
            raise ValueError('amqp://u:p@h')

    Ill(app, calls, 'a')

    with caplog.at_level(logging.ERROR):
        found = features.get_lifecycle(app).health()

    assert found == {'Ill': Health(ok=False, detail={'error': 'ValueError'})}
    assert 'Ill' in caplog.text
