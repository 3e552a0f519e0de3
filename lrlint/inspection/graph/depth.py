"""Where a parameter stands: order of use, layers before and after it, the normalisation or activation next to it.

A layer is what holds a weight (see `roles.LAYERS`); a block with several of them counts as several. Depth is the longest
path, so that a residual connection does not make late blocks early ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lrlint.inspection.graph.norms import Norms
from lrlint.inspection.graph.operators import ACTIVATIONS, Flow, Op
from lrlint.inspection.graph.roles import LAYERS, Site

_OWN_NAMES = frozenset(("weight", "bias", "kernel", "w", "g", "v", "scale", "gamma", "weight_g", "weight_v"))

Mark = tuple[int, str]  # (index of the operator, what it is called)


class Depths:
    """Depths and neighbours of every operator, by one walk forward and one back."""

    def __init__(
        self,
        flow: Flow,
        norms: Norms,
        sites: Mapping[str, Sequence[Site]],
        kinds: Mapping[str, str],
        label: Callable[[Op], str],
    ) -> None:
        self._layer: dict[int, str] = {}
        for name, sites_of in sites.items():
            for site in sites_of:
                if site.role in LAYERS:
                    self._layer[site.op.index] = layer_of(name, kinds)
        self._marks = self._find_marks(flow.ops, norms, label)
        self._before: list[tuple[int, str]] = []
        self._after: list[tuple[int, str] | None] = [None] * len(flow.ops)
        self._previous: list[Mark | None] = []
        self._next: list[Mark | None] = [None] * len(flow.ops)
        self._forward(flow.ops)
        self._backward(flow.ops, flow.outputs)

    def _find_marks(self, ops: Sequence[Op], norms: Norms, label: Callable[[Op], str]) -> dict[int, Mark]:
        marks = {}
        for op in ops:
            norm = norms.entered.get(op.index)
            if norm is not None:
                marks[op.index] = (norm.result.index, label(norm.result))
            elif op.name in ACTIVATIONS and op.data:
                marks[op.index] = (op.index, label(op))
        return marks

    def _forward(self, ops: Sequence[Op]) -> None:
        for op in ops:
            own = self._layer.get(op.index, "")
            depth, layer = 0, ""
            previous: Mark | None = None
            for i in op.inputs:
                d, last = self._before[i.index]
                if own and last != own:
                    d += 1
                if d > depth:
                    depth, layer = d, last
                mark = self._marks.get(i.index)
                if mark is None and i.index not in self._layer:
                    mark = self._previous[i.index]
                if mark is not None and (previous is None or mark > previous):
                    previous = mark
            self._before.append((depth, own or layer))
            self._previous.append(previous)

    def _backward(self, ops: Sequence[Op], outputs: Sequence[Op]) -> None:
        ends = {op.index for op in outputs}
        for op in reversed(ops):
            best: tuple[int, str] | None = (0, "") if op.index in ends else None
            nearest: Mark | None = None
            for user in op.users:
                after = self._after[user.index]
                own = self._layer.get(user.index, "")
                if after is not None:
                    if own:
                        after = (after[0] + (after[1] != own), own)
                    if best is None or after[0] > best[0]:
                        best = after
                mark = self._marks.get(user.index)
                if mark is None and not own:
                    mark = self._next[user.index]
                if mark is not None and (nearest is None or mark < nearest):
                    nearest = mark
            self._after[op.index] = best
            self._next[op.index] = nearest

    def from_input(self, sites: Sequence[Site]) -> int | None:
        """Layers on the longest path to the first of these sites."""
        return min((max(self._before[s.op.index][0] - 1, 0) for s in sites), default=None)

    def from_output(self, sites: Sequence[Site]) -> int | None:
        """Layers on the longest path from the last of these sites to an output; None where none is reached."""
        distances = []
        for site in sites:
            after = self._after[site.op.index]
            if after is not None:
                own = self._layer.get(site.op.index)
                distances.append(after[0] - (own is not None and after[1] == own))
        return min(distances, default=None)

    def followed_by(self, sites: Sequence[Site]) -> str | None:
        return next((mark[1] for s in sites if (mark := self._next[s.op.index]) is not None), None)

    def preceded_by(self, sites: Sequence[Site]) -> str | None:
        return next((mark[1] for s in sites if (mark := self._previous[s.op.index]) is not None), None)

    def live(self, op: Op) -> bool:
        """Whether an output is computed from it."""
        return self._after[op.index] is not None


def layer_of(name: str, kinds: Mapping[str, str]) -> str:
    """The layer a parameter belongs to: its module, or itself where a module holds several layers' weights."""
    owner, _, leaf = name.rpartition(".")
    if leaf in _OWN_NAMES or kinds.get(owner, "other") not in ("other", "attention"):
        return owner or name
    return name
