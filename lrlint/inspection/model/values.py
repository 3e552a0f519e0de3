"""Statistics of parameter values from a small sample, for all tensors in a few fused operations.

Whole tensors are never read: a billion-parameter model would cost a second, a memory-mapped one would be paged in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lrlint.facts import Values

_BUDGET = 1_000_000  # elements read over all tensors
_CHUNKS = 16  # evenly spaced runs of neighbours per tensor: few memory pages, elements from all over it
_EXPONENTS = 300  # bins; float exponents from frexp lie in [-149, 128]
_OFFSET = 160


def sample_values(tensors: Sequence[torch.Tensor]) -> list[Values | None]:
    """Values of each tensor; None where it holds none that can be read (meta, integer, quantized, empty)."""
    per_tensor = max(16, min(1024, _BUDGET // max(1, len(tensors))))
    found: list[Values | None] = [None] * len(tensors)
    by_device: dict[torch.device, list[tuple[int, torch.Tensor]]] = {}
    with torch.no_grad(), torch.device("cpu"):  # the program may have set another default device
        for index, tensor in enumerate(tensors):
            try:
                piece = _sample(tensor, per_tensor)
            except Exception:  # a tensor subclass may refuse any operation
                continue
            if piece is not None:
                by_device.setdefault(piece.device, []).append((index, piece))
        for pieces in by_device.values():
            for (index, _), values in zip(pieces, _statistics([piece for _, piece in pieces]), strict=True):
                found[index] = values
    return found


def _sample(tensor: torch.Tensor, count: int) -> torch.Tensor | None:
    if tensor.device.type == "meta" or not tensor.dtype.is_floating_point or tensor.numel() == 0:
        return None
    tensor = tensor.detach()
    total = tensor.numel()
    if total <= count:
        return tensor.reshape(-1)
    if not tensor.is_contiguous():
        # Neighbours in memory rather than in index order: any element of the tensor will do.
        extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        if extent != total:
            return None
    width = max(1, count // _CHUNKS)
    step = (total - width) // (_CHUNKS - 1)
    return tensor.as_strided((_CHUNKS, width), (step, 1)).reshape(-1)


def _statistics(pieces: list[torch.Tensor]) -> list[Values]:
    sizes = torch.tensor([piece.numel() for piece in pieces])
    flat = torch.cat([piece.float() for piece in pieces]).abs().cpu()
    owner = torch.repeat_interleave(torch.arange(len(pieces)), sizes)
    finite = torch.isfinite(flat)
    clean = torch.where(finite, flat, 0.0)
    count = len(pieces)
    squares = flat.new_zeros(count, dtype=torch.float64).index_add_(0, owner, clean.double().square())
    absmax = flat.new_zeros(count).scatter_reduce_(0, owner, clean, "amax")
    zeros = flat.new_zeros(count).index_add_(0, owner, (flat == 0).float())
    broken = flat.new_zeros(count).index_add_(0, owner, (~finite).float())
    exponents = _exponents(pieces, clean, owner)
    rows = zip(
        sizes.tolist(), squares.tolist(), absmax.tolist(), zeros.tolist(), broken.tolist(), exponents, strict=True
    )
    return [
        Values(size, (square / size) ** 0.5, largest, zero / size, bad == 0, shares)
        for size, square, largest, zero, bad, shares in rows
    ]


def _exponents(pieces: list[torch.Tensor], clean: torch.Tensor, owner: torch.Tensor) -> list[dict[int, float]]:
    """Shares by binary exponent, for low-precision tensors only (no rule asks for others)."""
    low = [piece.dtype in (torch.bfloat16, torch.float16) for piece in pieces]
    if not any(low):
        return [{} for _ in pieces]
    rank = torch.tensor(low).cumsum(0) - 1
    chosen = torch.tensor(low)[owner] & (clean > 0)
    bins = rank[owner[chosen]] * _EXPONENTS + torch.frexp(clean[chosen])[1].long() + _OFFSET
    table = torch.bincount(bins, minlength=sum(low) * _EXPONENTS).view(-1, _EXPONENTS)
    found = []
    for index, (piece, is_low) in enumerate(zip(pieces, low, strict=True)):
        row = table[rank[index]] if is_low else None
        found.append(
            {}
            if row is None
            else {int(e) - _OFFSET: int(row[e]) / piece.numel() for e in row.nonzero().flatten().tolist()}
        )
    return found
