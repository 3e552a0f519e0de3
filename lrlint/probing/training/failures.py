"""When the target's own code fails in the middle of a probe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lrlint.errors import LrlintError, TargetError
from lrlint.targets.provenance.project import Project
from lrlint.targets.rng_state import is_lost
from lrlint.targets.user_traceback import trim

_LATE = "it may stem from an earlier operation; with --device cpu the error names the one at fault"


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
        hint = _LATE if is_lost(error) else ""
        raise TargetError(f"{doing} raised {type(error).__name__}: {text}".rstrip(": "), hint, trace) from error


@contextmanager
def device_failures() -> Iterator[None]:
    """What the target's code does to a device shows at any later operation on it: it becomes a TargetError as well."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost(error):
            raise
        with target_code("a step"):
            raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory is used up, on an accelerator or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
