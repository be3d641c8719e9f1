"""Open files: what was written becomes the file when it is closed, and all at once."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO

from service_scaffold.storage.modes import Mode


def _nothing() -> None:
    pass


class _Discarding(io.IOBase):
    """A file whose `with` block, when it ends with an exception, discards what was written."""

    def discard(self) -> None:
        """Leave the file as it was, whatever was written."""
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.discard()
        self.close()


class Draft(_Discarding, io.BufferedIOBase):
    """A binary file in a buffer of its own; closing it commits what was written.

    An exception in its `with` block, or a write that fails, discards it instead: the file stays as
    it was.

    Args:
        buffer: Holds the bytes; the draft closes it.
        commit: Makes the file of the buffer.
        undo: Undoes what opening has done, when nothing is committed.
    """

    def __init__(
        self,
        path: str,
        mode: Mode,
        buffer: BinaryIO,
        commit: Callable[[BinaryIO], None],
        undo: Callable[[], None] = _nothing,
    ) -> None:
        self.name = path
        self._mode = mode
        self._buffer = buffer
        self._commit = commit
        self._undo = undo
        self._discarded = False
        self._failure: tuple[int | None, str | None] | None = None
        buffer.seek(0, io.SEEK_END if mode.kind == 'a' else io.SEEK_SET)

    @property
    def mode(self) -> str:
        """The mode it was opened in."""
        return self._mode.binary

    def readable(self) -> bool:
        return self._mode.reads

    def writable(self) -> bool:
        return self._mode.writes

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        return self._to_read().read(-1 if size is None else size)

    def read1(self, size: int = -1) -> bytes:
        return self._to_read().read(io.DEFAULT_BUFFER_SIZE if size < 0 else size)

    def readline(self, size: int | None = -1) -> bytes:
        return self._to_read().readline(-1 if size is None else size)

    def write(self, data: bytes) -> int:  # type: ignore[override]  # anything with bytes in it
        buffer = self._to_write()
        try:
            if self._mode.kind == 'a':
                buffer.seek(0, io.SEEK_END)
            return buffer.write(data)
        except OSError as error:
            self._failure = error.errno, error.strerror  # from here on there is half of it
            raise

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._buffer.seek(offset, whence)

    def tell(self) -> int:
        return self._buffer.tell()

    def truncate(self, size: int | None = None) -> int:
        buffer = self._to_write()
        size = buffer.tell() if size is None else size
        buffer.truncate(size)
        return size

    def flush(self) -> None:
        """Write to the buffer; the file itself changes when it is closed."""
        if not self.closed and not self._buffer.closed:  # committing may have closed it
            self._buffer.flush()

    def fileno(self) -> int:
        return self._buffer.fileno()

    def discard(self) -> None:
        """Leave the file as it was, whatever was written."""
        self._discarded = True

    def close(self) -> None:
        """Commit what was written.

        Raises:
            OSError: It cannot be committed, or a write has failed before: the file is as it was.
        """
        if self.closed:
            return
        committed = False
        try:
            if not self._discarded and self._mode.writes:
                if self._failure is not None:
                    raise OSError(*self._failure, self.name)
                self._buffer.flush()
                self._commit(self._buffer)
                committed = True
        finally:
            try:
                if not committed:
                    self._undo()
            finally:
                try:
                    super().close()  # flushes
                finally:
                    self._buffer.close()

    def __del__(self) -> None:
        if hasattr(self, '_discarded'):  # else it never came to be
            super().__del__()

    def _to_read(self) -> BinaryIO:
        if not self._mode.reads:
            raise io.UnsupportedOperation('not readable')
        return self._buffer

    def _to_write(self) -> BinaryIO:
        if not self._mode.writes:
            raise io.UnsupportedOperation('not writable')
        return self._buffer


class TextFile(_Discarding, io.TextIOWrapper):
    """A file of texts; an exception in its `with` block discards what was written.

    Attributes:
        mode: The mode it was opened in.
    """

    mode: str

    def close(self) -> None:
        """Commit what was written, unless it cannot be written whole."""
        if not self.closed:
            try:
                self.flush()
            except BaseException:
                self.discard()
                raise
            finally:
                super().close()

    def discard(self) -> None:
        """Leave the file as it was, unless it changes in place."""
        if isinstance(self.buffer, Draft):
            self.buffer.discard()
