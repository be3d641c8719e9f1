"""The pages: every Python block compiles; what is a whole program, an app or a test runs."""

from __future__ import annotations

import ast
import builtins
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r'^```python[^\n]*\n(.*?)^```', re.MULTILINE | re.DOTALL)
LIMIT_S = 60
PAGES_OF_STREAMS = ('streams', 'agents', 'windows', 'joins', 'coming-from-faust')


def blocks() -> list[tuple[str, str]]:
    """Return name and source of each Python block."""
    found = []
    for page in [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('**/*.md'))]:
        text = page.read_text()
        for match in _BLOCK.finditer(text):
            line = text.count('\n', 0, match.start()) + 1
            found.append((f'{page.relative_to(ROOT)}:{line}', match[1]))
    return found


BLOCKS = blocks()
ALL = pytest.mark.parametrize('source', [s for _, s in BLOCKS], ids=[name for name, _ in BLOCKS])


def tree_of(source: str) -> ast.Module:
    tree = compile(source, '<page>', 'exec', ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    return tree


def is_whole(tree: ast.Module) -> bool:
    """Tell whether a block needs nothing that it does not define, and does not run for ever."""
    return _is_complete(tree) and not _runs_for_ever(tree) and not _awaits_at_the_top(tree)


def _is_complete(tree: ast.Module) -> bool:
    stored = set(dir(builtins)) | {'__name__', '__file__'}
    loaded = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else stored).add(node.id)
        elif isinstance(node, ast.arg):
            stored.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            stored.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            stored.update((a.asname or a.name).partition('.')[0] for a in node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            stored.add(node.name)
    return loaded <= stored


def _runs_for_ever(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in ('service.run', 'app.main', 'app.run')
        for node in ast.walk(tree)
    )


def _awaits_at_the_top(tree: ast.Module) -> bool:
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Await | ast.AsyncWith | ast.AsyncFor):
            return True
        todo.extend(ast.iter_child_nodes(node))
    return False


def is_app(tree: ast.Module) -> bool:
    """Tell whether a block declares an application of streams, and does not run it itself."""
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return _is_complete(tree) and 'StreamApp' in called and 'asyncio.run' not in called


def test_there_are_pages_to_look_at() -> None:
    assert len(BLOCKS) > 10
    assert any(is_whole(tree_of(source)) for _, source in BLOCKS)


@ALL
def test_every_block_compiles(source: str) -> None:
    tree_of(source)


@pytest.mark.parametrize(
    ('name', 'source'),
    [block for block in BLOCKS if is_whole(tree_of(block[1]))],
    ids=[name for name, source in BLOCKS if is_whole(tree_of(source))],
)
def test_every_whole_program_runs(tmp_path: Path, name: str, source: str) -> None:
    """Tests with pytest, everything else by itself; as a reader would, in an empty directory."""
    program = tmp_path / 'test_page.py'
    program.write_text(source)
    tests = any(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and
                n.name.startswith('test_') for n in ast.walk(tree_of(source)))  # fmt: skip
    command = [sys.executable, str(program)]
    if tests:
        (tmp_path / 'pytest.ini').write_text('[pytest]\nasyncio_mode = auto\n')
        command[1:] = ['-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider', str(program)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f'{name}\n{done.stdout}\n{done.stderr}'


APPS = [block for block in BLOCKS if is_app(tree_of(block[1]))]


@pytest.mark.parametrize('source', [s for _, s in APPS], ids=[name for name, _ in APPS])
async def test_every_application_of_streams_starts(tmp_path: Path, source: str) -> None:
    """Offline: what is declared fits together; a second passes."""
    program = tmp_path / 'page.py'
    program.write_text(source)
    app = runpy.run_path(str(program))['app']
    async with app.test() as t:
        await t.advance(1)


@pytest.mark.parametrize('page', PAGES_OF_STREAMS)
def test_no_block_about_streams_is_a_fragment(page: str) -> None:
    """A reader can take each as it stands."""
    named = [(name, tree_of(source)) for name, source in BLOCKS if name.startswith(f'docs/{page}')]
    assert [name for name, tree in named if not (is_whole(tree) or is_app(tree))] == []
