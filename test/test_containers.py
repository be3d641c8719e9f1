"""Dockerfile and compose file, as far as they can be checked without an engine."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILES = sorted({*ROOT.glob('Dockerfile'), *ROOT.glob('boilerplate/Dockerfile')})
COMPOSE_FILES = sorted(ROOT.glob('docker-compose.yml')) + sorted(
    ROOT.glob('boilerplate/docker-compose.yml')
)
INSTRUCTIONS = {
    *('ARG', 'FROM', 'RUN', 'COPY', 'ENV', 'WORKDIR', 'USER', 'EXPOSE', 'HEALTHCHECK'),
    *('ENTRYPOINT', 'CMD', 'LABEL', 'VOLUME', 'STOPSIGNAL', 'SHELL', 'ADD'),
}


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith('#')]
    joined = re.sub(r'\\\n', ' ', '\n'.join(lines))
    pairs = [line.strip().partition(' ') for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in pairs]


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.fixture(params=DOCKERFILES, ids=ids(DOCKERFILES))
def dockerfile(request: pytest.FixtureRequest) -> Path:
    """Each Dockerfile of the project."""
    path: Path = request.param
    return path


@pytest.fixture(params=COMPOSE_FILES, ids=ids(COMPOSE_FILES))
def services(request: pytest.FixtureRequest) -> dict[str, dict[str, object]]:
    """The services of each compose file of the project."""
    found: dict[str, dict[str, object]] = yaml.safe_load(request.param.read_text())['services']
    return found


def test_every_instruction_is_known_and_the_first_names_an_image(dockerfile):
    """A misspelt instruction stops a build."""
    names = [name for name, _ in instructions(dockerfile.read_text())]

    assert set(names) <= INSTRUCTIONS
    assert next(name for name in names if name != 'ARG') == 'FROM'


def test_what_is_copied_exists(dockerfile):
    """Sources of COPY are in the directory of the Dockerfile and not ignored as a whole."""
    for name, rest in instructions(dockerfile.read_text()):
        words = shlex.split(rest)
        if name == 'COPY' and not rest.startswith('--from'):
            assert all((dockerfile.parent / word).exists() for word in words[:-1]), rest


def test_commands_are_lists_so_that_signals_arrive(dockerfile):
    """A shell as process 1 would swallow SIGTERM."""
    found = [
        rest for name, rest in instructions(dockerfile.read_text()) if name in {'ENTRYPOINT', 'CMD'}
    ]

    assert found
    assert all(isinstance(json.loads(rest), list) for rest in found)


def test_the_last_stage_leaves_root_and_reports_its_health(dockerfile):
    """No service needs root, and an orchestrator wants to know when it is ready."""
    pairs = instructions(dockerfile.read_text())
    last = max(index for index, (name, _) in enumerate(pairs) if name == 'FROM')
    stage = dict(pairs[last:])

    assert stage['USER'] not in {'root', '0'}
    assert '/_service/ready' in stage['HEALTHCHECK']


def test_services_have_an_image_or_are_built(services):
    """Neither is a service that compose refuses."""
    assert all(('image' in service) != ('build' in service) for service in services.values())


def test_brokers_are_optional_healthy_and_local(services):
    """Each broker has a profile and a health check, and no port beyond the loopback interface."""
    for name, service in services.items():
        assert all(str(port).startswith('127.0.0.1:') for port in service.get('ports', []))
        if 'image' in service:
            assert service['profiles'] == [name]
            assert service['healthcheck']['test'][0] == 'CMD'
