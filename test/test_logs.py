"""Tests of `service_scaffold.logs`."""

from __future__ import annotations

import json
import logging
import math
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_scaffold import errors, logs


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    for handler in set(logger.handlers) - set(handlers):
        handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)
    for name in ('aio_pika', 'aiormq', 'aiokafka', 'mqtt', 'aiohttp.access'):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def logger() -> logging.Logger:
    return logging.getLogger(f'test.{uuid.uuid4().hex}')


def failing(logger: logging.Logger, text: str) -> None:
    try:
        raise ConnectionError(text)
    except ConnectionError:
        logger.exception('no connection')


def test_a_text_line_has_time_level_name_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.init_logging({})

    logging.getLogger('greenhouse').info('%d plants', 3)

    line = capsys.readouterr().err
    assert line.endswith('INFO     greenhouse                      3 plants\n')
    assert line[:3] == '202'


def test_a_logger_of_a_module_fits_the_column(capsys: pytest.CaptureFixture[str]) -> None:
    name = 'greenhouse.devices.thermometers.outside'
    logs.init_logging({})

    logger = logs.get_logger(name)
    logger.info('hello')
    logging.getLogger(name).info('hello')

    assert len(logger.name) == 30
    assert name.endswith(logger.name.removeprefix('...'))
    short, plain = capsys.readouterr().err.splitlines()
    assert short.split('INFO')[1] == plain.split('INFO')[1]
    assert logs.get_logger('short').name == 'short'


def test_levels(capsys: pytest.CaptureFixture[str], logger: logging.Logger) -> None:
    logs.init_logging({'log_level': 'warning'})
    logger.info('quiet')
    logger.warning('loud')
    logs.init_logging({'log_level': 'warning', 'debug': True})
    logger.debug('everything')

    shown = capsys.readouterr().err
    assert 'quiet' not in shown
    assert 'loud' in shown
    assert 'everything' in shown


def test_calling_it_again_does_not_double_the_lines(
    capsys: pytest.CaptureFixture[str], logger: logging.Logger, tmp_path: Path
) -> None:
    config = {'output': str(tmp_path / 'log')}
    for _ in range(3):
        logs.init_logging(config)

    logger.info('once')

    assert capsys.readouterr().err.count('once') == 1
    assert (tmp_path / 'log').read_text().count('once') == 1


def test_handlers_of_others_stay(root: logging.Logger) -> None:
    mine = logging.NullHandler()
    root.addHandler(mine)

    logs.init_logging({})
    logs.init_logging({})

    assert mine in root.handlers


def test_the_file_is_a_new_one_each_day_and_seven_are_kept(
    root: logging.Logger, logger: logging.Logger, tmp_path: Path
) -> None:
    path = tmp_path / 'greenhouse.log'
    logs.init_logging({'output': str(path)})
    [handler] = [found for found in root.handlers if hasattr(found, 'doRollover')]
    for day in range(1, 10):
        (tmp_path / f'greenhouse.log.2020-01-0{day}').write_text('old')

    logger.info('yesterday')
    handler.doRollover()
    logger.info('today ü')

    assert path.read_text(encoding='utf-8').count('today ü') == 1
    assert 'yesterday' not in path.read_text()
    assert len(list(tmp_path.glob('greenhouse.log.*'))) == 7
    assert (handler.when, handler.backupCount) == ('MIDNIGHT', 7)


def test_a_file_that_cannot_be_written_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match='--output'):
        logs.init_logging({'output': str(tmp_path / 'none' / 'log')})


def test_json_is_one_object_a_line(
    capsys: pytest.CaptureFixture[str], logger: logging.Logger
) -> None:
    logs.init_logging({'log_format': 'json'})

    logger.info('two\nlines "ü" %s', 'here', extra={'plant': 'rose', 'count': 3, 'x': object})
    failing(logger, 'broken')
    logger.warning('here', stack_info=True)

    first, second, third = map(json.loads, capsys.readouterr().err.splitlines())
    assert first['message'] == 'two\nlines "ü" here'
    assert (first['level'], first['logger']) == ('info', logger.name)
    assert (first['plant'], first['count']) == ('rose', 3)
    assert 'exception' not in first
    assert second['exception'].endswith('ConnectionError: broken')
    assert 'test_json_is_one_object_a_line' in third['stack']


def test_extra_values_are_json_and_hide_nothing_of_the_line(
    capsys: pytest.CaptureFixture[str], logger: logging.Logger
) -> None:
    logs.init_logging({'log_format': 'json'})

    logger.info('full', extra={'level': 3, 'litres': math.inf})

    line = capsys.readouterr().err
    found = json.loads(line, parse_constant=pytest.fail)
    assert (found['level'], found['level_'], found['litres']) == ('info', 3, 'inf')


@pytest.mark.parametrize('log_format', ['text', 'json'])
def test_what_is_no_unicode_reaches_the_file(
    logger: logging.Logger, tmp_path: Path, log_format: str
) -> None:
    """Names of files and headers may hold any byte, as lone surrogates."""
    path = tmp_path / 'greenhouse.log'
    logs.init_logging({'log_format': log_format, 'output': str(path)})

    logger.info('from \udcff')

    assert 'from \\udcff' in path.read_text()


def test_options_that_are_declared_secret_are_not_logged(
    capsys: pytest.CaptureFixture[str], logger: logging.Logger
) -> None:
    """Whatever their name is."""
    logs.init_logging({'store_key': 'open sesame'}, {'store_key'})

    logger.info('opening with open sesame')

    assert 'opening with ***' in capsys.readouterr().err


@pytest.mark.parametrize('log_format', ['text', 'json'])
def test_no_credential_is_logged(
    capsys: pytest.CaptureFixture[str], logger: logging.Logger, log_format: str
) -> None:
    url = 'amqp://greta:hunt%40er22@rabbit/'
    logs.init_logging({'log_format': log_format, 'eventbus_url': url, 'db_password': 'sesame1'})

    logger.info('connecting to %s', url)
    logger.info('other %s', {'url': 'mqtt://anna:letmein@broker'}, extra={'broker': url})
    failing(logger, f'cannot reach {url}')
    failing(logger, 'login of greta with hunt@er22 refused; sesame1')

    shown = capsys.readouterr().err
    assert '***@rabbit' in shown
    for secret in ('hunt%40er22', 'hunt@er22', 'letmein', 'sesame1'):
        assert secret not in shown


def test_libraries_that_repeat_themselves_are_quiet_unless_debugging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.init_logging({})
    logging.getLogger('aiokafka.conn').error('again')
    assert capsys.readouterr().err == ''

    logs.init_logging({'debug': True})
    logging.getLogger('aiokafka.conn').error('again')
    assert 'again' in capsys.readouterr().err
    logs.init_logging({})
