"""One pattern language on every transport."""

from __future__ import annotations

import pytest

from service_scaffold.testing.conformance.case import Case
from service_scaffold.testing.conformance.inbox import Inbox
from service_scaffold.testing.conformance.instances import Instances

ROUTINGS = (
    'tank',
    'tank.level',
    'tank.level.low',
    'pump',
    'pump.level',
    'a.tank.level',
    'Tank.level',
    'a-b_c.d',
    'größe.1',
)
PATTERNS = {
    '#': ROUTINGS,
    'tank': ('tank',),
    'tank.*': ('tank.level',),
    'tank.#': ('tank', 'tank.level', 'tank.level.low'),
    '*': ('tank', 'pump'),
    '*.level': ('tank.level', 'pump.level', 'Tank.level'),
    '#.level': ('tank.level', 'pump.level', 'a.tank.level', 'Tank.level'),
    'tank.#.low': ('tank.level.low',),
    '*.*.*': ('tank.level.low', 'a.tank.level'),
    'a-b_c.d': ('a-b_c.d',),
    'größe.*': ('größe.1',),
    'nobody.#': (),
}
LAST = 'the.very.last.one.of.all'


class Routing(Case):
    """Who gets what."""

    @pytest.mark.parametrize('group', [None, 'g'], ids=['views', 'group'])
    async def test_each_pattern_gets_exactly_what_it_matches(
        self, instances: Instances, exchange: str, group: str | None
    ) -> None:
        """Words by dots, `*` one word, `#` zero or more; all patterns at once."""
        instance = await instances.start()
        inboxes = {pattern: Inbox() for pattern in PATTERNS}
        last = Inbox()
        made = [
            instance.listener.subscribe(exchange, pattern, on_message=inbox, group=group)
            for pattern, inbox in {**inboxes, LAST: last}.items()
        ]
        for subscription in made:
            await subscription.wait_active()

        for routing in (*ROUTINGS, LAST):
            await instance.publish(exchange, routing, routing, key='k')
        await last.next()

        for pattern, inbox in inboxes.items():
            expected = PATTERNS[pattern] + ((LAST,) if pattern == '#' else ())
            await inbox.take(len(expected))
        found = {pattern: tuple(one.key for one in i.received) for pattern, i in inboxes.items()}
        assert found == {**PATTERNS, '#': (*ROUTINGS, LAST)}

    @pytest.mark.parametrize('group', [None, 'g'], ids=['views', 'group'])
    async def test_overlapping_patterns_call_each_handler_once(
        self, instances: Instances, exchange: str, group: str | None
    ) -> None:
        """Three patterns match, three handlers run, each once; also for two equal patterns."""
        instance = await instances.start()
        inboxes = [Inbox() for _ in range(4)]
        patterns = ('#', 'tank.*', '*.level', 'tank.*')
        for pattern, inbox in zip(patterns, inboxes, strict=True):
            await instance.subscribe(exchange, pattern, inbox, group=group)

        for number in range(3):
            await instance.publish(exchange, 'tank.level', number, key='k')

        for inbox in inboxes:
            await inbox.until(2)
            assert inbox.values == [0, 1, 2]

    @pytest.mark.parametrize('group', [None, 'g'], ids=['view', 'group'])
    async def test_a_direct_exchange_takes_the_routing_literally(
        self, instances: Instances, exchange: str, group: str | None
    ) -> None:
        """Another word does not match, whatever stands in front."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, 'tank.level', inbox, group=group, exchange_type='direct')

        for routing in ('tank', 'tank.level.low', 'tank.level'):
            await instance.publish(exchange, routing, routing, exchange_type='direct', key='k')

        assert (await inbox.next()).key == 'tank.level'
        assert len(inbox.received) == 1

    @pytest.mark.parametrize('group', [None, 'g'], ids=['view', 'group'])
    async def test_a_fanout_exchange_ignores_the_routing(
        self, instances: Instances, exchange: str, group: str | None
    ) -> None:
        """Whatever was subscribed with, everything comes."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, 'anything', inbox, group=group, exchange_type='fanout')

        for routing in ('tank', 'tank.level'):
            await instance.publish(exchange, routing, routing, exchange_type='fanout', key='k')

        assert [one.key for one in await inbox.take(2)] == ['tank', 'tank.level']
