"""Where what a held script writes is kept: in memory, within a bound; on older kernels in folders on a disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

#: The share of the memory that is free now: the script needs the rest.
_SHARE = 0.5
#: Where nothing is known, and the least that is ever allowed, in bytes.
_LEAST = 64 << 20
#: The memory limits of control groups, versions 2 and 1, as a container sees its own.
_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def memory_bytes() -> int:
    """How much may be written to memory: half of what this process could still use."""
    free = [*_available(), *_left_in_groups()]
    return max(_LEAST, int(min(free) * _SHARE)) if free else _LEAST


def _available() -> list[int]:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return [int(line.split()[1]) << 10]
    return []


def _left_in_groups() -> list[int]:
    left = []
    for limit, used in _LIMITS:
        with suppress(OSError, ValueError):  # "max" is no limit
            left.append(max(int(Path(limit).read_text()) - int(Path(used).read_text()), 0))
    return left


@dataclass
class Folders:
    """Empty folders below different folders of the root, as far as such can be written to."""

    paths: tuple[str, ...]
    kept: bool = False

    def keep(self) -> None:
        """They are needed: whoever waits for the script removes them."""
        self.kept = True

    def remove(self) -> None:
        """With all that overlays left in them, of which one folder allows nothing to anyone."""
        for path in self.paths:
            for here, folders, _ in os.walk(path):
                for name in folders:
                    with suppress(OSError):
                        os.chmod(os.path.join(here, name), 0o700)
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def reserved() -> Iterator[Folders]:
    """Folders that are removed again at the end of the block, unless kept."""
    tops: dict[str, str] = {}
    for candidate in (tempfile.gettempdir(), "/tmp", "/var/tmp", os.path.expanduser("~/.cache")):
        real = os.path.realpath(candidate)
        top = real.split("/")[1]
        if top not in tops and os.path.isdir(real):
            with suppress(OSError):
                tops[top] = tempfile.mkdtemp(prefix="rehearsal-", dir=real)
    folders = Folders(tuple(tops.values()))
    try:
        yield folders
    finally:
        if not folders.kept:
            folders.remove()
