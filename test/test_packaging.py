"""The wheel holds the whole package, and importing the service loads no client library."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = 'service_scaffold'
BUILD_FILES = ('setup.cfg', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'MANIFEST.in')
LAZY = (
    'aio_pika',
    'aiokafka',
    'aiomqtt',
    'aiohttp_apispec',
    'boto3',
    'botocore',
    'flask',
    'prometheus_client',
    'rocksdict',
)


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel built from a copy of the tree, so that no old build leaks in."""
    source = tmp_path_factory.mktemp('source')
    for name in BUILD_FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / PACKAGE, source / PACKAGE, ignore=shutil.ignore_patterns('__pycache__'))
    target = tmp_path_factory.mktemp('wheel')
    command = [sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', target]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = target.glob('*.whl')
    return set(zipfile.ZipFile(path).namelist())


def tracked() -> set[str]:
    """Return every file of the package in the tree, but what Python has compiled."""
    paths = (ROOT / PACKAGE).rglob('*')
    return {
        path.relative_to(ROOT).as_posix()
        for path in paths
        if path.is_file() and path.suffix != '.pyc'
    }


def test_the_wheel_holds_every_file_of_the_package(wheel):
    """Modules of every subpackage, and data files such as templates and pages."""
    assert tracked() - wheel == set()


def test_the_wheel_says_that_the_package_is_typed(wheel):
    """Without the marker, type checkers ignore all annotations."""
    assert f'{PACKAGE}/py.typed' in wheel


def test_the_wheel_holds_nothing_but_the_package(wheel):
    """Tests, benchmarks and the boilerplate stay out of other people's site-packages."""
    tops = {name.split('/')[0] for name in wheel}

    assert {top for top in tops if not top.endswith('.dist-info')} == {PACKAGE}


def test_importing_the_service_loads_no_client_library():
    """Brokers, metrics and the API page load when they are used."""
    code = f'import sys, {PACKAGE}.service; print(*(m for m in {LAZY} if m in sys.modules))'
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert (done.stderr, done.stdout.split()) == ('', [])
