"""Distinct parameters that share memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lrlint.facts import Parameter

_EXACT_LIMIT = 1 << 24  # elements up to which strided overlap is decided element by element


def aliases(pairs: Iterable[tuple[torch.Tensor, Parameter]]) -> list[tuple[Parameter, Parameter]]:
    """Pairs of different parameters with at least one element in common.

    Views of one buffer that do not overlap (flattened recurrent weights, sharded flat parameters) are no alias.
    """
    by_storage: dict[tuple[str, int], list[tuple[torch.Tensor, Parameter]]] = {}
    for tensor, fact in pairs:
        if fact.kind != "plain" or fact.numel == 0:
            continue
        storage = tensor.untyped_storage()
        if storage.nbytes() and (address := storage.data_ptr()):
            by_storage.setdefault((fact.device, address), []).append((tensor, fact))
    found = []
    for sharing in by_storage.values():
        if len(sharing) > 1:
            found += _overlapping(sharing)
    return found


def _overlapping(sharing: list[tuple[torch.Tensor, Parameter]]) -> list[tuple[Parameter, Parameter]]:
    spans = sorted((*_extent(tensor), i) for i, (tensor, _) in enumerate(sharing))
    found = []
    for k, (_, end, i) in enumerate(spans):
        for start, _, j in spans[k + 1 :]:
            if start >= end:
                break
            if _share_elements(sharing[i][0], sharing[j][0]):
                first, second = sorted((sharing[i][1], sharing[j][1]), key=lambda p: p.index)
                found.append((first, second))
    return found


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    """Byte range [start, end) in the storage."""
    start = int(tensor.storage_offset()) * tensor.element_size()
    last = sum((int(size) - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()


def _share_elements(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.is_contiguous() and second.is_contiguous():
        return True  # contiguous ranges that overlap share elements
    base = min(first.storage_offset(), second.storage_offset())
    extent = max(_extent(first)[1], _extent(second)[1]) // first.element_size() - base
    if extent > _EXACT_LIMIT or first.dtype != second.dtype:
        return True
    touched = torch.zeros(extent, dtype=torch.bool, device="cpu")
    touched.as_strided(first.shape, first.stride(), first.storage_offset() - base).fill_(True)
    return bool(touched.as_strided(second.shape, second.stride(), second.storage_offset() - base).any())
