"""A limit of memory for the process of a target (``--memory-limit``): it loses the target, and not the machine.

The system's limit of a process's data is used (RLIMIT_DATA), which on Linux counts all private writable memory and no
files, no shared memory, and none of the addresses that CUDA sets aside. It holds for each process that the target starts
by itself. Control groups would count them together, but may not limit a group that processes are in already.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from lrlint.errors import UsageError
from lrlint.lint.run import Failure
from lrlint.text.wording import count

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
#: What allocators say when they get nothing: Python, NumPy, torch (c10/core/impl/alloc_cpu.cpp), C++, the system.
_WANT = re.compile(r"MemoryError|can(?:'|no)t allocate memory|bad_alloc", re.IGNORECASE)


def parse(text: str) -> int:
    """``512M``, ``8G`` or ``1.5 GiB`` in bytes. Raises ValueError."""
    found = _SIZE.fullmatch(text)
    if found is None or not (size := int(float(found[1]) * _UNITS[found[2].upper()])):
        raise ValueError(f"{text!r} is no size such as 512M or 8G")
    return size


def shown(size: int) -> str:
    """A number of bytes as one writes a limit."""
    for unit in ("G", "M", "K"):
        if size >= _UNITS[unit]:
            return f"{size / _UNITS[unit]:.4g} {unit}iB"
    return count(size, "byte")


def require_limits() -> None:
    """Raises UsageError where the system has no limit that counts."""
    if not sys.platform.startswith("linux"):
        raise UsageError("--memory-limit needs Linux", "elsewhere, run lrlint in a container with a limit")


@contextmanager
def limited(size: int | None) -> Iterator[None]:
    """Let this process take no more than ``size`` bytes in this block (None: whatever it gets).

    Raises UsageError where it has taken as much before the block begins.
    """
    if size is None:
        yield
        return
    import resource

    taken = _taken()
    if taken >= size:
        text = f"--memory-limit {shown(size)} leaves nothing: torch and lrlint alone take {shown(taken)}"
        raise UsageError(text, "give it more")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    hard = before[1]
    resource.setrlimit(resource.RLIMIT_DATA, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))
    try:
        yield
    finally:
        with suppress(OSError, ValueError):  # what was found has to be sent yet
            resource.setrlimit(resource.RLIMIT_DATA, before)


def explained(failure: Failure, size: int | None, output: str = "") -> Failure:
    """The failure of a target that ran into its limit, told as that; any other one as it is.

    ``output``: what its process last wrote.
    """
    told = "\n".join((failure.message, failure.trace, output))
    if size is None or failure.exit_code not in (3, 70) or not _WANT.search(told):
        return failure
    message = f"memory limit of {shown(size)} reached: {failure.message}"
    return replace(failure, message=message, exit_code=3, hint="give it more with --memory-limit")


def _taken() -> int:
    """Bytes of data that this process holds, as the limit counts them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
