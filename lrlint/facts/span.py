"""Where something was written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A region of a source file: lines and columns count from 1, the end column is exclusive.

    ``path`` is relative to the project root (POSIX separators) where the file lies under it.
    ``column`` is None where only the line is known (Python < 3.11, or source that is not on disk).
    """

    path: str
    line: int
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.path, self.line, self.column) if part is not None)
