"""The process that is killed: it announces itself, and again after each lost connection."""

from __future__ import annotations

import argparse
import asyncio

from service_scaffold import errors, transports
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Settings

PAUSE_S = 0.2


async def announce(options: argparse.Namespace) -> None:
    """Be there until the process ends."""
    settings = Settings(
        Address.parse(options.url), namespace=options.namespace, lease_s=options.lease_s
    )
    while True:
        transport = transports.open_transport(settings)
        assert transport.presence is not None
        transport.presence.announce(options.id, options.payload.encode())
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                await transport.connect()
            await transport.lost
        except (errors.ScaffoldError, TimeoutError) as error:
            print(error, flush=True)
        await transport.close()
        await asyncio.sleep(PAUSE_S)


def main() -> None:
    """Run until a signal ends it."""
    parser = argparse.ArgumentParser()
    for name in ('--url', '--namespace', '--id', '--payload'):
        parser.add_argument(name, required=True)
    parser.add_argument('--lease-s', type=float, required=True)
    asyncio.run(announce(parser.parse_args()))


if __name__ == '__main__':
    main()
