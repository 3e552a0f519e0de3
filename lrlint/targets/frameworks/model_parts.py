"""Models in sight of a training loop: single ones, and the parts that lie in lists and dicts (pipeline stages)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn

Named = tuple[str, nn.Module]


def roots(seen: Sequence[tuple[str, Any]]) -> list[tuple[str, nn.Module, str]]:
    """(name, module, name of its container or "") of each module in sight that is inside no other one.

    What lies in a list or dict is called after it (``parts.0``), also where a loop variable points to it.
    """
    candidates = {id(value): (name, value, "") for name, value in reversed(seen) if isinstance(value, nn.Module)}
    for name, value in reversed(seen):
        for key, part in _parts(value):
            candidates[id(part)] = (f"{name}.{key}", part, name)
    inner = {id(child) for _, module, _ in candidates.values() for child in module.modules() if child is not module}
    return [entry for key, entry in candidates.items() if key not in inner]


def trained(entries: Iterable[tuple[str, nn.Module, str]], held: set[int]) -> list[Named]:
    """Those that an optimizer holds something of; beside one in its list, also those that have a gradient.

    Without the gradient it may be a member of an ensemble whose turn comes later.
    """
    entries = list(entries)
    own = {id(m) for _, m, _ in entries if any(id(p) in held for p in m.parameters())}
    beside = {container for _, module, container in entries if container and id(module) in own}
    return [
        (name, module)
        for name, module, container in entries
        if id(module) in own or (container in beside and any(p.grad is not None for p in module.parameters()))
    ]


def alike(entries: Iterable[tuple[str, nn.Module, str]], held: Sequence[nn.Parameter]) -> list[Named]:
    """Models that an optimizer was once built for: it holds other tensors now, of the same shapes.

    A copy (`deepcopy`), sharding (`fully_shard`) and loading with ``assign=True`` leave it so. At least half of the
    tensors on both sides have to correspond, so that a model beside an image that is optimised is not taken for one.
    FSDP's flat parameters have no shapes left: its class decides.
    """
    return [(name, module) for name, module, _ in entries if _corresponds(module, held)]


def _corresponds(module: nn.Module, held: Sequence[nn.Parameter]) -> bool:
    live = [p for p in module.parameters() if p.requires_grad]
    if not live:
        return False
    if type(module).__name__ == "FullyShardedDataParallel":
        return True
    left = [tuple(p.shape) for p in held]
    common = 0
    for shape in (tuple(p.shape) for p in live):
        if shape in left:
            left.remove(shape)
            common += 1
    return 2 * common >= max(len(live), len(held))


def _parts(value: Any) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a list, tuple or dict that holds nothing else."""
    if isinstance(value, (list, tuple)):
        items = [(str(position), item) for position, item in enumerate(value)]
    elif type(value) is dict:
        items = [(str(key), item) for key, item in value.items()]
    else:
        return
    if items and all(isinstance(item, nn.Module) for _, item in items):
        yield from items
