"""The mode of an open file, as in Python's own `open`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Mode:
    """What may be done with a file.

    Attributes:
        kind: `r` read what is there, `w` replace, `a` append, `x` create.
        updates: Whether it is both read and written (`+`).
        is_text: Whether texts are read and written, not bytes.
    """

    kind: str
    updates: bool
    is_text: bool

    @classmethod
    def parse(cls, mode: str) -> Self:
        """Read a mode.

        Raises:
            ValueError: It is none.
        """
        letters = set(mode)
        kinds = letters & set('rwax')
        if len(letters) != len(mode) or len(kinds) != 1 or not letters <= set('rwax+bt'):
            raise ValueError(f'invalid mode: {mode!r}')
        if {'b', 't'} <= letters:
            raise ValueError(f'text or binary, not both: {mode!r}')
        return cls(kinds.pop(), '+' in letters, 'b' not in letters)

    @property
    def reads(self) -> bool:
        """Whether the file can be read."""
        return self.kind == 'r' or self.updates

    @property
    def writes(self) -> bool:
        """Whether the file can be written."""
        return self.kind != 'r' or self.updates

    @property
    def binary(self) -> str:
        """The mode in which bytes are read and written, for `io.open`."""
        return f'{self.kind}{"+" if self.updates else ""}b'
