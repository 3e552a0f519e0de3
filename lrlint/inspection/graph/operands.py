"""Questions about operators and their operands, each of which a few lines answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lrlint.inspection.graph.operators import DROPOUT, LAYOUT, PRODUCTS, Op, source

#: Operators that pass a value on as it is.
PASS_ON = LAYOUT | DROPOUT
#: Operators that pick entries of a table by an index.
PICKS = frozenset(
    "index index_select gather take take_along_dim embedding_renorm grid_sampler_2d grid_sampler_3d".split()
)


def argument_position(op: Op, value: Op) -> int:
    """The position of an operand among the arguments; 9 for a keyword that is not known."""
    for position, item in enumerate(op.args):
        if item is value or (isinstance(item, list) and any(i is value for i in item)):
            return position
    keys = {"bias": 2, "weight": 1, "attn_mask": 3, "attn_bias": 3}
    return next((keys.get(key, 9) for key, item in op.kwargs.items() if item is value), 9)


def other_operand(op: Op, value: Op) -> Op | None:
    return next((i for i in op.inputs if i is not value), None)


def long_axes(op: Op) -> int:
    """Number of axes longer than 1."""
    return sum(size != 1 for size in op.shape or ())


def source_long_axes(value: Op) -> int:
    return long_axes(source(value))


def element_count(op: Op) -> int:
    count = 1
    for size in op.shape or ():
        count *= size
    return count


def operator_names(value: Op, limit: int = 24) -> set[str]:
    """Names of the operators between the stored parameter and the value."""
    names: set[str] = set()
    waiting = [value]
    while waiting and limit:
        op = waiting.pop()
        limit -= 1
        names.add(op.name)
        waiting += [i for i in op.inputs if i.owners]
    return names


def is_state_decay(value: Op, limit: int = 24) -> bool:
    """Whether it is the negative of an exponential, as state-space layers have it: exp(-exp(a) · time)."""
    waiting = [value]
    while waiting and limit:
        op = waiting.pop()
        limit -= 1
        if op.name == "neg" and "exp" in operator_names(op):
            return True
        waiting += [i for i in op.inputs if i.owners]
    return False


def follow(op: Op, through: frozenset[str] | set[str], until: Any, limit: int = 24) -> tuple[Op, Op | None]:
    """(last value, first operator of ``until`` that reads it), through operators that pass the value on."""
    for _ in range(limit):
        ahead = None
        for user in op.users:
            if user.name in until:
                return op, user
            if ahead is None and user.name in through:
                ahead = user
        if ahead is None:
            return op, None
        op = ahead
    return op, None


def behind_layout(op: Op) -> Op:
    """The value behind layout and dropout."""
    for _ in range(32):
        if op.name in PASS_ON and op.inputs:
            op = op.inputs[0]
        elif op.name == "mul" and len([i for i in op.inputs if i.data]) == 1 and not any(i.owners for i in op.inputs):
            op = next(i for i in op.inputs if i.data)  # by a number, or by a dropout mask
        else:
            break
    return op


def behind_padding(op: Op) -> Op:
    """The value behind layout and padding."""
    while (op.name in LAYOUT or op.name == "constant_pad_nd") and op.inputs:
        op = op.inputs[0]
    return op


def reaches(origin: Op, target: Op, limit: int = 3000) -> bool:
    """Whether the target is computed from the origin."""
    waiting, seen = [target], {target.index}
    while waiting and limit:
        op = waiting.pop()
        limit -= 1
        if op is origin:
            return True
        for i in op.inputs:
            if i.index >= origin.index and i.index not in seen:
                seen.add(i.index)
                waiting.append(i)
    return False


def is_mask(data: Op, value: Op) -> bool:
    """Data with one number per position, against a value with one per feature."""
    if not data.shape or not value.shape or element_count(value) == 1:
        return False
    return data.shape[-1] == 1 and value.shape[-1] > 1 and element_count(data) > 1 and data.ndim >= 2


def is_per_head(op: Op, value: Op) -> bool:
    """One number per head: it varies along neither of the last two axes of a value of four."""
    shape = value.shape or ()
    return op.ndim >= 3 and len(shape) >= 3 and shape[-1] == shape[-2] == 1


def is_split_bias(value: Op, data: Op) -> bool:
    """One number per feature, where the features stand in two axes (heads × width)."""
    layer = behind_layout(data)
    return layer.name in PRODUCTS and bool(layer.shape) and (layer.shape or (0,))[-1] == element_count(value)


def is_token(value: Op) -> bool:
    return (source(value).shape or (0,))[0] == 1


def is_attention_product(op: Op, other: Op | None) -> bool:
    """A product of learned queries with data keys: both are sequences."""
    return op.name == "bmm" and other is not None and other.data


def is_narrow(value: Op) -> bool:
    shape = value.shape or ()
    return len(shape) == 2 and min(shape) < max(shape)


def index_sources(op: Op, limit: int = 64) -> Iterator[Op]:
    """What the values of an index go back to; where they were picked from another tensor, that tensor."""
    waiting = [op]
    seen = {op.index}
    while waiting and limit:
        current = waiting.pop()
        limit -= 1
        yield current
        for i in current.inputs[:1] if current.name in PICKS else current.inputs:
            if i.index not in seen:
                seen.add(i.index)
                waiting.append(i)
