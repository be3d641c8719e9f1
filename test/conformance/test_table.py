"""The table of skips cannot grow, or go stale, in silence."""

from __future__ import annotations

import pytest

from service_scaffold.testing import conformance

TESTS = """
import pytest
from service_scaffold.testing import conformance
from service_scaffold.transports import memory

class Control(conformance.BrokerControl):
    url = 'memory://table'
    breakable = False
    def stop(self): ...
    def half_open(self): ...
    def start(self): ...

class TestIt(conformance.Case):
    skips = {'test_listed': 'no log', 'test_could_run': 'lazy'}

    @pytest.fixture
    def broker(self):
        return Control()

    @conformance.needs('history')
    async def test_listed(self): ...

    @conformance.needs('history')
    async def test_not_listed(self): ...

    @conformance.needs('faults')
    async def test_not_breakable(self): ...

    @conformance.needs('knows_responders')
    async def test_could_run(self): ...

    async def test_runs(self): ...
"""
pytest_plugins = ['pytester']


def test_a_skip_must_be_listed_and_a_listed_test_must_skip(pytester: pytest.Pytester):
    """In both directions; what is listed rightly is skipped with its reason."""
    pytester.makepyfile(TESTS)

    result = pytester.runpytest_subprocess('-q', '-rs', '-p', 'no:cacheprovider')

    result.assert_outcomes(passed=1, skipped=1, errors=3)
    result.stdout.fnmatch_lines(['*no log*'])


def test_a_table_that_names_no_test_is_refused():
    """A renamed test cannot leave its entry behind."""
    with pytest.raises(TypeError, match='test_gone'):
        type('Stale', (conformance.Suite,), {'skips': {'test_gone': 'it was here'}})
