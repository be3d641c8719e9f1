"""Tests of `service_scaffold.errors`."""

from __future__ import annotations

import inspect

import pytest

from service_scaffold import errors

SIGNALS = {'Reject', 'RetryLater', 'RepeaterCancelled'}


def every_class() -> list[type[Exception]]:
    return [
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, Exception)
    ]


def test_every_error_is_in_the_one_tree_and_in_its_drawing() -> None:
    drawing = errors.__doc__ or ''

    for found in every_class():
        assert found.__name__ in drawing
        assert issubclass(found, errors.ScaffoldError) == (found.__name__ not in SIGNALS)


@pytest.mark.parametrize(
    ('error', 'builtin'),
    [
        (errors.ConfigError, AssertionError),
        (errors.UnknownFeature, KeyError),
        (errors.FeatureExists, KeyError),
        (errors.FeatureMismatch, AssertionError),
        (errors.EncodeError, ValueError),
        (errors.InvalidBody, ValueError),
        (errors.PublishError, ConnectionError),
        (errors.BrokerUnreachable, ConnectionError),
    ],
)
def test_a_leaf_is_also_the_builtin_that_users_catch(
    error: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)


@pytest.mark.parametrize('error', [errors.UnknownFeature, errors.FeatureExists])
def test_key_errors_show_their_text_as_it_is(error: type[Exception]) -> None:
    assert str(error('No feature for X')) == 'No feature for X'


@pytest.mark.parametrize(
    ('phase', 'maybe_sent'), [('connect', False), ('send', True), ('confirm', True)]
)
def test_publish_error_tells_whether_the_broker_may_have_it(
    phase: errors.Phase, maybe_sent: bool
) -> None:
    error = errors.PublishError('no confirm', phase=phase, failed=(1, 2))

    assert error.maybe_sent is maybe_sent
    assert error.failed == (1, 2)


def test_remote_error_carries_type_and_message_only() -> None:
    error = errors.RemoteError('ValueError', 'too hot')

    assert (error.type, error.message, str(error)) == (
        'ValueError',
        'too hot',
        'ValueError: too hot',
    )


@pytest.mark.parametrize('after_s', [-1, 60.1, float('nan')])
def test_retry_later_refuses_other_than_a_minute(after_s: float) -> None:
    with pytest.raises(ValueError, match='after_s'):
        errors.RetryLater(after_s)


def test_retry_later_keeps_its_delay() -> None:
    assert errors.RetryLater(60).after_s == 60
    assert errors.RetryLater().after_s is None
