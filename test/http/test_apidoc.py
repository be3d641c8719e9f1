"""The API page and its document."""

from datetime import date
from decimal import Decimal

import pytest
from aiohttp import web
from marshmallow import Schema, fields

from service_scaffold.http import apidoc
from test.http.serving import serving


class Level(Schema):
    litres = fields.Float(required=True)


@apidoc.docs(tags=['tanks'], summary='Set the level of a tank')
@apidoc.json_schema(Level)
@apidoc.response_schema(Level, 200)
async def set_level(request):
    return web.json_response(request['json'])


class Limits(Schema):
    least = fields.Decimal(load_default=Decimal('1.5'))
    since = fields.Date(load_default=date(2026, 1, 2))


@apidoc.docs(summary='Anything')
@apidoc.json_schema(Limits)
async def anything(request):
    return web.Response()


class Tank(web.View):
    @apidoc.docs(summary='Empty a tank')
    async def delete(self):
        return web.Response()


def add_routes(app):
    app.router.add_post('/tanks/{tank}', set_level)
    app.router.add_view('/view', Tank)
    app.router.add_route('*', '/any', anything)
    sub = web.Application()
    sub.router.add_post('/set', set_level)
    app.add_subapp('/sub', sub)


async def document(*args, **headers):
    async with serving(*args, routes=add_routes) as client:
        return await (await client.get('/plant/api/doc/swagger.json', headers=headers)).json()


async def test_the_document_describes_every_decorated_route():
    """Views and sub-apps included, under their full paths."""
    found = await document()

    assert found['info']['title'] == 'plant'
    operation = found['paths']['/plant/tanks/{tank}']['post']
    assert operation['summary'] == 'Set the level of a tank'
    assert {p['in'] for p in operation['parameters']} == {'body', 'path'}
    assert found['paths']['/plant/view']['delete']['summary'] == 'Empty a tank'
    assert '/plant/sub/set' in found['paths']


async def test_a_route_of_every_method_is_described_for_each():
    found = (await document())['paths']['/plant/any']

    assert found.keys() >= {'get', 'post', 'put', 'patch', 'delete'}
    assert {operation['summary'] for operation in found.values()} == {'Anything'}


async def test_defaults_of_any_type_are_json():
    found = (await document())['definitions']['Limits']['properties']

    assert (found['least']['default'], found['since']['default']) == (1.5, '2026-01-02')


async def test_every_operation_has_responses_and_each_a_description():
    """Swagger demands both, and clients generated from the document fail without."""
    for path in (await document())['paths'].values():
        for operation in path.values():
            assert operation['responses']
            assert all(response['description'] for response in operation['responses'].values())


async def test_a_second_application_describes_the_same_handlers():
    """The library takes descriptions apart while it reads; ours must survive that."""
    assert await document() == await document()


async def test_our_own_endpoints_are_documented_once():
    found = await document()

    for name in ('status', 'live', 'ready', 'metrics'):
        assert found['paths'][f'/plant/_service/{name}']['get']['tags'] == ['service']
    assert not [path for path in found['paths'] if not path.startswith('/plant/')]


@pytest.mark.parametrize('page', ['/plant/api/doc', '/plant/api/doc/'])
async def test_everything_on_the_page_comes_from_the_service(page):
    async with serving(routes=add_routes) as client:
        text = await (await client.get(page)).text()

        assert 'http' not in text.replace('https', 'http').split('<script>')[0].lower()
        for asset in ('swagger-ui.css', 'swagger-ui-bundle.js', 'swagger-ui-standalone-preset.js'):
            assert f'"/plant/api/doc/static/{asset}"' in text
            assert (await client.get(f'/plant/api/doc/static/{asset}')).status == 200


async def test_the_page_is_whole_under_any_prefix():
    async with serving(prefix='/gewächshaus') as client:
        for path in ('', '/swagger.json', '/static/swagger-ui.css'):
            assert (await client.get(f'/gewächshaus/api/doc{path}')).status == 200


async def test_behind_a_proxy_its_urls_carry_the_stripped_prefix():
    """By option, or by what a trusted proxy says of one request."""
    async with serving('--root-path', '/gate', routes=add_routes) as client:
        text = await (await client.get('/plant/api/doc')).text()
        assert '"/gate/plant/api/doc/swagger.json"' in text
        assert '"/gate/plant/api/doc/static/swagger-ui.css"' in text

    assert (await document('--root-path', '/gate'))['basePath'] == '/gate'
    assert (await document(**{'X-Forwarded-Prefix': '/other'}))['basePath'] == '/other'
    assert 'basePath' not in await document()


def test_only_decorators_are_re_exported():
    with pytest.raises(AttributeError, match='setup_aiohttp_apispec'):
        apidoc.setup_aiohttp_apispec  # noqa: B018
