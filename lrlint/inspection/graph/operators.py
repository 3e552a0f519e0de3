"""The captured graph as flat lists: operators by number, what they read, who reads them, what depends on data.

The analyses walk these lists many times; plain attributes of small objects are what makes ten thousand operators cheap.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx

    from lrlint.inspection.graph.capture import Capture

#: Operators that pass values through: another shape, order, type or memory, or a part of them.
LAYOUT = frozenset(
    (
        "view _unsafe_view reshape _reshape_alias view_as t transpose permute expand expand_as unsqueeze squeeze "
        "flatten unflatten select slice narrow split split_with_sizes unsafe_split unsafe_split_with_sizes chunk "
        "unbind getitem detach alias clone contiguous _to_copy to type_as lift_fresh lift_fresh_copy repeat "
        "repeat_interleave movedim swapaxes swapdims diagonal as_strided unfold roll flip _conj positive "
        "resolve_conj resolve_neg pin_memory"
    ).split()
)
#: Random masks and the like: identities in expectation, and in evaluation.
DROPOUT = frozenset(("native_dropout", "dropout", "alpha_dropout", "feature_dropout", "_fused_dropout"))
PRODUCTS = frozenset(
    "mm addmm bmm baddbmm addbmm matmul linear mv addmv dot _grouped_mm grouped_mm einsum _addmm_activation".split()
)
CONVOLUTIONS = frozenset(
    "convolution _convolution conv1d conv2d conv3d mkldnn_convolution cudnn_convolution convolution_overrideable "
    "_slow_conv2d_forward conv_transpose1d conv_transpose2d conv_transpose3d".split()
)
TABLES = frozenset(("embedding", "_embedding_bag", "_embedding_bag_forward_only", "embedding_bag"))
NATIVE_NORMS = {
    "native_layer_norm": "layer",
    "layer_norm": "layer",
    "native_group_norm": "group",
    "group_norm": "group",
    "rms_norm": "rms",
    "_fused_rms_norm": "rms",
    "native_batch_norm": "batch",
    "_native_batch_norm_legit": "batch",
    "_native_batch_norm_legit_no_training": "batch",
    "_batch_norm_with_update": "batch",
    "_batch_norm_no_update": "batch",
    "cudnn_batch_norm": "batch",
    "miopen_batch_norm": "batch",
    "batch_norm": "batch",
    "instance_norm": "instance",
}
SOFTMAX = frozenset(("_softmax", "softmax", "_safe_softmax", "_log_softmax", "log_softmax"))
RECURRENT = frozenset(
    "mkldnn_rnn_layer _thnn_fused_lstm_cell _thnn_fused_gru_cell _cudnn_rnn miopen_rnn lstm gru rnn_tanh rnn_relu "
    "quantized_lstm lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell".split()
)
ACTIVATIONS = frozenset(
    "relu gelu silu mish elu celu selu leaky_relu hardswish hardsigmoid hardtanh relu6 sigmoid tanh softplus glu "
    "_prelu_kernel prelu rrelu_with_noise log_sigmoid_forward logsigmoid hardshrink softshrink softsign threshold".split()
)
#: Operators that make values out of nothing.
CREATION = frozenset(
    "zeros ones full empty arange eye linspace scalar_tensor zeros_like ones_like full_like empty_like new_zeros "
    "new_ones new_full new_empty rand randn randint rand_like randn_like randperm tril_indices "
    "empty_strided new_empty_strided logspace".split()
)
_FILLS = frozenset(("bernoulli", "uniform", "normal", "fill", "random", "exponential"))
#: The product of two parameters, or a norm of one, is data (learned tokens meet a layer), unless it ends as a weight.
_LAYERS = PRODUCTS | CONVOLUTIONS | TABLES | NATIVE_NORMS.keys() | RECURRENT


def is_attention(name: str) -> bool:
    """One of torch's fused scaled dot products: (query, key, value, ...)."""
    return name.startswith("_scaled_dot_product") or name == "scaled_dot_product_attention"


@dataclass(slots=True, eq=False)
class Op:
    """One operator. ``name`` has neither namespace, overload nor the underscore of in-place variants.

    Stored values are operators too: ``parameter``, ``buffer``, ``input``, ``constant``. ``inputs`` are the tensors it
    reads, ``users`` the operators that read it. ``data``: it depends on the inputs of the pass; otherwise ``owners``
    are the parameters that it is computed from (empty for constants).
    """

    index: int
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[Op, ...]
    shape: tuple[int, ...] | None
    module: str
    label: str = ""  # name of the parameter or buffer
    users: list[Op] = field(default_factory=list)
    data: bool = False
    owners: frozenset[str] = frozenset()
    floating: bool = True

    def arg(self, position: int, name: str = "", default: Any = None) -> Any:
        """An argument by place, else by name; an Op where it is a tensor."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default) if name else default

    @property
    def ndim(self) -> int:
        return len(self.shape) if self.shape is not None else 0

    @property
    def mixes(self) -> bool:
        """A value that only parameters (and constants) go into: a weight on its way to where it is used."""
        return bool(self.owners) and not self.data


@dataclass(slots=True)
class Flow:
    """All operators in execution order, with the places of parameters and outputs."""

    ops: list[Op]
    parameters: dict[str, Op]
    outputs: list[Op]


def flow(capture: Capture) -> Flow:
    """The forward part of a captured graph. Linear in the number of operators."""
    ops: list[Op] = []
    of: dict[fx.Node, Op] = {}
    names = {node: name for name, node in capture.parameters.items()}
    buffers = {node: name for name, node in capture.buffers.items()}
    for node in capture.graph.nodes:
        meta = node.meta
        if node.op == "output" or meta.get("phase", "forward") != "forward":
            continue
        args = tuple(_resolve(item, of) for item in node.args)
        kwargs = {key: _resolve(item, of) for key, item in node.kwargs.items()} if node.kwargs else {}
        op = Op(
            index=len(ops),
            name=_name(node, names, buffers),
            args=args,
            kwargs=kwargs,
            inputs=tuple(of[source] for source in node.all_input_nodes if source in of),
            shape=meta.get("shape"),
            module=meta.get("module") or "",
            label=names.get(node) or buffers.get(node) or "",
        )
        dtype = meta.get("dtype")
        op.floating = dtype is None or dtype.is_floating_point or dtype.is_complex
        of[node] = op
        ops.append(op)
        for source in op.inputs:
            source.users.append(op)
    outputs = [of[node] for node in _outputs(capture) if node in of]
    _drop_dead_detaches(ops, outputs)
    graph = Flow(ops, {name: of[node] for name, node in capture.parameters.items() if node in of}, outputs)
    _mark_data(ops)
    return graph


_BASE_NAMES: dict[Any, str] = {operator.getitem: "getitem"}


def _name(node: fx.Node, parameters: Mapping[fx.Node, str], buffers: Mapping[fx.Node, str]) -> str:
    if node.op == "call_function":
        target = node.target
        name = _BASE_NAMES.get(target)
        if name is None:
            schema = getattr(target, "_schema", None)
            text: str = schema.name if schema is not None else getattr(target, "__name__", str(target))
            text = text.rpartition("::")[2]
            name = text[:-1] if text.endswith("_") and not text.endswith("__") else text
            _BASE_NAMES[target] = name
        return name
    if node in parameters:
        return "parameter"
    if node in buffers:
        return "buffer"
    return "input" if node.op == "placeholder" else "constant"


def _resolve(value: Any, of: Mapping[fx.Node, Op]) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_resolve(item, of) for item in value]
    try:
        return of.get(value, value)
    except TypeError:
        return value


def _outputs(capture: Capture) -> list[fx.Node]:
    """What training looks at: the loss where the model computes one, else its predictions, else all it returns."""
    outputs = capture.outputs
    for label in ("loss", "logits"):
        if label in outputs:
            return [outputs[label]]
    kept = {label: node for label, node in outputs.items() if not _is_by_product(label)}
    return list((kept or outputs).values())


def _is_by_product(label: str) -> bool:
    return label.partition(".")[0] in ("past_key_values", "hidden_states", "attentions", "cache_params")


def _drop_dead_detaches(ops: Iterable[Op], outputs: list[Op]) -> None:
    """What autograd saves for the backward pass is detached and read by nobody here: no use of the value."""
    kept = set(map(id, outputs))
    for op in ops:
        op.users = [u for u in op.users if not (u.name == "detach" and not u.users and id(u) not in kept)]


def _mark_data(ops: Iterable[Op]) -> None:
    for op in ops:
        if op.name == "input":
            op.data = True
        elif op.name == "parameter":
            op.owners = frozenset((op.label,))
        elif op.inputs and not is_shape_only(op):
            owned = [source for source in op.inputs if source.owners]
            if any(source.data for source in op.inputs):
                op.data = True
            elif owned:
                if op.name in _LAYERS and not _ends_as_weight(op):
                    op.data = True
                elif len(owned) == 1:
                    op.owners = owned[0].owners
                else:
                    op.owners = owned[0].owners.union(*(source.owners for source in owned[1:]))


def is_shape_only(op: Op) -> bool:
    """Whether it reads no values: new tensors in the shape of another, and fills in place (``bernoulli_(mask, p)``)."""
    return op.name in CREATION or (op.name in _FILLS and len(op.args) > 1) or op.name == "zero"


def _ends_as_weight(op: Op, limit: int = 16) -> bool:
    """Whether a value computed from parameters alone is used as a layer's weight (merged adapters, standardised weights)."""
    if op.name in PRODUCTS and op.name not in ("mm", "bmm", "matmul"):
        return False  # a layer with a bias
    for _ in range(limit):
        if not op.users:
            return False
        user = op.users[0]
        if weight_place(user, op) is not None:
            return user.name != "bmm"  # that is learned keys meeting queries
        if user.name in PRODUCTS or user.name in CONVOLUTIONS or user.name in NATIVE_NORMS or is_attention(user.name):
            return False
        op = user
    return False


#: Argument places of a layer's weight.
_WEIGHTS = {"addmm": 2, "baddbmm": 2, "addmv": 1, "_addmm_activation": 2}


def weight_place(user: Op, value: Op) -> int | None:
    """The argument place if the value is the weight operand of a product or convolution (the right-hand one)."""
    if user.name in CONVOLUTIONS:
        position = 1
    elif user.name in PRODUCTS:
        position = _WEIGHTS.get(user.name, 1)
    else:
        return None
    return position if len(user.args) > position and user.args[position] is value else None


def source(op: Op) -> Op:
    """The value behind views, casts and copies."""
    while op.name in LAYOUT and op.inputs:
        op = op.inputs[0]
    return op
