"""What a parameter is for, by what the operators do with it.

Every place where a parameter (or what was computed from parameters alone) meets data is a *site*. A site gives a role by
the operator and the argument's place: right-hand operand of a product, table of a lookup, operand of a normalisation,
factor of a residual branch, and so on. A parameter's role is the one most of its sites agree on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrlint.inspection.graph.norms import Norm, Norms
from lrlint.inspection.graph.operands import (
    PASS_ON,
    PICKS,
    argument_position,
    behind_layout,
    behind_padding,
    element_count,
    follow,
    index_sources,
    is_attention_product,
    is_mask,
    is_narrow,
    is_per_head,
    is_split_bias,
    is_state_decay,
    is_token,
    long_axes,
    operator_names,
    other_operand,
    reaches,
    source_long_axes,
)
from lrlint.inspection.graph.operators import (
    ACTIVATIONS,
    CONVOLUTIONS,
    CREATION,
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
            if element_count(parameter) < max(element_count(self._flow.parameters[other]) for other in value.owners):
                return "magnitude" if long_axes(parameter) <= 1 else role
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
            return ("bias" if long_axes(value) <= 1 else "rnn"), None
        if name in PRODUCTS:
            return self._product(op, value)
        if name in CONVOLUTIONS:
            return self._convolution(op, value)
        if name in TABLES:
            return _table(op, value)
        if op.index in self._norms.by_result and self._norms.by_result[op.index].native:
            return self._norm(op, value)
        if name == "mul" or name == "div":
            return self._factor(op, value, other_operand(op, value))
        if name in ("add", "sub", "rsub"):
            return self._term(op, value, other_operand(op, value))
        if name in ("addcmul", "addcdiv"):
            return self._fused_term(op, value)
        if name in ("cat", "stack"):
            return self._joined(op, value), None
        if is_attention(name):
            return ("attn_bias" if argument_position(op, value) > 2 else "token"), None
        return _elsewhere(op, value), None

    # -- products ------------------------------------------------------------------------------------------------

    def _product(self, op: Op, value: Op) -> tuple[str, Op | None]:
        position = argument_position(op, value)
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
        if position == 0 and long_axes(value) == 2 and source_long_axes(value) >= 2 and is_attention_product(op, other):
            return "token", other
        return ("expert_weight" if self._is_expert(op, value) else "linear_weight"), other

    def _is_expert(self, op: Op, value: Op) -> bool:
        """One matrix of a stack of matrices, or the stack itself in a batched product beside a router."""
        names = value.owners
        stacked = any(long_axes(self._flow.parameters[name]) >= 3 for name in names)
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
        position = argument_position(op, value)
        data = op.arg(0)
        return ("token", "conv_weight", "bias")[min(position, 2)], data if isinstance(data, Op) else None

    # -- normalisations ------------------------------------------------------------------------------------------

    def _norm(self, op: Op, value: Op) -> tuple[str, Op | None]:
        norm = self._norms.by_result[op.index]
        if value is norm.scale:
            return "norm_scale", norm.value
        if value is norm.shift:
            return "norm_shift", norm.value
        return ("pos_embed" if long_axes(value) >= 2 and not is_token(value) else "token"), None

    def _factor(self, op: Op, value: Op, data: Op | None) -> tuple[str, Op | None]:
        chain = operator_names(value)
        if op.index in self._norms.scaled_before:
            return "norm_scale", data
        if data is not None and (data.index in self._norms.normalised or data.index in self._norms.statistics):
            if "exp" in chain and element_count(value) == 1:
                return "temperature", data
            if data.index not in self._norms.scaled or op.index in self._norms.scaled:
                return "norm_scale", data
        if is_state_decay(value):
            return "ssm_A_log", data
        if "exp" in chain and not is_per_head(op, value):
            return ("temperature" if element_count(value) == 1 else "gate"), data
        if "exp" in chain:
            return "temperature", data
        if data is not None and is_mask(data, value):
            return "mask_token", data
        if chain & _BOUNDED:
            return "gate", data
        if data is not None:
            branch = self._branch(op, value, data)
            if branch:
                return branch, data
        if element_count(value) == 1 or is_per_head(op, value):
            return "temperature", data
        return "gate", data

    def _branch(self, op: Op, value: Op, data: Op) -> str:
        """layer_scale for a factor of a residual branch, ssm_skip for one of an input that bypasses a scan."""
        end, met = follow(op, PASS_ON | {"mul", "div"}, ("add", "sub"))
        if met is None:
            return ""
        other = next((i for i in met.inputs if i is not end), None)
        if other is None or not other.data:
            return ""
        if any(i.owners == value.owners for i in source(other).inputs if i.mixes):
            return "gate"  # x * mix + y * (1 - mix)
        origin = behind_padding(data)
        if source(other).index > origin.index and reaches(origin, other):
            return "ssm_skip"
        return "layer_scale" if source(other).index < op.index or not reaches(origin, other) else ""

    # -- sums ----------------------------------------------------------------------------------------------------

    def _term(self, op: Op, value: Op, data: Op | None) -> tuple[str, Op | None]:
        after_norm = data is not None and (data.index in self._norms.normalised or data.index in self._norms.statistics)
        if after_norm and (long_axes(value) <= 1 or source(value).name == "parameter"):
            return "norm_shift", data
        if is_state_decay(value):
            return "ssm_A_log", data
        if long_axes(value) >= 2 and self._meets_softmax(op):
            return "attn_bias", data
        parameter = self._flow.parameters[next(iter(value.owners))]
        if data is not None and (is_split_bias(value, data) or (long_axes(value) >= 2 and parameter.ndim == 1)):
            return "bias", data
        if long_axes(value) >= 2:
            return "pos_embed", data
        if data is not None and is_mask(data, value):
            return "mask_token", data
        if long_axes(parameter) >= 2:
            return "pos_embed", data
        if parameter.ndim <= 1 or (data is not None and source(data).name in PRODUCTS | CONVOLUTIONS):
            return "bias", data
        return (
            "bias" if parameter.ndim == 4 and element_count(parameter) == (parameter.shape or (0, 0))[1] else "token"
        ), data

    def _fused_term(self, op: Op, value: Op) -> tuple[str, Op | None]:
        """input + factor × factor."""
        position = argument_position(op, value)
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
        _, met = follow(
            op, PASS_ON | {"add", "mul", "div", "masked_fill", "where", "sub", "maximum", "index_put"}, SOFTMAX
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
            narrow = behind_layout(second.data)
            entry = by_op.get(narrow.index)
            if entry is None or not is_narrow(entry[1].value) or not is_narrow(second.value):
                continue
            _, met = follow(second.op, PASS_ON | {"mul"}, ("add",))
            if met is None:
                continue
            beside = [by_op.get(behind_layout(i).index) for i in met.inputs]
            layers = [pair[1] for pair in beside if pair is not None and pair[1] is not second]
            first = entry[1]
            if any(s.data and first.data and behind_layout(s.data) is behind_layout(first.data) for s in layers):
                first.role, second.role = "lora_A", "lora_B"


def _table(op: Op, value: Op) -> tuple[str, Op | None]:
    """Tables looked up by the place in the sequence are position tables; all others embeddings."""
    indices = op.arg(1, "indices")
    if op.arg(0) is not value or not isinstance(indices, Op):
        return "", None
    for current in index_sources(indices):
        if current.name in ("arange", "cumsum") or (current.name == "buffer" and "pos" in current.label.lower()):
            _, met = follow(op, PASS_ON | {"add", "mul", "index", "where", "masked_fill"}, SOFTMAX)
            return ("attn_bias" if met is not None else "pos_embed"), None
    return "embedding", None


def _elsewhere(op: Op, value: Op) -> str:
    name = op.name
    if name in ("_prelu_kernel", "prelu", "rrelu_with_noise"):
        return "slope"
    if name in PICKS:
        return "embedding" if argument_position(op, value) == 0 else ""
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
        return "mask_token" if source_long_axes(value) <= 1 else "token"
    if name in ("lerp", "pow", "atan2"):
        return "gate"
    return "gate" if name in ACTIVATIONS else ""
