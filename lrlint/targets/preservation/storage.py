"""Where the copy of a snapshot lies: beside the original, in host memory, or in a file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lrlint.errors import DeviceError, UsageError

PLACES = ("auto", "device", "host", "disk")
_ALIGNMENT = 64
_WORDS = {"device": "on the device", "host": "in host memory", "disk": "in a temporary file"}


@dataclass(frozen=True)
class Extent:
    """The part of a storage, in bytes, that some tensors cover."""

    storage: torch.UntypedStorage
    low: int
    high: int


def extents(tensors: Iterable[torch.Tensor]) -> list[Extent]:
    """The memory under the tensors, each storage once."""
    extent_of: dict[int, Extent] = {}
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.device.type == "meta" or tensor.numel() == 0:
            continue
        storage, offset = tensor.untyped_storage(), int(tensor.storage_offset())
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        low, high = (position * tensor.element_size() for position in (offset, offset + int(last) + 1))
        known = extent_of.get(storage._cdata)
        if known is not None:
            low, high = min(low, known.low), max(high, known.high)
        extent_of[storage._cdata] = Extent(storage, low, high)
    return list(extent_of.values())


def region(extent: Extent) -> torch.Tensor:
    """The bytes of an extent as a flat tensor that shares them (and none of the user's version counters)."""
    empty = torch.empty(0, dtype=torch.uint8, device=extent.storage.device)
    return empty.set_(extent.storage, extent.low, (extent.high - extent.low,), (1,))


class SnapshotStorage:
    """A copy of some memory regions (flat byte tensors), and the way back."""

    def __init__(self, regions: Sequence[torch.Tensor], place: str, reserve: int) -> None:
        if place not in PLACES:
            raise UsageError(f"{place!r} is no place for the state", f"choose one of {', '.join(PLACES)}")
        self._regions = list(regions)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.nbytes = sum(region.numel() for region in regions)
        self.place, self._why = (place, "") if place != "auto" else _choose(regions, self.nbytes, reserve)
        self._copies = self._allocate()
        if self._copies:
            torch._foreach_copy_(self._copies, self._regions)

    def _allocate(self) -> list[torch.Tensor]:
        if self.place == "disk":
            return self._in_file()
        if self.place == "device":
            return [torch.empty_like(region) for region in self._regions]
        # Page-locked memory is copied to and from an accelerator at the full speed of the bus.
        return [torch.empty_like(region, device="cpu", pin_memory=region.is_cuda) for region in self._regions]

    def _in_file(self) -> list[torch.Tensor]:
        starts, end = [], 0
        for region in self._regions:
            starts.append(end)
            end += -(-region.numel() // _ALIGNMENT) * _ALIGNMENT
        if not end:
            return []
        self._folder = tempfile.TemporaryDirectory(prefix="lrlint-state-")
        path = Path(self._folder.name) / "state"
        with path.open("wb") as file:
            file.truncate(end)
        mapped = torch.from_file(str(path), shared=True, size=end, dtype=torch.uint8, device="cpu")
        return [mapped[start : start + region.numel()] for start, region in zip(starts, self._regions, strict=True)]

    def restore(self) -> None:
        """Write the copy back to where it came from."""
        if self._copies:
            torch._foreach_copy_(self._regions, self._copies)

    def describe(self) -> str:
        return f"state kept {_WORDS[self.place]} ({size(self.nbytes)}{self._why})"

    def close(self) -> None:
        self._regions, self._copies = [], []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _choose(regions: Sequence[torch.Tensor], needed: int, reserve: int) -> tuple[str, str]:
    """(place, why not the device) for a copy of ``needed`` bytes that leaves ``reserve`` for the steps to come."""
    accelerators = {region.device for region in regions if region.device.type != "cpu"}
    host = host_memory()
    for device in accelerators:
        free, share = device_memory(device), sum(r.numel() for r in regions if r.device == device)
        if free is not None and free < share + reserve:
            if host is None or host > needed:
                return "host", f"; {device} has {size(free)} free"
            break
    else:
        on_host = sum(region.numel() for region in regions if region.device.type == "cpu")
        extra = reserve if not accelerators else 0
        if host is None or host >= on_host + extra:
            return "device", ""
    room = shutil.disk_usage(tempfile.gettempdir()).free
    if room < needed:
        raise DeviceError(f"there is no room for a copy of the state ({size(needed)}), in memory or on disk")
    return "disk", f"; the host has {size(host or 0)} of memory free"


def device_memory(device: torch.device) -> int | None:
    """Bytes that can still be allocated on an accelerator; None where it does not say."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def host_memory() -> int | None:
    """Bytes of main memory that can be used without swapping; None where the system does not say."""
    limits = [value for value in (_available(), _cgroup()) if value is not None]
    return min(limits) if limits else None


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _cgroup() -> int | None:
    """What a container's limit leaves."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(int(limit) - used, 0)


def size(count: float) -> str:
    """A number of bytes in words."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
