"""The port: progress, settings, and how a transport is found."""

from __future__ import annotations

import pytest

from service_scaffold import errors, transports
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Binding, Progress, Settings
from service_scaffold.transports.memory import MemoryTransport


def test_progress_knows_which_positions_are_not_confirmed() -> None:
    calls: list[int] = []
    progress = Progress(lambda: calls.append(1))
    assert progress.phase == 'connect'
    progress.advance(2, (0, 3))
    progress.advance(1, [1])
    assert progress.unconfirmed(5) == (2, 4)
    assert (progress.confirmed, len(calls)) == (3, 2)


async def test_only_the_first_reason_of_a_loss_counts() -> None:
    transport = MemoryTransport(Settings(Address.parse('memory://base')))
    first = errors.ConnectionLost('first')
    transport.lose(first)
    transport.lose(errors.ConnectionLost('second'))
    assert transport.lost.result() is first
    await transport.close()


def test_a_transport_is_found_by_its_scheme_and_others_can_be_added() -> None:
    assert transports.find('memory') is MemoryTransport
    with pytest.raises(errors.ConfigError, match=r"'pigeon'.*amqp"):
        transports.find('pigeon')
    transports.register('pigeon', f'{__name__}:Pigeon')
    try:
        settings = Settings(Address.parse('pigeon://loft'))
        assert type(transports.open_transport(settings)).__name__ == 'Pigeon'
    finally:
        del transports.SCHEMES['pigeon']


class Pigeon(MemoryTransport):
    """Somebody's own."""


def test_bindings_and_settings_show_no_secrets() -> None:
    assert str(Binding('plant', 'topic', 'a.*')) == 'plant/a.*'
    assert 'secret' not in repr(Settings(Address.parse('amqp://u:secret@h')))
