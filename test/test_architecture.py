"""The dependency rule and the limits of size, read from the syntax tree.

Each check is a function from modules to sentences about what is wrong, so that it can be tried
on a few lines of source below as well as on the package.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = 'service_scaffold'
ROOT = Path(__file__).resolve().parent.parent

# From the bottom up. In an ordered layer a part may import what stands to its left, in the others
# the parts do not know each other. Anything may import a lower layer.
LAYERS: tuple[tuple[str, bool, tuple[str, ...]], ...] = (
    ('kernel', True, ('errors', 'message', 'clock', 'backoff')),
    ('ports', True, ('codecs', 'journal', 'transports')),
    ('runtime', True, ('options', 'logs', 'features', 'scheduler', 'repeater')),
    ('capabilities', False, ('events', 'http', 'http_client', 'storage')),
    ('on events', False, ('observe', 'streams', 'assets')),
    (
        'composition',
        True,
        ('stopping', 'server', 'service', 'apps', 'dashboard', 'cli', '__main__'),
    ),
)
BESIDE = 'testing'
# The first layer that may know aiohttp, by its index.
AIOHTTP_FROM = 2
# Packages that stand for one client library: one file imports them.
CLIENTS: tuple[frozenset[str], ...] = (
    frozenset({'aio_pika', 'aiormq', 'pamqp'}),
    frozenset({'aiokafka'}),
    frozenset({'aiomqtt', 'paho'}),
    frozenset({'flask'}),
    frozenset({'boto3', 'botocore', 's3transfer'}),
    frozenset({'rocksdict'}),
    frozenset({'aiohttp_apispec'}),
    frozenset({'prometheus_client'}),
)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


@dataclass(frozen=True)
class Module:
    """One module: its dotted name, whether it is an `__init__`, its source."""

    name: str
    source: str
    is_package: bool = False

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def part(self) -> str:
        """The first name below the root package, '' for the root itself."""
        return part_of(self.name)


Modules = dict[str, Module]
Check = Callable[[Modules], Iterator[str]]


def part_of(name: str) -> str:
    return name.removeprefix(PACKAGE).strip('.').partition('.')[0]


def read_package() -> Modules:
    modules = {}
    for path in sorted((ROOT / PACKAGE).rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        is_package = parts[-1] == '__init__'
        name = '.'.join(parts[:-1] if is_package else parts)
        modules[name] = Module(name, path.read_text(), is_package)
    return modules


def imports(module: Module) -> Iterator[tuple[str, str | None]]:
    """Yield (module, name) of every import, wherever it stands; name is None for `import x`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            source = absolute(module, node)
            for alias in node.names:
                yield source, alias.name


def absolute(module: Module, node: ast.ImportFrom) -> str:
    """Return the module that a relative import means."""
    if not node.level:
        return node.module or ''
    parts = module.name.split('.')
    up = node.level - (1 if module.is_package else 0)
    base = parts[: len(parts) - up]
    return '.'.join([*base, node.module] if node.module else base)


def inner_imports(module: Module, modules: Modules) -> Iterator[str]:
    """Yield the modules of the package that `module` imports, submodules told from names."""
    for source, name in imports(module):
        if source.split('.')[0] == PACKAGE:
            deeper = f'{source}.{name}'
            yield deeper if name and deeper in modules else source


def layer_of(part: str) -> tuple[int, int] | None:
    """Return the layer of a part and its place therein, None if the table lacks it."""
    for level, (_, _, parts) in enumerate(LAYERS):
        if part in parts:
            return level, parts.index(part)
    return None


def layers(modules: Modules) -> Iterator[str]:
    """A module imports only downward, and to the left in an ordered layer."""
    for module in modules.values():
        if module.part in ('', BESIDE):
            continue
        place = layer_of(module.part)
        if place is None:
            yield f'{module.name} has no layer; add it to LAYERS'
            continue
        for target in set(inner_imports(module, modules)):
            part = part_of(target)
            if part in ('', module.part, BESIDE):
                continue
            other = layer_of(part)
            ordered = LAYERS[place[0]][1]
            allowed = other is not None and (
                other[0] < place[0] or (ordered and other[0] == place[0] and other[1] < place[1])
            )
            if not allowed:
                yield f'{module.name} imports {target}, which is not below it'


def cycles(modules: Modules) -> Iterator[str]:
    """No module imports itself, over whatever detour."""
    graph = {name: set(inner_imports(module, modules)) - {name} for name, module in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield ' → '.join(reversed(error.args[1]))


def own_init(modules: Modules) -> Iterator[str]:
    """No module imports a name from the `__init__` of a package that it is in."""
    for module in modules.values():
        for source, name in imports(module):
            inside = module.name.startswith(f'{source}.') and source.split('.')[0] == PACKAGE
            if inside and name and name != '__version__' and f'{source}.{name}' not in modules:
                yield f'{module.name} imports {name} from its own package {source}'


def one_importer(modules: Modules) -> Iterator[str]:
    """Each client library is known to one file."""
    for packages in CLIENTS:
        importers = sorted(
            module.name
            for module in modules.values()
            if module.part != BESIDE
            and any(source.split('.')[0] in packages for source, _ in imports(module))
        )
        if len(importers) > 1:
            yield f'{"/".join(sorted(packages))} is imported by {", ".join(importers)}'


def aiohttp_is_high(modules: Modules) -> Iterator[str]:
    """Kernel and ports know nothing of HTTP."""
    for module in modules.values():
        place = layer_of(module.part)
        if place is not None and place[0] < AIOHTTP_FROM:
            for source, _ in imports(module):
                if source.split('.')[0] == 'aiohttp':
                    yield f'{module.name} imports {source}'


def beside_stays_beside(modules: Modules) -> Iterator[str]:
    """Nothing that is shipped to run needs the test helpers."""
    for module in modules.values():
        if module.part != BESIDE:
            for target in inner_imports(module, modules):
                if part_of(target) == BESIDE:
                    yield f'{module.name} imports {target}'


def no_type_checking(modules: Modules) -> Iterator[str]:
    """A block for type checkers may name a library that loads late, never a module of ours.

    That would be a dependency on paper only, and the way to hide a cycle.
    """
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
                block = Module(module.name, ast.unparse(node), module.is_package)
                for target in inner_imports(block, modules):
                    yield f'{module.name}:{node.lineno} imports {target} for type checkers only'


def exports(modules: Modules) -> Iterator[str]:
    """An `__init__` that re-exports says so: a sorted `__all__` whose names exist in it."""
    for module in modules.values():
        if not module.is_package:
            continue
        if module.name == PACKAGE:
            yield from bare_root(module)
            continue
        declared = declared_names(module)
        defined = defined_names(module)
        reexports = any(isinstance(node, ast.ImportFrom) for node in public_imports(module))
        if declared is None:
            if reexports:
                yield f'{module.name} re-exports without __all__'
            continue
        if declared != sorted(declared, key=sorting):
            yield f'{module.name}.__all__ is not sorted'
        lazy = '__getattr__' in defined
        for name in declared:
            if name not in defined and f'{module.name}.{name}' not in modules and not lazy:
                yield f'{module.name}.__all__ names {name}, which is not there'


def bare_root(module: Module) -> Iterator[str]:
    """The root holds a docstring and `__version__`, so that importing a part costs no other."""
    for node in module.tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        version = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__version__'
        if not docstring and not version:
            yield f'{module.name}:{node.lineno} has more than a docstring and __version__'


def public_imports(module: Module) -> Iterator[ast.ImportFrom]:
    """Yield imports from the package itself; those of other packages are for its own use."""
    for node in module.tree.body:
        if isinstance(node, ast.ImportFrom) and absolute(module, node).startswith(module.name):
            yield node


def sorting(name: str) -> tuple[int, str]:
    """Order names as ruff does: constants, classes, the rest."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name


def declared_names(module: Module) -> list[str] | None:
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__all__':
            names: list[str] = ast.literal_eval(node.value)
            return list(names)
    return None


def defined_names(module: Module) -> set[str]:
    names: set[str] = set()
    for node in module.tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, ast.AnnAssign):
            names.add(ast.unparse(node.target))
    return names


def file_sizes(modules: Modules) -> Iterator[str]:
    """A long file is two nouns; split it at 300 lines, at 400 at the latest."""
    for module in modules.values():
        lines = module.source.count('\n')
        if lines > MAX_FILE_LINES:
            yield f'{module.name} has {lines} lines'


def function_sizes(modules: Modules) -> Iterator[str]:
    """A function is read in one look."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    yield f'{module.name}.{node.name} has {lines} lines'


CHECKS: tuple[Check, ...] = (
    layers,
    cycles,
    own_init,
    one_importer,
    aiohttp_is_high,
    beside_stays_beside,
    no_type_checking,
    exports,
    file_sizes,
    function_sizes,
)


def parse(sources: dict[str, str]) -> Modules:
    """Return modules from `dotted.name: source`; a name that ends with a dot is a package."""
    modules = {}
    for dotted, source in sources.items():
        name = f'{PACKAGE}.{dotted}'.rstrip('.')
        modules[name] = Module(name, source, dotted.endswith('.') or not dotted)
    return modules


def name_of(check: Check) -> str:
    return check.__name__


@pytest.fixture(scope='module')
def package() -> Modules:
    """The modules of the package as they are in the tree."""
    return read_package()


@pytest.mark.parametrize('check', CHECKS, ids=name_of)
def test_the_package_keeps(check, package):
    """The package keeps each rule."""
    broken = '\n'.join(check(package))

    assert not broken, broken


def test_the_package_is_read_whole(package):
    """The checks above look at something."""
    assert {f'{PACKAGE}.errors', f'{PACKAGE}.transports'} <= set(package)


VIOLATIONS: tuple[tuple[Check, dict[str, str]], ...] = (
    (layers, {'errors': 'import service_scaffold.clock', 'clock': ''}),
    (layers, {'logs': 'from service_scaffold import events', 'events.': ''}),
    (layers, {'logs': 'def late():\n    from service_scaffold import events', 'events.': ''}),
    (layers, {'http.a': 'from ..events import b', 'http.': '', 'events.': '', 'events.b': ''}),
    (layers, {'unheard_of': ''}),
    (cycles, {'clock': 'from service_scaffold import logs', 'logs': 'from . import clock'}),
    (cycles, {'http.': 'from service_scaffold.http import a', 'http.a': 'from . import NAME'}),
    (own_init, {'http.a': 'from service_scaffold.http import NAME', 'http.': 'NAME = 1'}),
    (own_init, {'http.a': 'from . import NAME', 'http.': 'NAME = 1'}),
    (one_importer, {'http.a': 'import aiokafka', 'events.b': 'from aiokafka.errors import X'}),
    (one_importer, {'http.a': 'import aiormq', 'events.b': 'def f():\n    import aio_pika'}),
    (aiohttp_is_high, {'journal.a': 'from aiohttp import web'}),
    (beside_stays_beside, {'service': 'from service_scaffold import testing', 'testing.': ''}),
    (no_type_checking, {'logs': f'if TYPE_CHECKING:\n    import {PACKAGE}.errors', 'errors': ''}),
    (no_type_checking, {'logs': 'if t.TYPE_CHECKING:\n    from . import errors', 'errors': ''}),
    (exports, {'': 'import os'}),
    (exports, {'http.': 'from service_scaffold.http.a import b', 'http.a': ''}),
    (exports, {'http.': "from .a import b, c\n__all__ = ['c', 'b']", 'http.a': ''}),
    (exports, {'http.': "from .a import b\n__all__ = ['b', 'gone']", 'http.a': ''}),
    (file_sizes, {'logs': '\n' * 401}),
    (function_sizes, {'logs': 'def f():\n' + '    pass\n' * 60}),
)


@pytest.mark.parametrize(
    ('check', 'sources'), VIOLATIONS, ids=lambda value: getattr(value, '__name__', '')
)
def test_a_violation_is_found(check, sources):
    """Each check fails on a few lines that break its rule."""
    assert len(list(check(parse(sources)))) == 1


GOOD = {
    '': '"""Docstring."""\n__version__ = "1"\n',
    'errors': '',
    'clock': 'from service_scaffold import errors',
    'logs': 'if TYPE_CHECKING:\n    import aiokafka',
    'http.': "from .a import b\n__all__ = ['a', 'b']",
    'http.a': 'from service_scaffold.http import c\nfrom service_scaffold import clock',
    'http.c': 'from aiohttp import web\nimport prometheus_client',
    'testing.': 'from service_scaffold import http\nimport aiokafka',
}


@pytest.mark.parametrize('check', CHECKS, ids=name_of)
def test_a_sound_package_passes(check):
    """No check complains about what is allowed."""
    assert list(check(parse(GOOD))) == []
