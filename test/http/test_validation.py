"""Requests are validated against the schemas of the decorators."""

import warnings

import pytest
from aiohttp import web
from marshmallow import Schema, fields, pre_load

from service_scaffold import features, service
from service_scaffold.http import apidoc
from test.http.serving import serving


class Level(Schema):
    litres = fields.Float(required=True)


class Broken(Schema):
    @pre_load
    def look(self, data, **_keywords):
        raise ValueError('a bug')


class Trace(Schema):
    number = fields.Int(data_key='X-Number', required=True)


class Page(Schema):
    page = fields.Int()


class Where(Schema):
    tank = fields.Int()


def answer(*keys):
    async def handler(request):
        return web.json_response({key: request[key] for key in keys})

    return handler


class View(web.View):
    @apidoc.request_schema(Level)
    async def post(self):
        return web.json_response(self.request['data'])

    async def get(self):
        return web.json_response({})


def add_routes(app):
    add = app.router.add_post
    add('/json', apidoc.json_schema(Level)(answer('json', 'data')))
    add('/broken', apidoc.json_schema(Broken)(answer('json')))
    add('/data', apidoc.request_schema(Level)(answer('data')))
    add('/list', apidoc.request_schema(Level(many=True))(answer('data')))
    add('/headers', apidoc.headers_schema(Trace)(answer('headers')))
    add('/query', apidoc.querystring_schema(Page)(answer('querystring')))
    add('/form', apidoc.form_schema(Level)(answer('form')))
    add('/cookies', apidoc.cookies_schema(Page)(answer('cookies')))
    add('/path/{tank}/{other}', apidoc.match_info_schema(Where)(answer('match_info')))
    add('/both', apidoc.headers_schema(Trace)(apidoc.json_schema(Level)(answer('json'))))
    app.router.add_view('/view', View)
    sub = web.Application()
    sub.router.add_post('/json', apidoc.json_schema(Level)(answer('json')))
    app.add_subapp('/sub', sub)


async def post(path, **request):
    async with serving(routes=add_routes) as client:
        found = await client.post(f'/plant{path}', **request)
        return found.status, await found.json(content_type=None)


@pytest.mark.parametrize(
    ('path', 'request_', 'found'),
    [
        ('/json', {'json': {'litres': '3'}}, {'json': {'litres': 3.0}, 'data': {}}),
        ('/data', {'json': {'litres': 3}}, {'data': {'litres': 3.0}}),
        ('/list', {'json': [{'litres': 3}]}, {'data': [{'litres': 3.0}]}),
        ('/headers', {'headers': {'X-Number': '7'}}, {'headers': {'number': 7}}),
        ('/query?page=2', {}, {'querystring': {'page': 2}}),
        ('/form', {'data': {'litres': '3'}}, {'form': {'litres': 3.0}}),
        ('/cookies', {'headers': {'Cookie': 'page=2; other=x'}}, {'cookies': {'page': 2}}),
        ('/path/5/x', {}, {'match_info': {'tank': 5}}),
        ('/view', {'json': {'litres': 3}}, {'litres': 3.0}),
        ('/sub/json', {'json': {'litres': 3}}, {'json': {'litres': 3.0}}),
    ],
)
async def test_handlers_find_what_was_validated(path, request_, found):
    assert await post(path, **request_) == (200, found)


async def test_a_wrong_field_is_named():
    status, problem = await post('/json', json={'litres': 'many'})

    assert status == 422
    assert problem['errors'] == {'json': {'litres': ['Not a valid number.']}}
    assert 'json.litres' in problem['detail']


async def test_an_unknown_json_field_is_refused():
    status, problem = await post('/json', json={'litres': 3, 'colour': 'red'})

    assert (status, list(problem['errors']['json'])) == (422, ['colour'])


async def test_errors_of_all_locations_are_told_together():
    status, problem = await post('/both', json={})

    assert status == 422
    assert problem['errors'].keys() == {'headers', 'json'}


@pytest.mark.parametrize(
    ('path', 'content_type', 'body'),
    [
        ('/json', 'application/json', b'{'),
        ('/json', 'application/json', b'\xff'),
        ('/json', 'application/json; charset=none', b'{"litres": 3}'),
        ('/json', 'application/json', b'[' * 100_000),
        ('/json', 'application/json', b'{"litres": ' + b'9' * 5000 + b'}'),
        ('/form', 'multipart/form-data', b'litres'),
        ('/form', 'multipart/form-data; boundary=x', b'litres'),
        ('/form', 'multipart/form-data; boundary=x', b'--x\r\nno header\r\n\r\n3\r\n--x--\r\n'),
        ('/form', 'application/x-www-form-urlencoded; charset=none', b'litres=3'),
    ],
)
async def test_a_body_that_cannot_be_read_is_a_400(path, content_type, body, caplog):
    """And no failure of ours: nothing is logged."""
    status, problem = await post(path, data=body, headers={'Content-Type': content_type})

    assert (status, problem['status']) == (400, 400)
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_schema_that_fails_is_our_failure():
    assert (await post('/broken', json={'litres': 3}))[0] == 500


async def test_keys_of_a_request_are_set_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert (await post('/data', json={'litres': 3}))[0] == 200


async def test_services_without_schemas_have_no_validation():
    """It would cost time on each request."""
    async with serving() as bare, serving(routes=add_routes) as full:
        assert len(full.app.middlewares) == len(bare.app.middlewares) + 1


async def test_a_service_may_start_again():
    app = service.create_app('plant', raw_args=[])
    add_routes(app)
    service.furnish(app)
    for _ in range(2):
        runner = web.AppRunner(app)
        await runner.setup()
        await runner.cleanup()

    assert features.get_lifecycle(app).state == 'stopped'
