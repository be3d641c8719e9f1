"""CA, certificate and key: what is wrong with them is said, on every transport alike."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from service_scaffold import errors
from service_scaffold.transports import open_transport
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Settings
from test.brokers.tls import Certificates

SCHEMES = ('amqps', 'kafka+ssl', 'mqtts')


async def refusal(scheme: str, **files: str) -> errors.BrokerUnreachable:
    """What comes of connecting with these files to where nobody listens."""
    address = Address.parse(f'{scheme}://127.0.0.1:1')
    with pytest.raises(errors.BrokerUnreachable) as refused:
        await open_transport(Settings(address, connect_timeout_s=2, **files)).connect()
    return refused.value


@pytest.mark.parametrize('scheme', SCHEMES)
async def test_an_authority_that_is_not_there(scheme: str) -> None:
    """It may be mounted later, so it is an outage like any other: publishing fails by its rules."""
    error = await refusal(scheme, ca='/nowhere/ca.pem')

    assert isinstance(error.__cause__, FileNotFoundError)


@pytest.mark.parametrize('scheme', SCHEMES)
async def test_a_key_with_a_pass_phrase_asks_nobody(scheme: str, tmp_path: Path) -> None:
    """The library would ask at the terminal, and the event loop stand still until then."""
    made = Certificates.make(tmp_path)
    key = serialization.load_pem_private_key(made.client_key.read_bytes(), None)
    made.client_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b'secret'),
        )
    )

    error = await refusal(scheme, cert=str(made.client_certificate), key=str(made.client_key))

    assert isinstance(error.__cause__, ssl.SSLError)
