"""Processes of one run, and what they tell each other: through the process group, or through their launcher's store."""

from __future__ import annotations

from typing import Any

import torch.distributed


def world() -> tuple[int, int]:
    """(rank, number of processes) of the process group; (0, 1) where there is none."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def gather(item: Any) -> list[Any]:
    """The items of all ranks, in order, on every rank. All have to call it; it is one small collective."""
    _, count = world()
    if count == 1:
        return [item]
    items: list[Any] = [None] * count
    torch.distributed.all_gather_object(items, item)
    return items


def launcher_store(host: str, port: int, prefix: str) -> Any:
    """The store of the launcher (torchrun) that started this process, under a prefix of its own."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    return PrefixStore(prefix, TCPStore(host, port, is_master=False))
