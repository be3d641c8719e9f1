"""Books seats: a page asks an agent, and no seat is sold twice, however many workers there are.

python examples/rpc.py worker
curl -X POST 'localhost:6066/bookings/hamlet?seats=7'
curl -X POST 'localhost:6066/bookings/hamlet?seats=7'     # 409: only 3 seats are left
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from service_scaffold import errors
from service_scaffold.apps import StreamApp
from service_scaffold.streams import Decision, Record


class Booking(Record):
    """What somebody wants."""

    show: str
    seats: int


class Booked(Record):
    """What they get."""

    show: str
    left: int


class SoldOut(Exception):
    """There are not so many seats left."""


app = StreamApp('rpc')
free = app.Table('free', default=10)


def decide(agent, error):
    """Do not try again what cannot be booked; whoever asked is told."""
    return Decision.SKIP if isinstance(error, SoldOut) else None


@app.agent(value_type=Booking, on_error=decide)
async def book(stream) -> AsyncIterator[Booked]:
    """Book: those of one show come here one after another, which is what their key is for."""
    async for booking in stream:
        left = free[booking.show] - booking.seats
        if left < 0:
            raise SoldOut(f'only {free[booking.show]} seats are left')
        free[booking.show] = left
        yield Booked(booking.show, left)


@app.page('/bookings/{show}')
async def post_booking(web, request, show):
    """Ask for seats, and wait for the answer."""
    booking = Booking(show, int(request.query['seats']))
    try:
        return web.json(await book.ask(booking, key=show, timeout=10))
    except errors.RemoteError as error:
        return web.error(409, error.message)


if __name__ == '__main__':
    app.main()
