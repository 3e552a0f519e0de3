"""Which parameters can be multiplied by any positive number without changing the outputs (scale invariance).

Such a weight stands before a normalisation: its gradient is orthogonal to it (Euler: sum w · dL/dw = 0), and weight
decay on it does not shrink the function but sets the effective learning rate (https://arxiv.org/abs/1706.05350,
https://arxiv.org/abs/1812.03981). The degree of homogeneity in the parameter is followed through the operators: products
add degrees, sums need equal ones, a normalisation takes its input's degree to 0. The small constant that a normalisation
adds to its variance is taken as 0.
"""

from __future__ import annotations

from typing import Any

from lrlint.inspection.graph.norms import Norms
from lrlint.inspection.graph.operators import CONVOLUTIONS, DROPOUT, LAYOUT, PRODUCTS, Flow, Op, is_attention, source
from lrlint.inspection.graph.propagation import ChangePropagation, NotCancelled, Unknown

_LINEAR = (
    frozenset(
        "relu leaky_relu abs neg sum mean amax amin cumsum tril triu avg_pool1d avg_pool2d avg_pool3d max_pool2d max_pool3d "
        "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d upsample_nearest1d upsample_nearest2d "
        "upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa "
        "upsample_trilinear3d _upsample_bicubic2d_aa reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d "
        "pixel_shuffle pixel_unshuffle channel_shuffle col2im im2col linalg_vector_norm norm frobenius_norm trace relu6_none "
        "logcumsumexp_none median nanmean prims_none native_channel_shuffle _fft_r2c _fft_c2r _fft_c2c view_as_real "
        "view_as_complex real imag rot90".split()
    )
    | LAYOUT
)
_POWERS = {"sqrt": 0.5, "rsqrt": -0.5, "reciprocal": -1.0, "square": 2.0, "var": 2.0, "std": 1.0, "prod": float("nan")}
_PICKS = frozenset("index index_select gather take take_along_dim embedding masked_select".split())
#: Several outputs: the degree of each, as a multiple of the input's.
_SEVERAL = {
    "native_dropout": (1.0, 0.0),
    "max": (1.0, 0.0),
    "min": (1.0, 0.0),
    "topk": (1.0, 0.0),
    "sort": (1.0, 0.0),
    "kthvalue": (1.0, 0.0),
    "mode": (1.0, 0.0),
    "max_pool2d_with_indices": (1.0, 0.0),
    "max_pool3d_with_indices": (1.0, 0.0),
    "adaptive_max_pool2d": (1.0, 0.0),
    "var_mean": (2.0, 1.0),
    "std_mean": (1.0, 1.0),
}
_ALIKE = frozenset(
    "add sub rsub cat stack where maximum minimum masked_scatter index_put scatter scatter_add index_add copy "
    "slice_scatter select_scatter scatter_reduce index_copy".split()
)
_COMPARE = frozenset("gt lt ge le eq ne".split())
_SIGNS = frozenset("sign argmax argmin argsort sgn".split())
_CURVED = frozenset(
    "exp exp2 expm1 log log2 log1p log10 sin cos tan erf erfc logsumexp sigmoid tanh gelu silu mish elu celu selu softplus "
    "hardswish hardsigmoid hardtanh relu6 glu log_sigmoid_forward atan atan2 nll_loss_forward nll_loss2d_forward mse_loss "
    "smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits _softmax _safe_softmax _log_softmax "
    "softmax log_softmax softsign hardshrink softshrink threshold round floor ceil _ctc_loss polar sinh cosh".split()
)
_ZEROS = frozenset("zeros zeros_like new_zeros empty empty_like new_empty zero empty_strided new_empty_strided".split())

Degree = float | tuple[float, ...]


class ScaleInvariance(ChangePropagation[Any]):
    """Walks with the degree of homogeneity in the parameter as state."""

    def __init__(self, flow: Flow, live: frozenset[int], norms: Norms) -> None:
        super().__init__(flow, live)
        self._norms = norms

    def start(self, parameter: Op) -> Degree:
        return 1.0

    def key(self, state: Degree) -> Degree:
        # c ↦ c**degree maps the positive numbers onto themselves: all degrees but 0 have one future.
        return 1.0 if isinstance(state, float) else tuple(state)

    def transfer(self, op: Op, changed: dict[int, Any]) -> Degree | None:
        degree = self._degree(op, changed)
        return None if degree == 0 or degree is None else degree

    def _degree(self, op: Op, changed: dict[int, Any]) -> Degree | None:
        name = op.name
        if name == "getitem":
            held = changed[op.inputs[0].index]
            return held[op.arg(1)] if isinstance(held, tuple) else held
        of = _Lookup(changed)
        if name in _LINEAR:
            return of(op.inputs[0])
        if name in _SEVERAL:
            first = of(op.inputs[0])
            return tuple(first * factor for factor in _SEVERAL[name]) if _splits(op) else first * _SEVERAL[name][0]
        if name in ("mul", "div", "pow") or name in _POWERS:
            return _algebra(op, of)
        if name in PRODUCTS or name in CONVOLUTIONS:
            return _product(op, of)
        if name in _ALIKE or name in ("clamp", "clamp_min", "masked_fill", "constant_pad_nd", "addcmul"):
            return self._alike(op, of)
        if name in _PICKS:
            return of(op.arg(0)) if not any(of(i) for i in op.inputs[1:]) else _matters()
        if op.index in self._norms.by_result and self._norms.by_result[op.index].native:
            return self._norm(op, of)
        if name == "_weight_norm_interface":  # g * v / ||v||
            return (of(op.arg(1)), of(op.arg(0)))
        if name in _COMPARE:
            return _compare(op, of)
        if name in _SIGNS:
            return 0.0
        if name in ("_prelu_kernel", "prelu"):
            return of(op.arg(0)) if not of(op.arg(1)) else _matters()
        if name in DROPOUT:
            return of(op.inputs[0])
        if is_attention(name):
            return _matters() if of(op.arg(0)) or of(op.arg(1)) else (of(op.arg(2)),) + (0.0,) * 8
        if name in _CURVED:
            raise NotCancelled
        raise Unknown

    def _alike(self, op: Op, of: _Lookup) -> Degree:
        """Operators whose tensors must all scale alike. Zeros scale like anything; so does the eps of a statistic."""
        if op.name == "addcmul":
            a, b, c = (of(op.arg(position)) for position in range(3))
            return a if a == b + c else _matters()
        operands = [i for i in op.inputs if i.floating and i.shape is not None and 0 not in i.shape]
        if op.name == "where":
            operands = [i for i in operands if i is not op.arg(0)]
        degrees = {of(i) for i in operands if of(i) or source(i).name not in _ZEROS}
        numbers = [a for a in op.args[1:3] if isinstance(a, (int, float)) and not isinstance(a, bool) and a != 0]
        if op.name == "constant_pad_nd":
            numbers = [v for v in [op.arg(2, "value", 0)] if v]
        elif op.name in ("cat", "stack", "index_put", "scatter", "scatter_add", "index_add", "copy", "slice_scatter"):
            numbers = []
        elif op.name == "masked_fill":
            numbers = [v for v in [op.arg(2, "value", 0)] if isinstance(v, (int, float)) and v != 0]
        elif op.name == "select_scatter" or op.name == "scatter_reduce":
            numbers = []
        if op.name in ("add", "sub") and len(operands) > 1:
            numbers = []
        if op.index in self._norms.statistics:
            numbers = [v for v in numbers if abs(v) > 1e-2]
            if len(degrees) > 1:
                degrees.discard(0.0)
        if numbers or len(degrees) != 1:
            raise NotCancelled
        return degrees.pop()

    def _norm(self, op: Op, of: _Lookup) -> Degree:
        norm = self._norms.by_result[op.index]
        value = of(op.args[0])
        if value and norm.kind in ("batch", "instance") and not norm.batch_statistics:
            raise NotCancelled  # running statistics do not scale with the input
        scale = of(norm.scale) if norm.scale is not None else 0.0
        if norm.shift is not None and of(norm.shift) != scale:
            raise NotCancelled
        return (scale, value, -value, 0.0, 0.0) if _splits(op) else scale


class _Lookup:
    """The degree of an argument; 0 where it does not change."""

    def __init__(self, changed: dict[int, Any]) -> None:
        self._changed = changed

    def __call__(self, value: Any) -> Any:
        degree = self._changed.get(value.index, 0.0) if isinstance(value, Op) else 0.0
        if isinstance(degree, tuple):
            raise Unknown
        return degree


def _matters() -> float:
    raise NotCancelled


def _splits(op: Op) -> bool:
    return any(user.name == "getitem" for user in op.users)


def _algebra(op: Op, of: _Lookup) -> float:
    first = of(op.arg(0))
    if op.name == "mul":
        return float(first + of(op.arg(1, "other")))
    if op.name == "div":
        return float(first - of(op.arg(1, "other")))
    if op.name == "pow":
        exponent = op.arg(1, "exponent")
        if not isinstance(exponent, (int, float)):
            raise NotCancelled
        return float(first * exponent)
    factor = _POWERS[op.name]
    if factor != factor:
        raise Unknown
    return float(first * factor)


def _product(op: Op, of: _Lookup) -> float:
    """Degrees of the factors add up; what is added must have as much."""
    tensors = [a for a in op.args if isinstance(a, Op)]
    if op.name in ("addmm", "baddbmm", "addbmm", "addmv", "_addmm_activation"):
        if op.name == "_addmm_activation":
            raise Unknown
        return _with_bias(of(tensors[1]) + of(tensors[2]), tensors[0], of)
    degree = of(tensors[0]) + of(tensors[1])
    if op.name in CONVOLUTIONS or op.name == "linear":
        bias = op.arg(2, "bias")
        return _with_bias(degree, bias, of) if isinstance(bias, Op) else float(degree)
    return float(degree)


def _with_bias(degree: float, bias: Op, of: _Lookup) -> float:
    if of(bias) != degree and source(bias).name not in _ZEROS:
        raise NotCancelled
    return float(degree)


def _compare(op: Op, of: _Lookup) -> float:
    other = op.arg(1, "other")
    if isinstance(other, Op):
        if of(op.arg(0)) == of(other):
            return 0.0
    elif other == 0:
        return 0.0
    raise NotCancelled
