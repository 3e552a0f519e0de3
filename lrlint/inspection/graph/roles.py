"""What a parameter is for, by what the operators do with it.

Every place where a parameter (or what was computed from parameters alone) meets data is a *site*. A site gives a role by
the operator and the argument's place: right-hand operand of a product, table of a lookup, operand of a normalisation,
factor of a residual branch, and so on. A parameter's role is the one most of its sites agree on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrlint.inspection.graph.norms import Norm, Norms
from lrlint.inspection.graph.operators import (
    ACTIVATIONS,
    CONVOLUTIONS,
    CREATION,
    DROPOUT,
    LAYOUT,
    PRODUCTS,
    RECURRENT,
    SOFTMAX,
    TABLES,
    Flow,
    Op,
    is_attention,
    source,
)

#: Roles of what makes a layer; the others accompany one.
LAYERS = frozenset("linear_weight conv_weight expert_weight rnn embedding norm_scale lora_A lora_B".split())
#: Where a parameter's sites disagree evenly, the role that says most about it.
_RANK = (
    "embedding lora_A lora_B rnn conv_weight expert_weight linear_weight norm_scale norm_shift attn_bias pos_embed mask_token "
    "ssm_A_log ssm_skip layer_scale gate temperature slope bias magnitude token"
).split()
_BOUNDED = frozenset("sigmoid tanh _softmax softmax relu hardsigmoid clamp clamp_min".split())
_THROUGH = LAYOUT | DROPOUT


@dataclass(slots=True, eq=False)
class Site:
    """Where a parameter meets data: ``op`` uses ``value``, which is computed from the parameter, in this role."""

    op: Op
    value: Op
    role: str
    data: Op | None = None  # the other operand


class Roles:
    """The sites of every parameter, and the role that follows. Linear in the number of operators."""

    def __init__(self, flow: Flow, norms: Norms, kinds: Mapping[str, str]) -> None:
        self.sites: dict[str, list[Site]] = {name: [] for name in flow.parameters}
        self._norms = norms
        self._kinds = kinds
        self._flow = flow
        for op in flow.ops:
            for value in op.inputs:
                if value.mixes and (op.data or not op.floating) and op.name not in CREATION:
                    self._visit(op, value)
        self._adapters()
        self.roles = {name: self._decide(sites) for name, sites in self.sites.items()}

    def norm_at(self, site: Site) -> Norm | None:
        """The normalisation that a scale or shift belongs to."""
        ahead = site.op.users if site.op.index in self._norms.scaled_before else ()
        for op in (site.op, site.data, *ahead):
            if op is not None:
                norm = self._norms.by_result.get(op.index) or self._norms.normalised.get(op.index)
                if norm is not None:
                    return norm
        return None

    def _visit(self, op: Op, value: Op) -> None:
        role, data = self._classify(op, value)
        for name in value.owners:
            own = role
            if len(value.owners) > 1:
                own = self._own_role(name, value, role)
            self.sites[name].append(Site(op, value, own, data))

    def _own_role(self, name: str, value: Op, role: str) -> str:
        """Of several parameters that make one value, those that only scale a weight are magnitudes."""
        if role in ("linear_weight", "conv_weight", "expert_weight"):
            parameter = self._flow.parameters[name]
            if _extent(parameter) < max(_extent(self._flow.parameters[other]) for other in value.owners):
                return "magnitude" if _dims(parameter) <= 1 else role
        return role

    def _decide(self, sites: Sequence[Site]) -> str:
        votes = Counter(site.role for site in sites if site.role)
        if not votes:
            return "unknown"
        best = max(votes.values())
        tied = [role for role, count in votes.items() if count == best]
        if "embedding" in votes:
            return "embedding"
        if "gate" in tied:  # inside a branch and at its end: part of an activation, as in x + sin²(a·x) / a
            tied = [role for role in tied if role != "layer_scale"]
        return min(tied, key=_RANK.index)

    def _classify(self, op: Op, value: Op) -> tuple[str, Op | None]:
        name = op.name
        if name in RECURRENT or self._kinds.get(op.module) == "rnn":
            return ("bias" if _dims(value) <= 1 else "rnn"), None
        if name in PRODUCTS:
            return self._product(op, value)
        if name in CONVOLUTIONS:
            return self._convolution(op, value)
        if name in TABLES:
            return _table(op, value)
        if op.index in self._norms.by_result and self._norms.by_result[op.index].native:
            return self._norm(op, value)
        if name == "mul" or name == "div":
            return self._factor(op, value, _other(op, value))
        if name in ("add", "sub", "rsub"):
            return self._term(op, value, _other(op, value))
        if name in ("addcmul", "addcdiv"):
            return self._fused_term(op, value)
        if name in ("cat", "stack"):
            return self._joined(op, value), None
        if is_attention(name):
            return ("attn_bias" if _place(op, value) > 2 else "token"), None
        return _elsewhere(op, value), None

    # -- products ------------------------------------------------------------------------------------------------

    def _product(self, op: Op, value: Op) -> tuple[str, Op | None]:
        position = _place(op, value)
        if op.name in ("addmm", "baddbmm", "addmv", "addbmm", "_addmm_activation"):
            if position == 0:
                return ("attn_bias" if op.name == "baddbmm" and self._meets_softmax(op) else "bias"), None
            position -= 1
        if op.name == "linear" and position == 2:
            return "bias", None
        operands = [i for i in op.args if isinstance(i, Op)][-2:]
        other = operands[1 - position] if len(operands) == 2 and position in (0, 1) else None
        if op.name in ("_grouped_mm", "grouped_mm"):
            return "expert_weight", other
        if position == 0 and other is not None and other.mixes:
            return "token", other
        if position == 0 and _dims(value) == 2 and _source_dims(value) >= 2 and _is_attention_product(op, other):
            return "token", other
        return ("expert_weight" if self._is_expert(op, value) else "linear_weight"), other

    def _is_expert(self, op: Op, value: Op) -> bool:
        """One matrix of a stack of matrices, or the stack itself in a batched product beside a router."""
        names = value.owners
        stacked = any(_dims(self._flow.parameters[name]) >= 3 for name in names)
        if not stacked:
            return False
        behind, picked = value, False
        while behind.name in LAYOUT and behind.inputs:
            picked = picked or behind.name in ("select", "unbind", "getitem", "index", "split", "chunk")
            behind = behind.inputs[0]
        return picked or behind.name in ("index", "index_select") or self._routed(op)

    def _routed(self, op: Op) -> bool:
        if not hasattr(self, "_routers"):
            self._routers = {o.module for o in self._flow.ops if o.name in ("topk", "one_hot", "nonzero", "sort")}
        module = op.module
        return any(module == r or module.rpartition(".")[0] == r.rpartition(".")[0] for r in self._routers if r)

    def _convolution(self, op: Op, value: Op) -> tuple[str, Op | None]:
        position = _place(op, value)
        data = op.arg(0)
        return ("token", "conv_weight", "bias")[min(position, 2)], data if isinstance(data, Op) else None

    # -- normalisations ------------------------------------------------------------------------------------------

    def _norm(self, op: Op, value: Op) -> tuple[str, Op | None]:
        norm = self._norms.by_result[op.index]
        if value is norm.scale:
            return "norm_scale", norm.value
        if value is norm.shift:
            return "norm_shift", norm.value
        return ("pos_embed" if _dims(value) >= 2 and not _is_token(value) else "token"), None

    def _factor(self, op: Op, value: Op, data: Op | None) -> tuple[str, Op | None]:
        chain = _chain(value)
        if op.index in self._norms.scaled_before:
            return "norm_scale", data
        if data is not None and (data.index in self._norms.normalised or data.index in self._norms.statistics):
            if "exp" in chain and _extent(value) == 1:
                return "temperature", data
            if data.index not in self._norms.scaled or op.index in self._norms.scaled:
                return "norm_scale", data
        if _is_decay(value):
            return "ssm_A_log", data
        if "exp" in chain and not _is_per_head(op, value):
            return ("temperature" if _extent(value) == 1 else "gate"), data
        if "exp" in chain:
            return "temperature", data
        if data is not None and _is_mask(data, value):
            return "mask_token", data
        if chain & _BOUNDED:
            return "gate", data
        if data is not None:
            branch = self._branch(op, value, data)
            if branch:
                return branch, data
        if _extent(value) == 1 or _is_per_head(op, value):
            return "temperature", data
        return "gate", data

    def _branch(self, op: Op, value: Op, data: Op) -> str:
        """layer_scale for a factor of a residual branch, ssm_skip for one of an input that bypasses a scan."""
        end, met = _follow(op, _THROUGH | {"mul", "div"}, ("add", "sub"))
        if met is None:
            return ""
        other = next((i for i in met.inputs if i is not end), None)
        if other is None or not other.data:
            return ""
        if any(i.owners == value.owners for i in source(other).inputs if i.mixes):
            return "gate"  # x * mix + y * (1 - mix)
        origin = _origin(data)
        if source(other).index > origin.index and _reaches(origin, other):
            return "ssm_skip"
        return "layer_scale" if source(other).index < op.index or not _reaches(origin, other) else ""

    # -- sums ----------------------------------------------------------------------------------------------------

    def _term(self, op: Op, value: Op, data: Op | None) -> tuple[str, Op | None]:
        after_norm = data is not None and (data.index in self._norms.normalised or data.index in self._norms.statistics)
        if after_norm and (_dims(value) <= 1 or source(value).name == "parameter"):
            return "norm_shift", data
        if _is_decay(value):
            return "ssm_A_log", data
        if _dims(value) >= 2 and self._meets_softmax(op):
            return "attn_bias", data
        parameter = self._flow.parameters[next(iter(value.owners))]
        if data is not None and (_is_split_bias(value, data) or (_dims(value) >= 2 and parameter.ndim == 1)):
            return "bias", data
        if _dims(value) >= 2:
            return "pos_embed", data
        if data is not None and _is_mask(data, value):
            return "mask_token", data
        if _dims(parameter) >= 2:
            return "pos_embed", data
        if parameter.ndim <= 1 or (data is not None and source(data).name in PRODUCTS | CONVOLUTIONS):
            return "bias", data
        return (
            "bias" if parameter.ndim == 4 and _extent(parameter) == (parameter.shape or (0, 0))[1] else "token"
        ), data

    def _fused_term(self, op: Op, value: Op) -> tuple[str, Op | None]:
        """input + factor × factor."""
        position = _place(op, value)
        operands = [i for i in op.args if isinstance(i, Op)]
        if position == 0:
            normed = any(i.index in self._norms.normalised for i in operands[1:])
            return ("norm_shift" if normed else "bias"), None
        data = next((i for i in operands[1:] if i is not value), None)
        if data is not None and data.index in self._norms.normalised:
            return "norm_scale", data
        first = operands[0]
        return ("gate" if first.data and data is not None and data.data else "layer_scale"), data

    def _joined(self, op: Op, value: Op) -> str:
        return "bias" if op.ndim == 1 else "token"

    def _meets_softmax(self, op: Op) -> bool:
        _, met = _follow(
            op, _THROUGH | {"add", "mul", "div", "masked_fill", "where", "sub", "maximum", "index_put"}, SOFTMAX
        )
        return met is not None

    # -- low-rank adapters ---------------------------------------------------------------------------------------

    def _adapters(self) -> None:
        """A narrow product of a layer's input, widened and added to the layer's output: W x + B (A x)."""
        by_op: dict[int, tuple[str, Site]] = {}
        for name, sites in self.sites.items():
            for site in sites:
                if site.role == "linear_weight" and len(site.value.owners) == 1:
                    by_op[site.op.index] = (name, site)
        for _, second in list(by_op.values()):
            if second.data is None:
                continue
            narrow = _behind(second.data)
            entry = by_op.get(narrow.index)
            if entry is None or not _is_narrow(entry[1].value) or not _is_narrow(second.value):
                continue
            _, met = _follow(second.op, _THROUGH | {"mul"}, ("add",))
            if met is None:
                continue
            beside = [by_op.get(_behind(i).index) for i in met.inputs]
            layers = [pair[1] for pair in beside if pair is not None and pair[1] is not second]
            first = entry[1]
            if any(s.data and first.data and _behind(s.data) is _behind(first.data) for s in layers):
                first.role, second.role = "lora_A", "lora_B"


# -- small questions about operators -----------------------------------------------------------------------------


def _place(op: Op, value: Op) -> int:
    """The place of an operand among the arguments."""
    for place, item in enumerate(op.args):
        if item is value or (isinstance(item, list) and any(i is value for i in item)):
            return place
    keys = {"bias": 2, "weight": 1, "attn_mask": 3, "attn_bias": 3}
    return next((keys.get(key, 9) for key, item in op.kwargs.items() if item is value), 9)


def _other(op: Op, value: Op) -> Op | None:
    return next((i for i in op.inputs if i is not value), None)


def _dims(op: Op) -> int:
    """Number of axes longer than 1."""
    return sum(size != 1 for size in op.shape or ())


def _source_dims(value: Op) -> int:
    return _dims(source(value))


def _extent(op: Op) -> int:
    count = 1
    for size in op.shape or ():
        count *= size
    return count


def _chain(value: Op, limit: int = 24) -> set[str]:
    """Names of the operators between the stored parameter and the value."""
    found: set[str] = set()
    waiting = [value]
    while waiting and limit:
        op = waiting.pop()
        limit -= 1
        found.add(op.name)
        waiting += [i for i in op.inputs if i.owners]
    return found


def _is_decay(value: Op, limit: int = 24) -> bool:
    """Whether it is the negative of an exponential, as state-space layers have it: exp(-exp(a) · time)."""
    waiting = [value]
    while waiting and limit:
        op = waiting.pop()
        limit -= 1
        if op.name == "neg" and "exp" in _chain(op):
            return True
        waiting += [i for i in op.inputs if i.owners]
    return False


def _follow(op: Op, through: frozenset[str] | set[str], until: Any, limit: int = 24) -> tuple[Op, Op | None]:
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


def _behind(op: Op) -> Op:
    """The value behind layout and dropout."""
    for _ in range(32):
        if op.name in _THROUGH and op.inputs:
            op = op.inputs[0]
        elif op.name == "mul" and len([i for i in op.inputs if i.data]) == 1 and not any(i.owners for i in op.inputs):
            op = next(i for i in op.inputs if i.data)  # by a number, or by a dropout mask
        else:
            break
    return op


def _origin(op: Op) -> Op:
    """The value behind layout and padding."""
    while (op.name in LAYOUT or op.name == "constant_pad_nd") and op.inputs:
        op = op.inputs[0]
    return op


def _reaches(origin: Op, target: Op, limit: int = 3000) -> bool:
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


def _is_mask(data: Op, value: Op) -> bool:
    """Data with one number per place, against a value with one per feature."""
    if not data.shape or not value.shape or _extent(value) == 1:
        return False
    return data.shape[-1] == 1 and value.shape[-1] > 1 and _extent(data) > 1 and data.ndim >= 2


def _is_per_head(op: Op, value: Op) -> bool:
    """One number per head: it varies along neither of the last two axes of a value of four."""
    shape = value.shape or ()
    return op.ndim >= 3 and len(shape) >= 3 and shape[-1] == shape[-2] == 1


def _is_split_bias(value: Op, data: Op) -> bool:
    """One number per feature, where the features stand in two axes (heads × width)."""
    layer = _behind(data)
    return layer.name in PRODUCTS and bool(layer.shape) and (layer.shape or (0,))[-1] == _extent(value)


def _is_token(value: Op) -> bool:
    return (source(value).shape or (0,))[0] == 1


def _is_attention_product(op: Op, other: Op | None) -> bool:
    """A product of learned queries with data keys: both are sequences."""
    return op.name == "bmm" and other is not None and other.data


def _is_narrow(value: Op) -> bool:
    shape = value.shape or ()
    return len(shape) == 2 and min(shape) < max(shape)


def _index_sources(op: Op, limit: int = 64) -> Iterator[Op]:
    """What the values of an index go back to; where they were picked from another tensor, that tensor."""
    waiting = [op]
    seen = {op.index}
    while waiting and limit:
        current = waiting.pop()
        limit -= 1
        yield current
        for i in current.inputs[:1] if current.name in _PICKS else current.inputs:
            if i.index not in seen:
                seen.add(i.index)
                waiting.append(i)


def _table(op: Op, value: Op) -> tuple[str, Op | None]:
    """Tables looked up by the place in the sequence are position tables; all others embeddings."""
    indices = op.arg(1, "indices")
    if op.arg(0) is not value or not isinstance(indices, Op):
        return "", None
    for current in _index_sources(indices):
        if current.name in ("arange", "cumsum") or (current.name == "buffer" and "pos" in current.label.lower()):
            _, met = _follow(op, _THROUGH | {"add", "mul", "index", "where", "masked_fill"}, SOFTMAX)
            return ("attn_bias" if met is not None else "pos_embed"), None
    return "embedding", None


_PICKS = frozenset(
    "index index_select gather take take_along_dim embedding_renorm grid_sampler_2d grid_sampler_3d".split()
)


def _elsewhere(op: Op, value: Op) -> str:
    name = op.name
    if name in ("_prelu_kernel", "prelu", "rrelu_with_noise"):
        return "slope"
    if name in _PICKS:
        return "embedding" if _place(op, value) == 0 else ""
    if name in (
        "where",
        "index_put",
        "masked_scatter",
        "copy",
        "masked_fill",
        "scatter",
        "slice_scatter",
        "select_scatter",
    ):
        return "mask_token" if _source_dims(value) <= 1 else "token"
    if name in ("lerp", "pow", "atan2"):
        return "gate"
    return "gate" if name in ACTIVATIONS else ""
