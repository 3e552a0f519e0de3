"""Normalisations in a captured graph: torch's own operators, and hand-written ones by their data flow.

A hand-written normalisation multiplies a value x by a statistic of degree -1 in x (or divides by one of degree 1) that
goes back to squares of x: ``x * rsqrt(mean(x**2) + eps)``, ``x / x.norm()``, ``(x - mean) / std``. Small constants added to
a statistic (eps) do not change its degree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lrlint.inspection.graph.operators import LAYOUT, NATIVE_NORMS, Op


@dataclass(slots=True, eq=False)
class Norm:
    """One normalisation as it ran.

    ``value`` is what is normalised (``axes`` are its axes), ``root`` the same behind views, ``result`` the operator that
    yields the normalised value. ``kind``: layer, rms, batch, instance, group, l2, response. ``scale``/``shift`` are the
    operands (native operators) or None.
    """

    kind: str
    root: Op
    value: Op
    result: Op
    axes: tuple[int, ...]
    native: bool
    centred: bool
    scale: Op | None = None
    shift: Op | None = None
    batch_statistics: bool = False
    updates: bool = False
    body: set[int] = field(default_factory=set)  # indices of its operators


@dataclass(slots=True)
class _Statistic:
    """Computed from reductions of ``root`` alone. ``degree``: what scaling the root by c multiplies it with, as c**degree."""

    root: Op
    value: Op  # the root in the shape in which it is reduced
    degree: float
    axes: tuple[int, ...]
    squares: bool
    centred: bool
    length: bool  # a sum or a length of squares, not their mean
    ratio: bool
    body: tuple[int, ...]


_SAME = LAYOUT | {"maximum", "clamp", "clamp_min", "abs"}
_POWERS = {"sqrt": 0.5, "rsqrt": -0.5, "reciprocal": -1.0, "square": 2.0}
_SPREAD = {"var": 2.0, "std": 1.0, "var_mean": 2.0, "std_mean": 1.0}
_LENGTHS = frozenset(("linalg_vector_norm", "norm", "frobenius_norm", "linalg_norm"))


class Norms:
    """Finds the normalisations of a list of operators in one pass, and remembers what each operator has to do with them.

    ``normalised`` maps operators to the norm whose (perhaps scaled) result they hold; ``statistics`` those that hold a
    statistic of some value.
    """

    def __init__(self, ops: Sequence[Op]) -> None:
        self.found: list[Norm] = []
        self.by_result: dict[int, Norm] = {}
        self.normalised: dict[int, Norm] = {}
        self.scaled: set[int] = set()
        self.entered: dict[int, Norm] = {}  # first operators of a norm that read its value
        self.statistics: dict[int, _Statistic] = {}
        self.scaled_before: set[int] = set()  # products with the scale that come before the division
        self._factors: dict[int, tuple[Op, Op]] = {}  # product → (value, parameter)
        self._squares: dict[int, tuple[Op, bool]] = {}
        self._root: dict[int, tuple[Op, bool]] = {}  # value behind layout and mean subtraction; whether centred
        for op in ops:
            if not op.inputs or not op.floating:
                continue
            if op.name in NATIVE_NORMS:
                self._native(op)
            else:
                self._step(op)

    def root(self, op: Op) -> tuple[Op, bool]:
        """The value behind views, casts and the subtraction of its own mean; whether a mean was subtracted."""
        return self._root.get(op.index, (op, False))

    # -- torch's own ---------------------------------------------------------------------------------------------

    def _native(self, op: Op) -> None:
        kind = NATIVE_NORMS[op.name]
        value = op.args[0]
        if not isinstance(value, Op):
            return
        norm = _native_batch(op, value) if kind == "batch" else _native_other(op, value, kind)
        norm.body.add(op.index)
        self._add(norm)

    def _add(self, norm: Norm) -> None:
        self.found.append(norm)
        self.by_result[norm.result.index] = norm
        for index in norm.body:
            self.entered.setdefault(index, norm)
        if norm.scale is None:
            self.normalised[norm.result.index] = norm
        elif norm.shift is None:
            self.normalised[norm.result.index] = norm
            self.scaled.add(norm.result.index)

    # -- hand-written --------------------------------------------------------------------------------------------

    def _step(self, op: Op) -> None:
        name, first = op.name, op.inputs[0]
        if name in LAYOUT:
            self._follow(op, first)
        elif name in ("mean", "sum"):
            self._reduction(op, first, degree=1.0)
        elif name in _SPREAD:
            root, _ = self.root(first)
            self._statistic(op, root, _SPREAD[name], _axes(op, 1, first), squares=True, centred=True)
        elif name in _LENGTHS:
            root, centred = self.root(first)
            self._statistic(op, root, 1.0, _axes(op, 2, first), squares=True, centred=centred, length=True)
        elif name in ("mul", "div"):
            self._product(op)
        elif name in ("add", "sub", "rsub"):
            self._sum(op)
        elif name == "pow":
            self._power(op, first)
        elif first.index in self.statistics and len(op.inputs) == 1:
            if name in _POWERS:
                self._derive(op, first, self.statistics[first.index].degree * _POWERS[name])
            elif name in _SAME:
                self._derive(op, first, self.statistics[first.index].degree)
        elif name in ("maximum", "where") and any(i.index in self.statistics for i in op.inputs):
            known = next(i for i in op.inputs if i.index in self.statistics)
            if all(i is known or not (i.data and i.floating) for i in op.inputs):
                self._derive(op, known, self.statistics[known.index].degree)
        elif name == "square":
            self._squares[op.index] = self.root(first)

    def _follow(self, op: Op, first: Op) -> None:
        """Layout keeps what is known of a value. Batch statistics come first of var_mean, means second."""
        index = first.index
        if index in self.statistics:
            self._derive(op, first, self.statistics[index].degree)
            if op.name == "getitem" and first.name in ("var_mean", "std_mean") and op.arg(1) == 1:
                mean = self.statistics[op.index]
                mean.degree, mean.squares, mean.centred = 1.0, False, False
        if index in self._root:
            self._root[op.index] = self._root[index]
        elif first.floating and op.name != "getitem":
            self._root[op.index] = (first, False)
        if index in self._squares:
            self._squares[op.index] = self._squares[index]
        if (index in self.normalised and op.name != "getitem") or (
            index in self.by_result and op.name == "getitem" and index in self.normalised and op.arg(1) == 0
        ):
            self.normalised[op.index] = self.normalised[index]
            if index in self.scaled:
                self.scaled.add(op.index)

    def _reduction(self, op: Op, first: Op, degree: float) -> None:
        if first.index in self._squares:
            root, centred = self._squares[first.index]
            total = op.name == "sum"
            axes, body = _axes(op, 1, first), (first.index,)
            self._statistic(op, root, 2.0, axes, squares=True, centred=centred, length=total, body=body)
        elif first.index in self.statistics:
            self._derive(op, first, self.statistics[first.index].degree)
        elif first.floating:
            root, centred = self.root(first)
            if not centred:
                self._statistic(op, root, degree, _axes(op, 1, first), squares=False, centred=False)

    def _statistic(
        self,
        op: Op,
        root: Op,
        degree: float,
        axes: tuple[int, ...],
        *,
        squares: bool,
        centred: bool,
        length: bool = False,
        body: tuple[int, ...] = (),
    ) -> None:
        value = op.inputs[0]
        self.statistics[op.index] = _Statistic(
            root, value, degree, axes, squares, centred, length, False, (*body, op.index)
        )

    def _derive(self, op: Op, first: Op, degree: float, ratio: bool = False) -> None:
        s = self.statistics[first.index]
        self.statistics[op.index] = _Statistic(
            s.root, s.value, degree, s.axes, s.squares, s.centred, s.length, s.ratio or ratio, (*s.body[-6:], op.index)
        )

    def _power(self, op: Op, first: Op) -> None:
        exponent = op.arg(1, "exponent")
        if not isinstance(exponent, (int, float)):
            return
        if first.index in self.statistics:
            self._derive(op, first, self.statistics[first.index].degree * exponent)
        elif exponent == 2:
            self._squares[op.index] = self.root(first)

    def _sum(self, op: Op) -> None:
        a, b = op.arg(0), op.arg(1, "other")
        if op.name == "rsub":
            a, b = b, a
        sa, sb = self._known(a), self._known(b)
        if sa and sb and sa.root is sb.root and sa.degree == sb.degree:
            kept = a if sa.squares else b
            self._derive(op, kept, sa.degree)  # E[x²] - E[x]²
            self.statistics[op.index].centred = True
        elif (sa or sb) and not _is_data(b if sa else a):
            known, holder = (sa, a) if sa else (sb, b)
            assert known is not None
            self._derive(op, holder, known.degree)
        elif sb and op.name == "sub" and isinstance(a, Op) and sb.degree == 1 and not sb.squares:
            root, _ = self.root(a)
            if root is sb.root:
                self._root[op.index] = (root, True)

    def _known(self, value: Any) -> _Statistic | None:
        return self.statistics.get(value.index) if isinstance(value, Op) else None

    def _product(self, op: Op) -> None:
        a, b = op.arg(0), op.arg(1, "other")
        sign = 1.0 if op.name == "mul" else -1.0
        if a is b and isinstance(a, Op):
            if a.index not in self.statistics:
                self._squares[op.index] = self.root(a)
            else:
                self._derive(op, a, 2 * self.statistics[a.index].degree)
            return
        sa, sb = self._known(a), self._known(b)
        if sa and sb and sa.root is sb.root:
            squares = a if sa.squares else b
            self._derive(op, squares, sa.degree + sign * sb.degree, ratio=op.name == "div" and sa.squares)
            return
        for value, other, s, power in ((a, b, sb, sign), (b, a, sa, 1.0)):
            if s is None or not isinstance(value, Op):
                continue
            if value is b and op.name == "div":
                continue
            behind = self._factors.get(value.index, (value,))[0]
            root, centred = self.root(behind)
            if root is s.root and s.squares and value.index not in self.statistics:
                if s.degree * power == -1:
                    self._hand_written(op, value, other, s, centred)
                    if behind is not value:
                        self._scaled_before(op, value)
                    return
                if s.degree == 0 and s.ratio:
                    self._add(Norm("response", root, s.value, op, s.axes, False, False, body={*s.body, op.index}))
                    return
        if sa and not _is_data(b):
            self._derive(op, a, sa.degree)
        elif sb and not _is_data(a):
            self._derive(op, b, sign * sb.degree)
        else:
            self._scale(op, a, b)

    def _hand_written(self, op: Op, value: Op, statistic: Any, s: _Statistic, centred: bool) -> None:
        kind = _hand_kind(s, centred, value.ndim)
        norm = Norm(kind, s.root, s.value, op, s.axes, False, centred, body={*s.body, op.index})
        norm.batch_statistics = 0 in s.axes and value.ndim > 1
        norm.body.update(i.index for i in op.inputs if i is not s.root and i.data)
        self._add(norm)
        scale = next((i for i in statistic.inputs if i.mixes), None) if isinstance(statistic, Op) else None
        if scale is not None:
            norm.scale = scale
            self.scaled.add(op.index)

    def _scaled_before(self, op: Op, value: Op) -> None:
        self.scaled_before.add(value.index)
        self.scaled.add(op.index)
        self.by_result[op.index].scale = self._factors[value.index][1]

    def _scale(self, op: Op, a: Any, b: Any) -> None:
        """A value times something: if normalised, still so, and scaled; if not, it may be normalised afterwards."""
        for value, factor in ((a, b), (b, a)):
            if isinstance(value, Op) and value.data and isinstance(factor, Op) and factor.mixes:
                self._factors[op.index] = (value, factor)
            if isinstance(value, Op) and value.index in self.normalised and value.index not in self.scaled:
                if isinstance(factor, Op) and factor.mixes:
                    self.normalised[op.index] = self.normalised[value.index]
                    self.scaled.add(op.index)
                elif not _is_data(factor):
                    self.normalised[op.index] = self.normalised[value.index]
                return


def _is_data(value: Any) -> bool:
    return isinstance(value, Op) and value.data


def _axes(op: Op, position: int, value: Op) -> tuple[int, ...]:
    """The reduced axes, counted from the front; all of them where none are named."""
    dims = op.arg(position, "dim")
    if isinstance(dims, int):
        dims = [dims]
    if not isinstance(dims, list) or not dims:
        return tuple(range(value.ndim))
    return tuple(sorted(d % max(value.ndim, 1) for d in dims if isinstance(d, int)))


def _hand_kind(s: _Statistic, centred: bool, ndim: int) -> str:
    if 0 in s.axes and ndim > 1:
        return "batch"
    if not centred and not s.centred:
        return "l2" if s.length else "rms"
    if ndim >= 4 and s.axes == tuple(range(2, ndim)):
        return "instance"
    return "layer"


def _native_batch(op: Op, value: Op) -> Norm:
    """(input, weight, bias, running_mean, running_var, training, ...), and its variants without running statistics."""
    scale, shift = op.arg(1, "weight"), op.arg(2, "bias")
    running, training = op.arg(3, "running_mean"), True
    if op.name in ("_native_batch_norm_legit_no_training", "_batch_norm_no_update"):
        training = False
    elif op.name == "_native_batch_norm_legit" and isinstance(running, bool):
        training, running = running, None  # .no_stats: (input, weight, bias, training, ...)
    elif op.name != "_batch_norm_with_update":
        training = bool(op.arg(5, "training", True))
    axes = tuple(axis for axis in range(value.ndim) if axis != 1)
    norm = Norm("batch", value, value, op, axes, True, training, _op(scale), _op(shift))
    norm.batch_statistics = training
    norm.updates = training and isinstance(running, Op)
    if value.shape and value.shape[0] == 1 and _is_instance(value, scale):
        norm.kind = "instance"
    return norm


def _is_instance(value: Op, scale: Any) -> bool:
    """Instance norm runs as a batch norm of one sample with batch × channels channels, its weight repeated."""
    if isinstance(scale, Op):
        return scale.name == "repeat" or (scale.name in LAYOUT and scale.inputs[0].name == "repeat")
    behind = value.inputs[0] if value.name in LAYOUT and value.inputs else None
    return behind is not None and behind.ndim == value.ndim and behind.shape != value.shape


def _native_other(op: Op, value: Op, kind: str) -> Norm:
    shape = op.arg(1, "normalized_shape")
    if kind == "group":
        return Norm(kind, value, value, op, tuple(range(1, value.ndim)), True, True, _op(op.arg(1)), _op(op.arg(2)))
    length = len(shape) if isinstance(shape, list) else 1
    axes = tuple(range(value.ndim - length, value.ndim))
    shift = _op(op.arg(3, "bias")) if kind == "layer" else None
    return Norm(kind, value, value, op, axes, True, kind == "layer", _op(op.arg(2, "weight")), shift)


def _op(value: Any) -> Op | None:
    return value if isinstance(value, Op) else None
