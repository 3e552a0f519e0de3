"""How much a held script may write: what it writes lies in memory."""

from __future__ import annotations

from contextlib import suppress
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


def scratch_bytes() -> int:
    """Half of what this process could still use."""
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
