"""What a backward pass starts from: its value, its leaves, and a constant factor on a mean."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import nn

from lrlint.facts import Span
from lrlint.rehearsal.recorder import Recorder

#: Nodes of one graph that are looked at.
_MOST = 60_000
#: Walks of the graph from one place; a loop that calls it ever again (LBFGS) is the same graph.
_WALKS = 3
_MEANS = ("Mean", "Nll", "Mse", "BinaryCross", "SmoothL1", "Huber", "KlDiv")


class Graphs:
    """Walks autograd graphs back from losses: which tensors get a gradient, and by which factor a mean was divided."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._walks: Counter[Span | None] = Counter()
        self._known: dict[Span | None, tuple[list[int], bool]] = {}

    def of(self, outputs: Any) -> dict[str, Any]:
        """``leaves`` (numbers), ``inputs`` (a leaf that is no parameter wants a gradient), the root's ``value`` (None
        unless it is one number), the constant ``factor`` on it, and whether it is a plain ``mean``.
        """
        roots = [o for o in (outputs if isinstance(outputs, (tuple, list)) else [outputs]) if torch.is_tensor(o)]
        span, _ = self._recorder.where()
        if self._walks[span] < _WALKS or span is None:
            self._walks[span] += 1
            leaves = list(_leaves(roots))
            ledger = self._recorder.ledger
            inputs = any(not isinstance(leaf, nn.Parameter) and not ledger.knows(leaf) for leaf in leaves)
            self._known[span] = (ledger.numbers(leaves), inputs)
        numbers, inputs = self._known[span]
        factor, mean = _factor(roots[0]) if roots else (1.0, False)
        return {"leaves": numbers, "inputs": inputs, "value": _value(roots), "factor": factor, "mean": mean}


def _leaves(roots: list[torch.Tensor]) -> Any:
    seen: set[Any] = set()
    waiting = [root.grad_fn for root in roots]
    while waiting and len(seen) < _MOST:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            yield variable
        waiting.extend(following for following, _ in node.next_functions)


def _value(roots: list[torch.Tensor]) -> float | None:
    if not roots or roots[0].numel() != 1 or roots[0].device.type == "meta":
        return None
    try:
        return float(roots[0].detach())
    except (RuntimeError, TypeError, ValueError):
        return None


def _factor(root: torch.Tensor) -> tuple[float, bool]:
    """The product of the constants that the root was multiplied with: 0.25 for ``loss.mean() / 4``."""
    node, factor = root.grad_fn, 1.0
    for _ in range(4):
        name = node.name() if node is not None else ""
        if not name.startswith(("MulBackward", "DivBackward")):
            break
        other = getattr(node, "_saved_other", None)
        if other is None:
            other = getattr(node, "_saved_self", None)
        if other is None or getattr(other, "numel", lambda: 1)() != 1:
            break
        constant = float(other)
        if not constant or not math.isfinite(constant):
            break
        factor = factor * constant if name.startswith("Mul") else factor / constant
        assert node is not None  # it has a name
        node = next((following for following, _ in node.next_functions if following is not None), None)
    name = node.name() if node is not None else ""
    return factor, name.startswith(_MEANS)
