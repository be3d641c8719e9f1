"""Files of a service, wherever they are kept: on a disk, in memory, in S3.

storage.setup(app)
files = storage.get_storage(app).default
with files.open('reports/today.txt', 'w') as file:
    file.write('all is well')
"""

from service_scaffold.errors import StorageError
from service_scaffold.storage.base import Backend
from service_scaffold.storage.feature import Storages, get_storage, setup
from service_scaffold.storage.local import LocalBackend
from service_scaffold.storage.memory import MemoryBackend
from service_scaffold.storage.s3 import S3Backend
from service_scaffold.storage.settings import OPTIONS, add_arguments

__all__ = [
    'OPTIONS',
    'Backend',
    'LocalBackend',
    'MemoryBackend',
    'S3Backend',
    'StorageError',
    'Storages',
    'add_arguments',
    'get_storage',
    'setup',
]
