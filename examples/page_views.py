"""Joins page views with the users who looked, and counts views by country.

python examples/page_views.py worker
curl -X POST localhost:6066/users/ann -d '{"country": "NL"}'
curl -X POST localhost:6066/views -d '{"page": "/home", "user": "ann"}'
curl localhost:6066/countries/NL
"""

from __future__ import annotations

import msgspec

from service_scaffold.apps import StreamApp
from service_scaffold.streams import Record


class User(Record):
    """Who looks at pages."""

    country: str


class View(Record):
    """That somebody has looked at a page."""

    page: str
    user: str


app = StreamApp('page_views')
profiles = app.topic('profiles', value_type=User, partitions=4)
views = app.topic('views', value_type=View, partitions=4)
by_country = app.topic('views_by_country', value_type=View, partitions=4)
users = app.Table('users', value_type=User)
counts = app.Table('counts', default=int)


@app.agent(profiles)
async def remember(stream):
    """Keep what is known of each user."""
    async for name, user in stream.items():
        users[name] = user


@app.agent(views)
async def locate(stream):
    """Find the country of each view; its key is the page, so it must come to its user first."""
    async for view, user in stream.group_by(View.user).join(users, how='left'):
        country = 'unknown' if user is None else user.country
        await by_country.send(key=country, value=view)


@app.agent(by_country)
async def count(stream):
    """Count."""
    async for country, _ in stream.items():
        counts[country] += 1


@app.page('/users/{name}')
class Users:
    """Who is known."""

    async def post(self, request, name):
        """Tell of a user."""
        user = msgspec.json.decode(await request.read(), type=User)
        await profiles.send(key=name, value=user)
        return self.json({}, status=202)

    @app.table_route(users, match_info='name')
    async def get(self, request, name):
        """Show a user, null if nobody knows of one."""
        return self.json(users.get(name))


@app.page('/views')
async def add_view(web, request):
    """Take a view."""
    view = msgspec.json.decode(await request.read(), type=View)
    await views.send(key=view.page, value=view)
    return web.json({}, status=202)


@app.page('/countries/{country}')
@app.table_route(counts, match_info='country')
async def show(web, request, country):
    """Show how often a country has looked."""
    return web.json({'country': country, 'views': counts[country]})


if __name__ == '__main__':
    app.main()
