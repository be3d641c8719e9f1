"""Topics: exchange and routing in one string."""

from __future__ import annotations

import pytest

from service_scaffold.apps.distributed import topics


@pytest.mark.parametrize(
    ('topic', 'place'),
    [
        ('plant', ('plant', '')),
        ('plant/tank', ('plant', 'tank')),
        ('plant/tank/level', ('plant', 'tank.level')),
        ('plant.dlq/tank', ('plant.dlq', 'tank')),
    ],
)
def test_a_topic_is_an_exchange_and_perhaps_a_routing(topic, place):
    assert topics.split(topic) == place
    assert topics.join(*place) == topic


def test_words_may_be_joined_by_dots_too():
    assert topics.split('plant/tank.level') == topics.split('plant/tank/level')


@pytest.mark.parametrize(
    ('topic', 'place'),
    [
        ('plant', ('plant', '#')),
        ('plant/*/level', ('plant', '*.level')),
        ('plant/tank/#', ('plant', 'tank.#')),
    ],
)
def test_without_a_routing_all_of_an_exchange_is_subscribed_to(topic, place):
    assert topics.split_pattern(topic) == place


@pytest.mark.parametrize('topic', ['', '/plant', 'plant/', 'plant//level', 'a b', None, 3])
def test_what_is_no_topic_is_refused(topic):
    with pytest.raises(ValueError, match='Not a'):
        topics.split_pattern(topic)


def test_a_pattern_of_mqtt_is_refused_with_ours():
    with pytest.raises(ValueError, match=r'one word is \*'):
        topics.split_pattern('plant/+/level')


def test_nothing_is_published_to_a_pattern():
    with pytest.raises(ValueError, match='Not a routing key'):
        topics.split('plant/*')


def test_topics_are_listed_once_and_without_what_others_cover():
    assert topics.listed('a') == ('a',)
    assert topics.listed(['a/x', 'b', 'a/x']) == ('a/x', 'b')
    assert topics.listed(['a/x', 'a', 'b/y']) == ('a', 'b/y')
    with pytest.raises(ValueError, match='no topics'):
        topics.listed([])
    with pytest.raises(TypeError, match='a list of strings'):
        topics.listed(3)  # type: ignore[arg-type]
