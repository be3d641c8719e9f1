"""The options of a service: each is declared once, and read from flag, environment or file."""

from service_scaffold.options.declaration import Option, add_options
from service_scaffold.options.keywords import apply_keywords, nearest
from service_scaffold.options.parser import OptionParser, create_parser
from service_scaffold.options.reading import CONFIG, get_config, parse, store_config
from service_scaffold.options.secrets import mask_text, mask_url
from service_scaffold.options.table import OPTIONS, add_arguments

__all__ = [
    'CONFIG',
    'OPTIONS',
    'Option',
    'OptionParser',
    'add_arguments',
    'add_options',
    'apply_keywords',
    'create_parser',
    'get_config',
    'mask_text',
    'mask_url',
    'nearest',
    'parse',
    'store_config',
]
