"""Logging: text or JSON lines, a file that rotates, and never a credential."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Container, Iterable, Mapping
from datetime import UTC, datetime
from logging.handlers import TimedRotatingFileHandler
from urllib.parse import unquote

from service_scaffold import errors, options
from service_scaffold.options import secrets

NAME_WIDTH = 30
"""How wide the column of logger names is; of a longer name the end is shown."""

_TEXT = f'%(asctime)s %(levelname)-8s %(short_name)-{NAME_WIDTH}s  %(message)s'
_DATES = '%Y/%m/%d %H:%M:%S'
_KEPT_FILES = 7
_LEAST_SECRET = 6

# They log each attempt of an outage, which our supervisor reports in one line.
_CHATTY = {
    'aio_pika': logging.CRITICAL,
    'aiormq': logging.CRITICAL,
    'aiokafka': logging.CRITICAL,
    'mqtt': logging.CRITICAL,
    'aiohttp.access': logging.WARNING,
}


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module, under a name that fits the column: `get_logger(__name__)`.

    A name of more than 30 characters keeps its end. Plain `logging.getLogger` works as well.
    """
    return logging.getLogger(_short(name))


def init_logging(config: Mapping[str, object], secret_keys: Container[str] = ()) -> None:
    """Log as the options `output`, `debug`, `log_level` and `log_format` say.

    Called again it replaces what it set before; handlers of others stay as they are.

    Args:
        secret_keys: Keys of options that are never logged, besides those named like a secret.

    Raises:
        ConfigError: The file cannot be written.
    """
    debug = bool(config.get('debug'))
    level = 'DEBUG' if debug else str(config.get('log_level') or 'info').upper()
    handlers: list[logging.Handler] = [_ConsoleHandler()]
    if output := config.get('output'):
        handlers.append(_open_file(str(output)))
    hidden = tuple(_secrets(config, secret_keys))
    formatter = _JsonFormatter if config.get('log_format') == 'json' else _TextFormatter
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, (_ConsoleHandler, _FileHandler)):
            root.removeHandler(handler)
            handler.close()
    for handler in handlers:
        handler.setFormatter(formatter(hidden))
        root.addHandler(handler)
    root.setLevel(level)
    for name, quiet in _CHATTY.items():
        logging.getLogger(name).setLevel(logging.NOTSET if debug else quiet)


class _ConsoleHandler(logging.StreamHandler):  # type: ignore[type-arg]  # not generic at run time
    """Writes to standard error."""


class _FileHandler(TimedRotatingFileHandler):
    """Writes to a file of the day."""


def _open_file(path: str) -> logging.Handler:
    try:
        return _FileHandler(
            path,
            when='midnight',
            backupCount=_KEPT_FILES,
            encoding='utf-8',
            errors='backslashreplace',  # as on standard error: a line is never lost
        )
    except OSError as error:
        raise errors.ConfigError(f'--output: cannot write {path!r}: {error.strerror}') from error


class _Masking(logging.Formatter):
    """Formats a record without the credentials of URLs and the secrets of the configuration."""

    def __init__(self, hidden: Iterable[str], form: str | None = None) -> None:
        super().__init__(form, _DATES)
        self._hidden = tuple(hidden)

    def mask(self, text: str) -> str:
        for secret in self._hidden:
            if secret in text:
                text = text.replace(secret, '***')
        return options.mask_text(text)


class _TextFormatter(_Masking):
    def __init__(self, hidden: Iterable[str]) -> None:
        super().__init__(hidden, _TEXT)

    def format(self, record: logging.LogRecord) -> str:
        record.short_name = _short(record.name)
        return self.mask(super().format(record))


class _JsonFormatter(_Masking):
    """One object a line: time, level, logger, message, and exception, stack and extra values.

    An extra value that is named as one of these gets a trailing underscore.
    """

    _STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {'message', 'asctime', 'short_name'}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            'time': datetime.fromtimestamp(record.created, UTC).isoformat(timespec='milliseconds'),
            'level': record.levelname.lower(),
            'logger': record.name,
            'message': self.mask(record.getMessage()),
        }
        if record.exc_info:
            line['exception'] = self.mask(self.formatException(record.exc_info))
        if record.stack_info:
            line['stack'] = self.mask(record.stack_info)
        for name, value in vars(record).items():
            if name not in self._STANDARD:
                line[f'{name}_' if name in line else name] = self._plain(value)
        return json.dumps(line, ensure_ascii=False)

    def _plain(self, value: object) -> object:
        number = isinstance(value, (int, float)) and math.isfinite(value)  # JSON knows no others
        if value is None or number:
            return value
        return self.mask(str(value))


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f'...{name[-(NAME_WIDTH - 3) :]}'


def _secrets(config: Mapping[str, object], secret_keys: Container[str]) -> Iterable[str]:
    """Yield the secret values, and the passwords in URLs as written and as decoded."""
    for key, value in config.items():
        if not isinstance(value, str):
            continue
        is_secret = key in secret_keys or secrets.looks_secret(key)
        if is_secret and len(value) >= _LEAST_SECRET:
            yield value
        credentials, _, _ = value.partition('://')[2].rpartition('@')
        password = credentials.partition(':')[2]
        for form in {password, unquote(password)}:
            if len(form) >= _LEAST_SECRET:  # a shorter one would also mask ordinary words
                yield form
