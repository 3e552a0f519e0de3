"""Which biases are cancelled: adding a constant to them changes no output, so their gradient is exactly zero.

A bias before a batch norm in training mode shifts each channel by a constant, and the norm subtracts the channel's mean;
the bias of attention's keys adds the same number to all scores of a query, and softmax does not see it. Followed is along
which axes the shift is constant.
"""

from __future__ import annotations

from typing import Any

from lrlint.inspection.graph.norms import Norm, Norms
from lrlint.inspection.graph.operators import DROPOUT, SOFTMAX, Flow, Op, is_attention, source
from lrlint.inspection.graph.propagation import ChangePropagation, NotCancelled, Unknown

Axes = frozenset[int]

_SAME_SHAPE = frozenset(
    "detach alias clone contiguous _to_copy to type_as lift_fresh lift_fresh_copy neg flip roll positive".split()
)
_VIEWS = frozenset("view _unsafe_view reshape _reshape_alias view_as flatten unflatten squeeze unsqueeze".split())
_SPLITS = frozenset("split split_with_sizes unsafe_split unsafe_split_with_sizes chunk".split())
_SUMS = frozenset(("add", "sub", "rsub"))
#: Over windows of the last axes; what they pad with takes no part.
_POOLS = frozenset(
    "max_pool2d_with_indices max_pool3d_with_indices max_pool2d max_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "adaptive_max_pool2d".split()
)
#: Scores at least this negative are masked out whatever is added to them.
_MASKED = -1e4


class ShiftInvariance(ChangePropagation[Any]):
    """Walks with the axes along which the shift is constant as state."""

    def __init__(self, flow: Flow, live: frozenset[int], norms: Norms) -> None:
        super().__init__(flow, live)
        self._norms = norms

    def start(self, parameter: Op) -> Axes:
        return _ones(parameter)

    def key(self, state: Axes) -> Axes:
        return state

    def transfer(self, op: Op, changed: dict[int, Any]) -> Axes | None:
        norm = self._norms.entered.get(op.index)
        if norm is not None:
            return self._norm(op, norm, changed)
        return self._axes(op, changed)

    def _norm(self, op: Op, norm: Norm, changed: dict[int, Any]) -> Axes | None:
        moving = [i for i in op.inputs if i.index in changed and i.index not in self._norms.statistics]
        if norm.native and moving == [norm.shift]:
            features = norm.axes if norm.kind == "layer" else (1,)
            return frozenset(axis for axis in range(norm.value.ndim) if axis not in features)
        if (norm.kind == "batch" and not norm.batch_statistics) or not norm.centred:
            raise NotCancelled
        if not moving:  # a statistic of what is normalised moves along with it
            return self._axes(op, changed)
        value = moving[0]
        if len(moving) > 1 or self._norms.root(value)[0] is not self._norms.root(norm.root)[0]:
            raise NotCancelled  # a scale or shift, or a value that normalises another
        if value.shape is None or value.shape != norm.value.shape:
            raise Unknown
        axes = norm.axes
        if norm.kind == "group" and value.shape[1] == op.arg(6, "group", 1):
            axes = axes[1:]
        if all(axis in changed[value.index] or value.shape[axis] == 1 for axis in axes):
            return None
        raise NotCancelled

    def _axes(self, op: Op, changed: dict[int, Any]) -> Axes | None:
        name = op.name
        first = op.inputs[0]
        state = changed.get(first.index)
        if name in _SUMS:
            return frozenset.intersection(
                *(_broadcast(i, changed[i.index], op) for i in op.inputs if i.index in changed)
            )
        if name in ("mul", "div"):
            return _scaled(op, changed)
        if name in ("addmm", "convolution", "mm", "bmm", "baddbmm", "_convolution", "linear"):
            return _layer(op, changed)
        if is_attention(name):
            key = op.arg(1)
            if set(changed) == {key.index} and key.ndim - 2 in changed[key.index]:
                return None
            raise NotCancelled
        if name in ("masked_fill", "where"):
            return _masked(op, changed)
        if name == "cat":
            return _joined(op, changed)
        if state is None:
            raise Unknown
        if name in _SAME_SHAPE:
            return frozenset(state)
        if name in _VIEWS or name == "getitem":
            return _view(first, state, op) if name != "getitem" else _picked(first, state, op)
        if name in _SPLITS or name == "unbind":
            return frozenset(state)
        if name in SOFTMAX:
            axis = op.arg(1, "dim", -1) % max(first.ndim, 1)
            if axis in state:
                return None
            raise NotCancelled
        if name in DROPOUT:
            probability = op.arg(1, "p", 0.5)
            return frozenset(state) if probability == 0 else _matters()
        return _moved(op, first, state)


def _matters() -> Axes:
    raise NotCancelled


def _ones(op: Op) -> Axes:
    return frozenset(axis for axis, size in enumerate(op.shape or ()) if size == 1)


def _broadcast(value: Op, state: Axes, op: Op) -> Axes:
    """The axes of the result along which a broadcast operand's shift is constant."""
    lead = op.ndim - value.ndim
    kept = {axis + lead for axis in state} | set(range(lead))
    return frozenset(kept | {axis + lead for axis, size in enumerate(value.shape or ()) if size == 1})


def _scaled(op: Op, changed: dict[int, Any]) -> Axes:
    a, b = op.arg(0), op.arg(1, "other")
    moving = [i for i in (a, b) if isinstance(i, Op) and i.index in changed]
    if len(moving) > 1 or (op.name == "div" and moving[0] is b):
        raise NotCancelled
    axes = _broadcast(moving[0], changed[moving[0].index], op)
    other = b if moving[0] is a else a
    if isinstance(other, Op):
        lead = op.ndim - other.ndim
        axes -= {axis + lead for axis, size in enumerate(other.shape or ()) if size != 1}
    return axes


def _layer(op: Op, changed: dict[int, Any]) -> Axes:
    """A bias is constant along all axes but the features'; a shifted input stays constant along its rows."""
    tensors = [a for a in op.args if isinstance(a, Op)]
    bias = tensors[0] if op.name in ("addmm", "baddbmm") else None
    if op.name in ("convolution", "_convolution", "linear"):
        bias = op.arg(2, "bias")
    if bias is not None and bias.index in changed:
        if len(changed) > 1:
            raise NotCancelled
        if op.name in ("addmm", "baddbmm", "linear"):
            return _broadcast(bias, changed[bias.index], op)
        return frozenset(axis for axis in range(op.ndim) if axis != 1)
    left, right = tensors[-2:] if op.name in ("addmm", "baddbmm") else tensors[:2]
    if len(changed) > 1 or left is right:
        raise NotCancelled
    if op.name == "linear":
        if right.index in changed:
            raise NotCancelled
        return changed[left.index] - {left.ndim - 1}
    if op.name in ("convolution", "_convolution"):
        padding = op.arg(4, "padding", [1])
        if right.index in changed or any(padding) or op.arg(6, "transposed", False):
            raise NotCancelled
        return frozenset(axis for axis in changed[left.index] if axis != 1)
    rows = op.ndim - 2
    if left.index in changed:
        return frozenset({rows} & changed[left.index])
    return frozenset({rows + 1} & changed[right.index])


def _view(value: Op, state: Axes, op: Op) -> Axes:
    """Axes of a reshaped value: of each run of axes that stay together, constant if all of the old run are."""
    old, new = value.shape or (), op.shape or ()
    axes: set[int] = set()
    i = j = 0
    while i < len(old) or j < len(new):
        start, begin = i, j
        a = b = 1
        while True:
            if a == b and (i > start or j > begin) and not (a == 1 and (i == start or j == begin)):
                break
            if (a <= b and i < len(old)) or j >= len(new):
                if i >= len(old):
                    break
                a *= old[i]
                i += 1
            else:
                b *= new[j]
                j += 1
        if all(axis in state or old[axis] == 1 for axis in range(start, i)):
            axes.update(range(begin, j))
    axes.update(axis for axis, size in enumerate(new) if size == 1)
    return frozenset(axes)


def _picked(value: Op, state: Axes, op: Op) -> Axes:
    if value.name == "unbind":
        return _without(state, value.arg(1, "dim", 0), value.inputs[0].ndim)
    if op.arg(1) != 0 and value.name not in _SPLITS:
        raise Unknown
    return frozenset(state)


def _without(state: Axes, axis: int, ndim: int) -> Axes:
    axis %= ndim
    return frozenset(a - (a > axis) for a in state if a != axis)


def _masked(op: Op, changed: dict[int, Any]) -> Axes:
    """Filled with a number so low that softmax makes it 0, the masked places need not shift along."""
    if op.name == "masked_fill":
        value, fill = op.arg(0), op.arg(2, "value")
    else:
        value, fill = op.arg(1), op.arg(2)
        if isinstance(fill, Op) and fill.index in changed:
            value, fill = fill, value
    if isinstance(fill, Op):
        fill = source(fill)
        fill = fill.arg(1) if fill.name == "full" else fill.arg(0) if fill.name == "scalar_tensor" else None
    if not isinstance(value, Op) or value.index not in changed or not isinstance(fill, (int, float)) or fill > _MASKED:
        raise NotCancelled
    return _broadcast(value, changed[value.index], op)


def _reduced(op: Op, first: Op, state: Axes) -> Axes:
    dims = op.arg(1, "dim")
    dims = [dims] if isinstance(dims, int) else dims or list(range(first.ndim))
    gone = {axis % first.ndim for axis in dims}
    if op.shape is not None and len(op.shape) == first.ndim:
        return state | gone
    kept = [axis for axis in range(first.ndim) if axis not in gone]
    return frozenset(position for position, axis in enumerate(kept) if axis in state)


def _joined(op: Op, changed: dict[int, Any]) -> Axes:
    """Parts that change and parts that do not: not constant along the joint. Empty parts (a fresh cache) are none."""
    parts = [i for i in op.inputs if 0 not in (i.shape or ())]
    axes = frozenset.intersection(*(changed[i.index] for i in parts if i.index in changed))
    return axes if len(parts) == 1 else axes - {op.arg(1, "dim", 0) % op.ndim}


def _moved(op: Op, first: Op, state: Axes) -> Axes:
    """Operators that reorder, drop, add or lengthen axes; the rest is taken to matter."""
    name, ndim = op.name, first.ndim
    if name == "t":
        return frozenset(1 - axis for axis in state) if ndim == 2 else frozenset(state)
    if name in ("transpose", "swapaxes", "swapdims"):
        a, b = op.arg(1) % ndim, op.arg(2) % ndim
        swap = {a: b, b: a}
        return frozenset(swap.get(axis, axis) for axis in state)
    if name == "permute":
        order = [axis % ndim for axis in op.arg(1)]
        return frozenset(position for position, axis in enumerate(order) if axis in state)
    if name in ("expand", "expand_as", "repeat"):
        return _broadcast(first, state, op)
    if name in ("slice", "narrow"):
        return frozenset(state)
    if name == "constant_pad_nd":
        pads = op.arg(1)
        padded = {ndim - 1 - position // 2 for position, length in enumerate(pads) if length}
        return state - padded
    if name == "select":
        return _without(state, op.arg(1), ndim)
    if name in ("mean", "amax", "amin"):
        return _reduced(op, first, state)
    if name in _POOLS or (name in ("avg_pool1d", "avg_pool2d", "avg_pool3d") and not any(op.arg(3, "padding", [0]))):
        return state
    if name in ("index", "gather", "stack", "copy", "index_put"):
        raise Unknown
    raise NotCancelled
