"""Tests of `service_scaffold.options`: what the command line, environment and files promise."""

from __future__ import annotations

import argparse
import dataclasses
import socket
import sys
import time
import tomllib
import warnings
from pathlib import Path

import pytest
from aiohttp import web

from service_scaffold import errors, options


def read(*arguments: str, name: str | None = 'greenhouse', **environ: str) -> dict[str, object]:
    return options.parse(options.create_parser(name), list(arguments), environ)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, **environ: str) -> str:
    """Return the message of the usage error that these arguments are."""
    with pytest.raises(SystemExit) as ended:
        read(*arguments, **environ)
    assert ended.value.code == 2
    return capsys.readouterr().err.split('error: ', 1)[1]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / 'greenhouse.toml'


# Defaults


def test_every_option_has_the_default_that_is_promised() -> None:
    config = read()

    assert config == {
        'config': None,
        'name': 'greenhouse',
        'host': '0.0.0.0',
        'port': 5000,
        'instance': socket.gethostname(),
        'info': '',
        'root_path': '',
        'trusted_proxies': ['127.0.0.0/8', '::1/128'],
        'cors_origins': ['*'],
        'max_body_mib': 1.0,
        'shutdown_timeout_s': 20.0,
        'pre_stop_s': 0.0,
        'print_config': False,
        'output': None,
        'debug': False,
        'log_level': 'info',
        'log_format': 'text',
        'eventbus_url': 'memory://',
        'eventbus_host': None,
        'eventbus_port': None,
        'eventbus_required': 'ready',
        'eventbus_declare': 'create',
        'eventbus_ca': None,
        'eventbus_cert': None,
        'eventbus_key': None,
        'publish_timeout_s': 5.0,
        'connect_timeout_s': 10.0,
        'mqtt_session_expiry_s': 86400,
        'asset_lease_s': 15.0,
        'asset_retention_s': 604800,
    }


def test_without_a_default_the_name_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read(name=None)

    assert '--name' in capsys.readouterr().err
    assert read('-n', 'x', name=None)['name'] == 'x'
    assert read(name=None, SERVICE_NAME='y')['name'] == 'y'


def test_arguments_default_to_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', ['program', '--port', '81'])
    monkeypatch.setenv('SERVICE_INFO', 'built today')

    config = options.parse(options.create_parser('x'))

    assert (config['port'], config['info']) == (81, 'built today')


def test_short_flags() -> None:
    config = read('-H', '::1', '-p81', '-n', 'shed', '-o', 'log.txt')

    assert [config[key] for key in ('host', 'port', 'name', 'output')] == [
        '::1',
        81,
        'shed',
        'log.txt',
    ]


# Precedence


def test_flag_before_environment_before_file_before_default(file: Path) -> None:
    file.write_text('port = 1\ninfo = "file"\nlog-level = "error"\n')

    config = read('-c', str(file), '--port', '3', SERVICE_PORT='2', SERVICE_INFO='environment')

    assert (config['port'], config['info'], config['log_level']) == (3, 'environment', 'error')
    assert config['host'] == '0.0.0.0'


@pytest.mark.parametrize('glued', ['-p3', '-p=3', '--port=3'])
def test_a_flag_in_any_spelling_outranks_the_environment(glued: str) -> None:
    assert read(glued, SERVICE_PORT='2')['port'] == 3


def test_a_switch_can_be_turned_off_above_a_file(file: Path) -> None:
    file.write_text('debug = true')

    assert read('-c', str(file))['debug'] is True
    assert read('-c', str(file), SERVICE_DEBUG='false')['debug'] is False
    assert read(SERVICE_DEBUG='1')['debug'] is True


def test_arguments_of_the_program_are_keys_and_variables_too(file: Path) -> None:
    file.write_text('interval-s = 3\nrooms = ["hall", "shed"]\n')
    parser = options.create_parser('x')
    parser.add_argument('--interval-s', type=float, default=5, help='[%(default)s]')
    parser.add_argument('--rooms', nargs='+')

    assert options.parse(parser, [], {})['interval_s'] == 5
    assert options.parse(parser, [], {'SERVICE_INTERVAL_S': '4'})['interval_s'] == 4
    found = options.parse(parser, ['-c', str(file)], {})
    assert (found['interval_s'], found['rooms']) == (3, ['hall', 'shed'])


def test_the_file_may_be_named_by_the_environment(file: Path) -> None:
    file.write_text('port = 7')

    assert read(SERVICE_CONFIG=str(file))['port'] == 7


# Files


def test_yaml_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / 'a.yml'
    path.write_text('port: 8\nlog_format: json\ntrusted-proxies: [10.0.0.0/8, 192.168.1.7]\n')

    config = read('-c', str(path))

    assert (config['port'], config['log_format']) == (8, 'json')
    assert config['trusted_proxies'] == ['10.0.0.0/8', '192.168.1.7/32']


@pytest.mark.parametrize('text', ['port = 8', 'port: 8'])
def test_without_an_extension_both_forms_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'config'
    path.write_text(text)

    assert read('-c', str(path))['port'] == 8


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    for name in ('a.toml', 'a.yaml'):
        (tmp_path / name).write_text('# nothing\n')
        assert read('-c', str(tmp_path / name))['port'] == 5000


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('prot = 1', "unknown key 'prot'; did you mean 'port'?"),
        ('eventbus_ulr = "x"', "unknown key 'eventbus_ulr'; did you mean 'eventbus-url'?"),
        ('config = "x"', "unknown key 'config'"),
        ('[eventbus]\nurl = "x"', "table 'eventbus'"),
        ('[port]\nx = 1', "key 'port': a table"),
        ('port = "5000"', "key 'port'"),
        ('port = "many"', "key 'port'"),
        ('port = true', "key 'port'"),
        ('port = 70000', "key 'port'"),
        ('port = [1, 2]', "key 'port'"),
        ('host = 5', "key 'host': 5: expected a text"),
        ('info = 5', "key 'info': 5: expected a text"),
        ('debug = "perhaps"', "key 'debug': 'perhaps': expected true or false"),
        ('publish-timeout-s = -1', "key 'publish-timeout-s'"),
        ('publish-timeout-s = nan', "key 'publish-timeout-s'"),
        ('log-format = "xml"', "key 'log-format': 'xml': choose from text, json"),
        ('port = 1\nport = 2', 'not TOML'),
        ('root-path = "a"\nroot_path = "b"', 'given twice'),
        ('port =', 'not TOML'),
    ],
)
def test_a_wrong_file_is_a_usage_error_that_names_file_and_key(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    file.write_text(text)

    said = refused(capsys, '-c', str(file))

    assert str(file) in said
    assert message in said


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('- port\n', 'no options at the top level'),
        ('port: [', 'not YAML'),
        ('port:\n', "key 'port': has no value"),
        ('eventbus:\n  url: x\n', "table 'eventbus'"),
        ('name: 12\n', "key 'name': 12: expected a text; put it in quotes"),
    ],
)
def test_wrong_yaml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    path = tmp_path / 'a.yaml'
    path.write_text(text)

    said = refused(capsys, '-c', str(path))

    assert str(path) in said
    assert message in said


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / 'none.toml')

    assert path in refused(capsys, '--config', path)


def test_a_file_that_is_not_text_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(b'\xff\xfe\x00')

    assert str(file) in refused(capsys, '-c', str(file))


def test_yaml_without_its_library_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'a.yaml'
    path.write_text('port: 1')
    monkeypatch.setitem(sys.modules, 'yaml', None)

    assert 'service-scaffold[yaml]' in refused(capsys, '-c', str(path))


# @file


@pytest.mark.parametrize(
    'text',
    [
        '--port\n81\n--info\nbuilt by hand\n',
        '--port=81\n--info=built by hand\n',
        '# comment\n\n--port 81 --info "built by hand"  # the end\n',
        "-p81\n--info 'built by hand'\n",
    ],
)
def test_arguments_from_a_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'arguments'
    path.write_text(text)

    config = read(f'@{path}', SERVICE_PORT='2')

    assert (config['port'], config['info']) == (81, 'built by hand')


def test_argument_files_may_name_others(tmp_path: Path) -> None:
    (tmp_path / 'inner').write_text('--port 9')
    (tmp_path / 'outer').write_text(f'@{tmp_path / "inner"}\n--debug')

    config = read(f'@{tmp_path / "outer"}')

    assert (config['port'], config['debug']) == (9, True)


def test_wrong_argument_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = tmp_path / 'loop'
    loop.write_text(f'@{loop}')

    assert 'nowhere' in refused(capsys, f'@{tmp_path / "nowhere"}')
    assert 'include each other' in refused(capsys, f'@{loop}')


# Environment


def test_names_of_platforms_fill_what_is_missing() -> None:
    config = read(
        PORT='81', ROOT_PATH='/proxy/', APP_UUID='mill-1', KAFKA_BROKER='k1:9092', STORAGE='{}'
    )

    assert (config['port'], config['root_path'], config['name']) == (81, '/proxy', 'mill-1')
    assert config['eventbus_url'] == 'kafka://k1:9092'


def test_our_names_outrank_those_of_platforms() -> None:
    config = read(
        PORT='1',
        SERVICE_PORT='2',
        APP_UUID='a',
        SERVICE_NAME='b',
        KAFKA_BROKER='k:1',
        SERVICE_EVENTBUS_URL='memory://x',
    )

    assert (config['port'], config['name'], config['eventbus_url']) == (2, 'b', 'memory://x')


def test_storage_fills_the_option_of_the_feature() -> None:
    parser = options.create_parser('x')
    parser.add_argument('--storage')

    assert options.parse(parser, [], {'STORAGE': '{"type": "memory"}'})['storage'] == (
        '{"type": "memory"}'
    )


def test_what_kubernetes_sets_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    environ = {'SERVICE_PORT': 'tcp://10.0.0.1:80', 'PORT': '81'}

    config = options.parse(options.create_parser('x'), [], environ)

    assert config['port'] == 81
    assert 'SERVICE_PORT' in caplog.text
    assert environ['SERVICE_PORT'] == 'tcp://10.0.0.1:80'


def test_an_empty_variable_is_a_missing_one() -> None:
    assert read(SERVICE_PORT='', PORT='81')['port'] == 81


def test_a_wrong_variable_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert 'environment variable SERVICE_PORT' in refused(capsys, SERVICE_PORT='x')
    assert 'environment variable SERVICE_DEBUG' in refused(capsys, SERVICE_DEBUG='perhaps')
    assert 'environment variable SERVICE_LOG_FORMAT' in refused(capsys, SERVICE_LOG_FORMAT='xml')
    # By the name that was set, not by the one that it stands for.
    assert 'environment variable PORT' in refused(capsys, PORT='x')


# Values


@pytest.mark.parametrize(
    'arguments',
    [
        ('--port', '65536'),
        ('--port', '-1'),
        ('--port', 'http'),
        ('--eventbus-port', '0'),
        ('--publish-timeout-s', '-1'),
        ('--publish-timeout-s', '0'),
        ('--publish-timeout-s', 'nan'),
        ('--connect-timeout-s', 'inf'),
        ('--shutdown-timeout-s', '-0.1'),
        ('--pre-stop-s', 'soon'),
        ('--max-body-mib', '0'),
        ('--mqtt-session-expiry-s', '-1'),
        ('--asset-lease-s', '0.5'),
        ('--asset-retention-s', '60'),
        ('--trusted-proxies', '10.0.0.0/99'),
        ('--cors-origins', 'example.com'),
        ('--name', 'a/b'),
        ('--name', ''),
        ('--host', ''),
        ('--root-path', 'http://x'),
        ('--eventbus-required', 'yes'),
        ('--eventbus-declare', 'no'),
        ('--eventbus-ca', 'no-such-file.pem'),
        ('--log-level', 'loud'),
        ('--no-such-option',),
        ('--eventbus-ur', 'memory://'),
        ('stray',),
    ],
)
def test_a_wrong_value_is_a_usage_error_that_names_the_option(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert arguments[0] in refused(capsys, *arguments)


def test_lists_and_paths_are_brought_into_one_form() -> None:
    config = read(
        *('--cors-origins', 'https://A.example/, http://b:3000'),
        *('--trusted-proxies', '10.1.2.3/8,::1'),
        *('--root-path', 'proxy/x/'),
        *('--log-level', 'WARNING'),
    )

    assert config['cors_origins'] == ['https://a.example', 'http://b:3000']
    assert config['trusted_proxies'] == ['10.0.0.0/8', '::1/128']
    assert (config['root_path'], config['log_level']) == ('/proxy/x', 'warning')


def test_an_empty_list_is_no_origin_and_no_proxy() -> None:
    config = read('--cors-origins', '', '--trusted-proxies', '')

    assert (config['cors_origins'], config['trusted_proxies']) == ([], [])


def test_a_key_needs_its_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pem = tmp_path / 'key.pem'
    pem.write_text('x')

    assert '--eventbus-cert' in refused(capsys, '--eventbus-key', str(pem))
    assert read('--eventbus-key', str(pem), '--eventbus-cert', str(pem))['eventbus_key'] == str(pem)


# Event bus


@pytest.mark.parametrize(
    'url',
    [
        'memory://',
        'memory://shared',
        'amqp://localhost',
        'amqp://user:p%40ss@rabbit:5672/vhost',
        'amqps://rabbit',
        'kafka://k1:9092,k2:9092',
        'kafka+ssl://u:p@k1:9093?sasl=SCRAM-SHA-256',
        'mqtt://[::1]:1883',
        'mqtts://broker',
    ],
)
def test_urls_of_every_bus_are_accepted(url: str) -> None:
    assert read('--eventbus-url', url)['eventbus_url'] == url


@pytest.mark.parametrize(
    'url',
    [
        'redis://user:hunter22@h',
        'hunter22',
        'amqp://user:hunter22@h:port',
        'amqp://user:hunter22@h:99999',
        'amqp:/user:hunter22@h',
        'amqp://user:hunt/er22@h',
        'amqp://user:hunter22@h /x',
        '://hunter22',
    ],
)
def test_a_wrong_url_names_the_option_and_no_credentials(
    capsys: pytest.CaptureFixture[str], file: Path, url: str
) -> None:
    file.write_text(f'eventbus-url = "{url}"')

    for said in (
        refused(capsys, '--eventbus-url', url),
        refused(capsys, SERVICE_EVENTBUS_URL=url),
        refused(capsys, '-c', str(file)),
    ):
        assert 'eventbus-url' in said.lower().replace('_', '-')
        assert 'hunter22' not in said
        assert 'er22' not in said


@pytest.mark.parametrize('where', ['file', 'environment'])
def test_an_item_of_a_list_is_never_a_flag(
    capsys: pytest.CaptureFixture[str], file: Path, where: str
) -> None:
    file.write_text('tags = ["a", "--debug"]' if where == 'file' else '')
    variables = {'SERVICE_TAGS': '[a, --debug]'} if where == 'environment' else {}
    parser = options.create_parser('plant')
    parser.add_argument('--tags', nargs='+')

    with pytest.raises(SystemExit):
        options.parse(parser, ['--config', str(file)], variables)

    assert "'--debug': an item of a list cannot begin with '-'" in capsys.readouterr().err


def test_an_item_of_a_list_may_be_a_negative_number(file: Path) -> None:
    file.write_text('levels = [1, -2.5]')
    parser = options.create_parser('plant')
    parser.add_argument('--levels', nargs='+', type=float)

    assert options.parse(parser, ['--config', str(file)], {})['levels'] == [1, -2.5]


def test_a_mistyped_option_shows_no_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, '--evntbus-url=amqp://user:hunter22@h')

    assert '--evntbus-url' in said
    assert 'hunter22' not in said


@pytest.mark.parametrize(
    ('argument', 'meant'),
    [('--prot', '--port'), ('--log_level=debug', '--log-level'), ('--extra-s', '--extra')],
)
def test_a_mistyped_option_names_the_nearest(
    capsys: pytest.CaptureFixture[str], argument: str, meant: str
) -> None:
    parser = options.create_parser('plant')
    parser.add_argument('--extra')
    with pytest.raises(SystemExit):
        options.parse(parser, [argument], {})

    assert f'unrecognized arguments: {argument}; did you mean {meant}?' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'url'),
    [
        (('--eventbus-host', 'rabbit'), 'amqp://rabbit:5672'),
        (('--eventbus-port', '5673'), 'amqp://localhost:5673'),
        (('--eventbus-host', 'rabbit', '--eventbus-port', '5673'), 'amqp://rabbit:5673'),
        (('--eventbus-host', '::1'), 'amqp://[::1]:5672'),
    ],
)
def test_host_and_port_are_short_for_a_url(arguments: tuple[str, ...], url: str) -> None:
    assert read(*arguments)['eventbus_url'] == url


@pytest.mark.parametrize('short', [('--eventbus-host', 'h'), ('--eventbus-port', '1')])
def test_shorthand_and_url_together_are_a_usage_error(
    capsys: pytest.CaptureFixture[str], short: tuple[str, ...]
) -> None:
    for said in (
        refused(capsys, *short, '--eventbus-url', 'memory://'),
        refused(capsys, *short, SERVICE_EVENTBUS_URL='memory://'),
    ):
        assert '--eventbus-url' in said
        assert short[0] in said


# --print-config


def test_print_config_shows_values_sources_and_no_secrets(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text('info = "from file"')
    parser = options.create_parser('x')
    parser.add_argument('--db-password', default='letmein')
    arguments = [
        *('--print-config', '-p81', '-c', str(file)),
        *('--eventbus-url', 'amqp://me:hunt"er22@rabbit/?heartbeat=1'),
    ]

    with pytest.raises(SystemExit) as ended:
        options.parse(parser, arguments, {'SERVICE_HOST': 'localhost'})

    assert ended.value.code == 0
    shown = capsys.readouterr().out
    lines = {line.split(' ', 1)[0]: line for line in shown.splitlines()}
    assert lines['port'].split() == ['port', '=', '81', '#', 'flag']
    assert lines['host'].endswith('# environment SERVICE_HOST')
    assert lines['info'].endswith(f'# file {file}')
    assert lines['log-level'].endswith('# default')
    assert '***@rabbit' in lines['eventbus-url']
    for secret in ('er22', 'me:', 'letmein'):
        assert secret not in shown
    assert tomllib.loads(shown)['trusted-proxies'] == ['127.0.0.0/8', '::1/128']


# Declaring


def test_a_feature_declares_its_options_in_a_table_of_its_own() -> None:
    table = (
        options.Option('store-path', 'Where data is kept', default='/data'),
        options.Option('store-key', 'Key of the data', secret=True),
        options.Option('store-sync', 'Write through', switch=True),
    )
    parser = options.create_parser('x')

    options.add_options(parser, table, 'store')
    options.add_options(parser, table, 'store')
    config = options.parse(parser, ['--store-sync'], {'SERVICE_STORE_KEY': 'k'})

    assert (config['store_path'], config['store_key'], config['store_sync']) == ('/data', 'k', True)
    assert parser.is_secret('store_key')
    assert table[0].variable == 'SERVICE_STORE_PATH'


def test_an_option_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.OPTIONS[0].default = 1  # type: ignore[misc]


def test_the_table_and_the_parser_agree() -> None:
    parser = options.create_parser('x')
    flags = {flag for action in parser._actions for flag in action.option_strings}

    assert {f'--{option.name}' for option in options.OPTIONS} == {
        flag for flag in flags if flag.startswith('--')
    } - {'--help', '--config'}


def test_help_names_each_environment_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read('--help')

    assert ended.value.code == 0
    shown = ''.join(capsys.readouterr().out.split())
    for option in options.OPTIONS:
        assert f'[envvar:{option.variable}]' in shown


def test_a_parser_of_another_make_is_refused() -> None:
    with pytest.raises(TypeError, match=r'create_parser\(\)'):
        options.parse(argparse.ArgumentParser(), [], {})


def test_nothing_but_the_given_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('SERVICE_PORT', '81')

    assert options.parse(options.create_parser('x'), [], {})['port'] == 5000


def test_a_switch_that_is_on_has_a_flag_that_turns_it_off() -> None:
    parser = options.create_parser('x')
    options.add_options(
        parser,
        (
            options.Option('serve', 'Serve', switch=True, default=True),
            options.Option('echo', 'Echo', switch=True, negatable=True),
        ),
    )

    assert options.parse(parser, [], {}).items() >= {'serve': True, 'echo': None}.items()
    config = options.parse(parser, ['--no-serve'], {'SERVICE_ECHO': 'no'})
    assert config.items() >= {'serve': False, 'echo': False}.items()
    assert options.parse(parser, ['--serve'], {'SERVICE_SERVE': 'false'})['serve'] is True


def test_an_alias_is_the_same_option() -> None:
    parser = options.create_parser('x')
    options.add_options(parser, [options.Option('log-url', 'Log', aliases=('--broker',))])

    assert options.parse(parser, ['--broker', 'b'], {'SERVICE_LOG_URL': 'c'})['log_url'] == 'b'


# Keywords of ready-made apps


def test_a_keyword_may_be_an_object() -> None:
    parser = options.create_parser('x')
    options.add_options(parser, [options.Option('rules', 'Rules', takes=(dict,))])
    rules = {'a': [1]}

    options.apply_keywords(parser, {'rules': rules})

    assert options.parse(parser, [], {})['rules'] is rules


def test_keywords_are_defaults() -> None:
    parser = options.create_parser()
    kept = options.apply_keywords(
        parser, {'name': 'mill', 'port': 81, 'log_level': 'INFO', 'x_mine': 1, 'info': None}
    )

    config = options.parse(parser, [], {'SERVICE_PORT': '82'})

    assert kept == {'x_mine': 1}
    assert (config['name'], config['port'], config['log_level']) == ('mill', 82, 'info')
    assert config['info'] == ''


def test_an_unknown_keyword_names_the_nearest_option() -> None:
    with pytest.raises(TypeError, match=r"'eventbus_uri'; did you mean 'eventbus_url'\?"):
        options.apply_keywords(options.create_parser('x'), {'eventbus_uri': 'memory://'})


@pytest.mark.parametrize(
    'keywords',
    [{'port': -1}, {'port': True}, {'debug': 'x'}, {'log_format': 'xml'}, {'eventbus_url': 'a:b'}],
)
def test_a_wrong_keyword_names_the_option(keywords: dict[str, object]) -> None:
    with pytest.raises(errors.ConfigError, match=next(iter(keywords))):
        options.apply_keywords(options.create_parser('x'), keywords)


def test_lists_are_accepted_as_keywords() -> None:
    parser = options.create_parser('x')
    options.apply_keywords(parser, {'cors_origins': ['http://a', 'http://b'], 'debug': True})

    config = options.parse(parser, [], {})

    assert (config['cors_origins'], config['debug']) == (['http://a', 'http://b'], True)


@pytest.mark.parametrize(
    ('keywords', 'arguments', 'url'),
    [
        ({'eventbus_url': 'kafka://k'}, ['--eventbus-host', 'h'], 'amqp://h:5672'),
        ({'eventbus_host': 'h'}, [], 'amqp://h:5672'),
        ({'eventbus_host': 'h'}, ['--eventbus-url', 'kafka://k'], 'kafka://k'),
    ],
)
def test_what_the_user_gives_outranks_a_keyword_for_the_bus(
    keywords: dict[str, object], arguments: list[str], url: str
) -> None:
    parser = options.create_parser('x')
    options.apply_keywords(parser, keywords)

    assert options.parse(parser, arguments, {})['eventbus_url'] == url


# In an application


def test_the_configuration_stands_under_both_keys_without_a_warning() -> None:
    app = web.Application()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        options.store_config(app, {'port': 1})

    assert app['config'] is app[options.CONFIG]
    assert options.get_config(app) == {'port': 1}


def test_only_that_warning_is_hidden() -> None:
    app = web.Application()
    options.store_config(app, {})

    with pytest.warns(web.NotAppKeyWarning):
        app['mine'] = 1


# Masking


@pytest.mark.parametrize(
    ('text', 'masked'),
    [
        ('no url', 'no url'),
        ('to amqp://guest:secret@rabbit:5672/v and on', 'to amqp://***@rabbit:5672/v and on'),
        ("'kafka://u:s@h1:1,h2:2'", "'kafka://***@h1:1,h2:2'"),
        ('amqp://u:p@ss/wo#rd@h/', 'amqp://***@h/'),
        ('mqtt://token@broker', 'mqtt://***@broker'),
        ('http://host:8080/users/me@example.com', 'http://host:8080/users/me@example.com'),
        ('http://host/a?token=abc&b=1', 'http://host/a?token=***&b=1'),
        ('GET /a?token=abc&b=1 HTTP/1.1', 'GET /a?token=***&b=1 HTTP/1.1'),
        ('mqtt://h:1883', 'mqtt://h:1883'),
        ('amqp://[::1]:5672/', 'amqp://[::1]:5672/'),
    ],
)
def test_text_is_masked(text: str, masked: str) -> None:
    assert options.mask_text(text) == masked


def test_masking_a_long_text_takes_no_long_time() -> None:
    text = 'a' * 500_000 + '://' + '?' * 200_000 + 'b' * 200_000
    began = time.process_time()

    assert options.mask_text(text) == text

    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ('url', 'masked'),
    [
        ('amqp://u:p@h/v', 'amqp://***@h/v'),
        ('amqp://u:p @"@h/v', 'amqp://***@h/v'),
        ('memory://', 'memory://'),
        ('kafka://h?sasl_password=x', 'kafka://h?sasl_password=***'),
        ('not a url', 'not a url'),
    ],
)
def test_a_url_is_masked(url: str, masked: str) -> None:
    assert options.mask_url(url) == masked


def test_the_documentation_has_a_row_for_each_option() -> None:
    page = (Path(__file__).parent.parent / 'docs' / 'options.md').read_text()

    for option in options.OPTIONS:
        assert f'--{option.name}`' in page
    assert all(f'| `{flag}/' in page for flag in ('-H', '-p', '-n', '-o', '-c'))
