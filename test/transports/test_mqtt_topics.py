"""MQTT's names: routing keys, patterns, filters, identifiers."""

from __future__ import annotations

import pytest

from service_scaffold import errors
from service_scaffold.transports.base import Binding
from service_scaffold.transports.mqtt_topics import (
    MAX_IDENTIFIER,
    dead_letter_topic,
    filter_of,
    filters_matching,
    identifier_of,
    is_safe,
    routing_of,
    session_id,
    share,
    topic_of,
)


@pytest.mark.parametrize(
    ('routing', 'topic'),
    [
        ('', 'plant'),
        ('tank', 'plant/tank'),
        ('tank.level', 'plant/tank/level'),
        ('tank..level', 'plant/tank//level'),
        ('v1%2E2.level', 'plant/v1.2/level'),
        ('füll stand', 'plant/füll stand'),
        ('100%', 'plant/100%'),
    ],
)
def test_routing_and_topic_are_each_other(routing, topic):
    """A routing key is a topic, and the topic is the routing key again."""
    assert topic_of('plant', routing) == topic
    assert routing_of(topic) == ('plant', routing)


@pytest.mark.parametrize('routing', ['tank\n', 'a/b', 'a.+', '#'])
def test_topic_refuses_what_a_broker_hangs_up_for(routing):
    """A control character or a wildcard would cost the connection, so it never gets there."""
    with pytest.raises(errors.BindingRefused, match='cannot be an MQTT topic'):
        topic_of('plant', routing)


@pytest.mark.parametrize(
    ('pattern', 'exchange_type', 'text', 'exact'),
    [
        ('tank.*', 'topic', 'plant/tank/+', True),
        ('*', 'topic', 'plant/+', True),
        ('#', 'topic', 'plant/#', True),
        ('tank.#', 'topic', 'plant/tank/#', True),
        ('', 'topic', 'plant', True),
        ('tank.#.level', 'topic', 'plant/tank/#', False),
        ('#.level', 'topic', 'plant/#', False),
        ('v1%2E2.*', 'topic', 'plant/v1.2/+', True),
        ('tank.level', 'direct', 'plant/tank/level', True),
        ('anything', 'fanout', 'plant/#', True),
    ],
)
def test_pattern_becomes_filter(pattern, exchange_type, text, exact):
    """What MQTT cannot express is subscribed to more widely and filtered by us."""
    found = filter_of(Binding('plant', exchange_type, pattern))

    assert (found.text, found.exact) == (text, exact)


def test_dead_letter_filters_leave_room_for_the_message_id():
    """A pattern sees the dead letters whose origin it matches."""
    found = filter_of(Binding('plant.dlq', 'topic', 'tank.*'))

    assert found.text == 'plant.dlq/tank/+/#'
    assert not found.exact


def test_dead_letter_topic_takes_any_message_id():
    """An id with slashes, or of any length, is one level."""
    assert dead_letter_topic('plant', 'tank.level', 'a/b#') == 'plant.dlq/tank/level/a%2Fb%23'
    assert len(dead_letter_topic('plant', '', 'x' * 70_000)) < 100


def test_identifier_is_valid_and_lasting():
    """A kept session is understood after a restart, so an identifier must not change."""
    assert identifier_of('plant/tank/+') == 190_705_630
    assert all(1 <= identifier_of(f'plant/{n}') <= MAX_IDENTIFIER for n in range(1000))


def test_session_ids_do_not_collide():
    """Dots in a name cannot make two services use one session."""
    assert session_id('a', 'b.c', 'd', 'plant') != session_id('a.b', 'c', 'd', 'plant')
    assert session_id('a', 'b', 'c', 'plant') == 'a.b.c@plant'


def test_group_name_is_one_level():
    """A group's name may hold what a filter gives a meaning to."""
    assert share('a/b+', 'plant/#') == '$share/a%2Fb%2B/plant/#'


def test_filters_matching_are_all_that_could_be():
    """A stale subscription is found by trying what matches the topic."""
    assert set(filters_matching('plant/tank')) == {
        'plant/#',
        'plant/tank',
        'plant/tank/#',
        'plant/+',
        'plant/+/#',
    }
    assert not list(filters_matching('plant' + '/x' * 20))


@pytest.mark.parametrize('text', ['a\nb', '\x7f', '\ufeff', '\uffff', '\U0001fffe', '\ud800'])
def test_unsafe_characters(text):
    """What MQTT strings must not hold is recognised."""
    assert not is_safe(text)


@pytest.mark.parametrize('text', ['', 'abc', 'größe', '😀', '日本'])
def test_safe_characters(text):
    """Everything else may pass."""
    assert is_safe(text)
