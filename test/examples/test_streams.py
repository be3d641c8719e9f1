"""The examples of streams: driven offline, and run on the log in memory and on Kafka."""

from __future__ import annotations

import time
import urllib.error

import pytest

from examples import cron, order_totals, page_views, rpc, word_count
from service_scaffold import errors
from test.examples.process import running


@pytest.fixture(params=['memory', 'kafka'])
def log(request, tmp_path) -> list[str]:
    """Options for a log to run on; pages show what is in a checkpoint, so these come often."""
    options = ['--processing-guarantee', 'exactly_once', '--datadir', str(tmp_path)]
    if request.param == 'kafka':
        options += ['--broker', request.getfixturevalue('kafka').url]
    return options


# Words


async def test_words_are_counted():
    counts = word_count.counts
    async with word_count.app.test() as t:
        await t.send('lines', 'To be or not to be')
        await t.settle()

        assert dict(counts.items()) == {'to': 2, 'be': 2, 'or': 1, 'not': 1}

        await t.restart(wipe_state=True)
        await t.send('lines', 'be')
        await t.settle()
        assert counts['be'] == 3


async def test_word_count_runs(log):
    with running('word_count', *log, program=True) as words:
        words.ask('/lines', b'to be or not to be')

        assert await words.becomes('/words/be', lambda found: found['count'] == 2)
        assert words.ask('/words/never') == {'word': 'never', 'count': 0}


async def test_any_worker_tells_of_any_word(kafka, unique, tmp_path):
    """Each of two has half of the words; a page finds the other half at the other worker."""
    options = ['--broker', kafka.url, '--name', unique, '--web-host', '127.0.0.1']
    options += ['--processing-guarantee', 'exactly_once']
    words = {f'word{n}': n % 3 + 1 for n in range(12)}
    with (
        running('word_count', *options, '--datadir', str(tmp_path / 'one'), program=True) as one,
        running('word_count', *options, '--datadir', str(tmp_path / 'two'), program=True) as two,
    ):
        one.ask('/lines', ' '.join(f'{word} ' * count for word, count in words.items()).encode())
        for word, count in words.items():
            for worker in (one, two):
                answer = await worker.becomes(f'/words/{word}', lambda found: found['count'])
                assert answer == {'word': word, 'count': count}


# Orders


async def test_a_minute_is_billed_once_it_is_over_and_late_orders_are_kept_apart():
    async with order_totals.app.test() as t:
        for at, amount in [(0, 1), (59, 2), (60, 4), (50, 8)]:  # the last one is 10 s late
            order = order_totals.Order('ann', amount, at)
            await t.send('orders', order, key='ann', timestamp=at)
        await t.settle()
        assert t.read('bills') == []

        await t.send('orders', order_totals.Order('ann', 16, 70), key='ann', timestamp=70)
        await t.send('orders', order_totals.Order('ann', 32, 59), key='ann', timestamp=59)
        await t.settle()
        (bill,) = t.read('bills')
        assert bill.value == order_totals.Bill(since=0.0, amount=11.0)
        assert [event.value['amount'] for event in t.read('late_orders')] == [32]

        await t.restart()
        await t.advance(200)  # nobody orders: the clock ends the second minute
        assert [event.value.amount for event in t.read('bills')] == [11, 20]
        assert [bill.amount for bill in order_totals.history['ann']] == [11, 20]


async def test_order_totals_runs(log):
    minute = time.time() // 60 * 60 - 600
    with running('order_totals', *log, program=True) as orders:
        for at, amount in [(0, 5), (30, 7), (75, 1)]:
            orders.ask('/orders', {'customer': 'ann', 'amount': amount, 'at': minute + at})

        bills = await orders.becomes('/bills/ann', bool)

        assert bills[0] == {'since': minute, 'amount': 12}


# Views


async def test_views_are_counted_by_the_country_of_the_user():
    counts = page_views.counts
    async with page_views.app.test() as t:
        await t.send('profiles', page_views.User('NL'), key='ann')
        await t.send('profiles', page_views.User('DE'), key='bob')
        await t.settle()
        for number, user in enumerate(['ann', 'bob', 'ann', 'eve']):
            await t.send('views', page_views.View('/home', user), key=f'/{number}')
        await t.settle()

        assert dict(counts.items()) == {'NL': 2, 'DE': 1, 'unknown': 1}


async def test_page_views_runs(log):
    with running('page_views', *log, program=True) as views:
        views.ask('/users/ann', {'country': 'NL'})
        await views.becomes('/users/ann', bool)
        views.ask('/views', {'page': '/home', 'user': 'ann'})
        views.ask('/views', {'page': '/', 'user': 'ann'})

        assert await views.becomes('/countries/NL', lambda found: found['views'] == 2)


# Seats


async def test_no_seat_is_sold_twice():
    book = rpc.book
    async with rpc.app.test() as t:
        assert await t.ask(book, rpc.Booking('hamlet', 7), key='hamlet') == rpc.Booked('hamlet', 3)
        with pytest.raises(errors.RemoteError, match='only 3 seats are left'):
            await t.ask(book, rpc.Booking('hamlet', 4), key='hamlet')
        assert await t.ask(book, rpc.Booking('hamlet', 3), key='hamlet') == rpc.Booked('hamlet', 0)
        assert (book.stats.skipped, book.stats.retried) == (1, 0)


async def test_rpc_runs(log):
    with running('rpc', *log, program=True) as seats:
        assert seats.ask('/bookings/hamlet?seats=7', b'') == {'show': 'hamlet', 'left': 3}
        with pytest.raises(urllib.error.HTTPError) as refused:
            seats.ask('/bookings/hamlet?seats=7', b'')
        assert refused.value.code == 409
        assert b'only 3 seats are left' in refused.value.read()


# Tills

MONDAY_NEARLY_SIX = 1_767_632_391.0  # 17:59:51 in Berlin, 5 January 2026


async def test_tills_are_looked_into_every_five_seconds_and_emptied_at_six():
    async with cron.app.test(start=MONDAY_NEARLY_SIX) as t:
        for amount in (1.5, 2.5):
            await t.send('till', cron.Sale(amount), key='north')
        await t.advance(4)
        assert {event.key: event.value for event in t.read('reports')} == {
            'north': cron.Report(4.0, closing=False),
            'south': cron.Report(0.0, closing=False),
        }

        await t.advance(5)
        closings = [event for event in t.read('reports') if event.value.closing]
        assert {event.key: event.value.amount for event in closings} == {'north': 4, 'south': 0}

        await t.advance(5)
        assert cron.latest['north'] == cron.Report(0.0, closing=False)


async def test_cron_runs(log):
    with running('cron', *log, program=True) as tills:
        tills.ask('/sales/north', b'12.5')

        report = await tills.becomes('/reports/north', lambda found: found and found['amount'])
        assert report == {'amount': 12.5, 'closing': False}
