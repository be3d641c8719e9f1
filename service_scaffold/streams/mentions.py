"""Whether a function's code names what moves events to another topic."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from types import CodeType
from typing import Any

HOPS = frozenset({'group_by', 'through', 'join', 'left_join', 'inner_join', 'outer_join'})
"""Methods of a stream that say where a body reads from."""

_CALLS = ('LOAD_METHOD', 'LOAD_ATTR')
_NO_STREAM = ('LOAD_CONST', 'LOAD_GLOBAL', 'LOAD_NAME')
"""What begins `', '.join`, `os.path.join`, `other_agent.join`: a stream is none of these."""


class Mention(Enum):
    """What the code says."""

    NO = 'no'
    PERHAPS = 'perhaps'  # `x.join`: of a stream, or of a text
    CLEAR = 'clear'


def mention(body: Callable[..., Any]) -> Mention:
    """Tell whether a body names a method of streams that moves events; the code is not run."""
    plain = inspect.unwrap(body)
    if not inspect.isroutine(plain):
        plain = getattr(plain, '__call__', plain)  # noqa: B004
    code = getattr(plain, '__code__', None)
    if code is None:
        return Mention.PERHAPS
    names = set(_names(code))
    if names - {'join'}:
        return Mention.CLEAR
    return Mention.PERHAPS if names else Mention.NO


def _names(code: CodeType) -> Iterator[str]:
    """Yield which of the methods are got from something that may be a stream."""
    owner = ''
    for step in dis.get_instructions(code):
        if step.opname in _CALLS:
            if step.argval in HOPS and owner not in _NO_STREAM:
                yield step.argval
        else:
            owner = step.opname
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)
