#!/usr/bin/env python3
"""Makes this repository yours: `python rename.py NAME`, once, with NAME a Python package name.

The package, its tests and every file that names it follow: `your_service` becomes `NAME`, and
`your-service`, the distribution and image, becomes the same with dashes.
"""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

OLD = 'your_service'
ROOT = Path(__file__).resolve().parent
TAKEN = {'test', 'service_scaffold', OLD}
SKIPPED = {'__pycache__', 'build', 'dist', 'venv', 'wheels'}


def check(name: str) -> None:
    """Exit with a message when `name` cannot be the name of the package."""
    if not re.fullmatch('[a-z][a-z0-9_]*', name) or keyword.iskeyword(name):
        sys.exit(f'{name!r} is no package name: lower-case letters, digits and _ only')
    if name in TAKEN or name in sys.stdlib_module_names or (ROOT / name).exists():
        sys.exit(f'{name!r} is taken')
    if not (ROOT / OLD).is_dir():
        sys.exit(f'There is no {OLD} here any more')


def files() -> list[Path]:
    """Return the files of the repository, without what is hidden, generated, or this one."""
    found = []
    for path in ROOT.rglob('*'):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith('.') and part != '.github' for part in parts[:-1])
        generated = any(part in SKIPPED or part.endswith('.egg-info') for part in parts)
        if path.is_file() and not hidden and not generated and path != Path(__file__).resolve():
            found.append(path)
    return found


def rename(name: str) -> None:
    """Replace the name in all files, then the name of the package's directory."""
    for path in files():
        old = path.read_bytes()
        new = old.replace(OLD.encode(), name.encode())
        new = new.replace(OLD.replace('_', '-').encode(), name.replace('_', '-').encode())
        if new != old:
            path.write_bytes(new)
            print(path.relative_to(ROOT))
    (ROOT / OLD).rename(ROOT / name)


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    check(sys.argv[1])
    rename(sys.argv[1])
