"""When the target's own code fails in the middle of a probe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lrlint.errors import LrlintError, TargetError
from lrlint.inspection.source import Project
from lrlint.inspection.trace import trim


@contextmanager
def target_code(doing: str) -> Iterator[None]:
    """An exception in this block becomes a TargetError that says what was being done, with the user's own frames.

    Except for a lack of memory, which a run can end with, and lrlint's own errors.
    """
    try:
        yield
    except LrlintError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        text = str(error).split("\n", 1)[0]
        trace = trim(error, Project(Path.cwd()))
        raise TargetError(f"{doing} raised {type(error).__name__}: {text}".rstrip(": "), "", trace) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory is used up, on an accelerator or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
