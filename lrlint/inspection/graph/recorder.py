"""Write down every operator of an eager run as a node of a torch.fx.Graph.

The graph is an observation, not executable code. Floating point values lie on the meta device and have no memory; small
integer and boolean tensors stay real, so that positions, masks and lengths keep their values; so do, in their shadows,
small floating point constants. Where the code asks for a value that does not exist, a plausible one is given and the run
is marked as guessed.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.utils._python_dispatch import TorchDispatchMode

from lrlint.inspection.graph.constants import META as _META
from lrlint.inspection.graph.constants import SMALL as _SMALL
from lrlint.inspection.graph.constants import ConstantCopies, tensors_in

aten = torch.ops.aten

#: Elements of stand-in values for an operator that has no meta kernel.
_LARGE = 1 << 22
_CREATION = frozenset(
    (
        aten.arange.default, aten.arange.start, aten.arange.start_step, aten.zeros.default, aten.ones.default,
        aten.full.default, aten.zeros_like.default, aten.ones_like.default, aten.full_like.default,
        aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.scalar_tensor.default,
        aten.empty.memory_format, aten.new_empty.default, aten.empty_like.default,
    )
)  # fmt: skip


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records into ``graph``. ``known`` names the tensors that exist before: (node kind, target)."""

    def __init__(self, name: Callable[[torch.Tensor], tuple[str, str] | None], lines: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.nodes: dict[int, fx.Node] = {}
        self.named: dict[str, dict[str, fx.Node]] = {"parameter": {}, "buffer": {}}
        self.module = ""
        self.guessed = False
        self.answered = False  # a guess that decides what the code does, more than how many rows are selected
        self._name = name
        self._lines = lines
        self._keep: list[Any] = []
        self._writers: dict[int, tuple[fx.Node, int]] = {}
        self._shadows = ConstantCopies()
        self._count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        result = self._shadows.of_call(func, args, kwargs, self._run)
        self._record(func, args, kwargs, result)
        return result

    # -- running -----------------------------------------------------------------------------------------------------

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        if (special := _SPECIAL.get(func)) is not None:
            return special(self, func, args, kwargs)
        if func in _CREATION:
            return _create(func, args, kwargs)
        if func is aten._to_copy.default and kwargs.get("device") == _META and _is_kept_real(args[0]):
            return func(*args, **{**kwargs, "device": torch.device("cpu")})
        if func is aten._to_copy.default and args[0].device == _META and kwargs.get("device") is not None:
            return func(*args, **{**kwargs, "device": _META})  # there is nothing to copy out of it
        tensors = list(tensors_in((args, kwargs)))
        if not any(t.device.type == "meta" for t in tensors) or (
            func._schema.is_mutable and tensors[0].device.type == "cpu"
        ):
            return self._plainly(func, args, kwargs, tensors)
        return self._on_meta(func, args, kwargs)

    def _plainly(self, func: Any, args: Any, kwargs: Any, tensors: list[torch.Tensor]) -> Any:
        if all(t.device.type != "meta" for t in tensors):
            return func(*args, **kwargs)
        self.guessed = self.answered = True  # written into a real tensor: what that holds is not known any more
        return args[0]

    def _on_meta(self, func: Any, args: Any, kwargs: Any) -> Any:
        moved = _map(args, _to_meta), _map(kwargs, _to_meta)
        try:
            return func(*moved[0], **moved[1])
        except (NotImplementedError, RuntimeError):
            if sum(t.numel() for t in tensors_in((args, kwargs))) > _LARGE:
                raise
            return self._on_zeros(func, args, kwargs)

    def _on_zeros(self, func: Any, args: Any, kwargs: Any) -> Any:
        """An operator without a meta kernel, on zeros in place of what has no values."""
        real = _map(args, _zeros), _map(kwargs, _zeros)
        result = func(*real[0], **real[1])
        if any(not t.is_floating_point() for t in tensors_in(result)):
            self.guessed = self.answered = True
        return _map(result, lambda t: _to_meta(t) if t.is_floating_point() else t)

    # -- recording ---------------------------------------------------------------------------------------------------

    def node_of(self, tensor: torch.Tensor) -> fx.Node:
        """The node that stands for a tensor; one that is new here is named, or a constant."""
        known = self.nodes.get(id(tensor))
        if known is None:
            kind, target = self._name(tensor) or ("constant", f"constant_{len(self._keep)}")
            known = self.graph.get_attr(target)
            self._describe(known, tensor)
            if kind in self.named:
                self.named[kind][target] = known
            self._remember(tensor, known)
        if self._writers:
            writer = self._writers.get(tensor.untyped_storage()._cdata) if tensor.layout is torch.strided else None
            if writer is not None and known.meta["rank"] < writer[1]:
                return writer[0]
        return known

    def placeholder(self, name: str, tensor: torch.Tensor) -> None:
        """A tensor that the pass is given."""
        node = self.graph.placeholder(name.replace(".", "_"))
        self._describe(node, tensor)
        self._remember(tensor, node)

    def _remember(self, tensor: torch.Tensor, node: fx.Node) -> None:
        self.nodes[id(tensor)] = node
        self._keep.append(tensor)

    def _describe(self, node: fx.Node, tensor: Any) -> None:
        self._count += 1
        meta = node.meta
        meta["rank"] = self._count
        meta["module"] = self.module
        meta["phase"] = "forward"
        if isinstance(tensor, torch.Tensor):
            meta["shape"], meta["dtype"] = _shape(tensor), tensor.dtype
            meta["requires_grad"] = tensor.requires_grad
        if self._lines:
            meta["line"] = _line()

    def _record(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        mutable = func._schema.is_mutable
        node = self.graph.create_node("call_function", func, _map(args, self.node_of), _map(kwargs, self.node_of))
        self._describe(node, result)
        node.meta["grad_enabled"] = torch.is_grad_enabled()
        if isinstance(result, torch.Tensor):
            self._remember(result, node)
            written = [result] if mutable else []
        elif isinstance(result, (tuple, list)):
            node.meta["shapes"] = [_shape(t) if isinstance(t, torch.Tensor) else None for t in result]
            for index, item in enumerate(result):
                if isinstance(item, torch.Tensor):
                    part = self.graph.call_function(operator.getitem, (node, index))
                    self._describe(part, item)
                    self._remember(item, part)
            written = []
        else:
            written = list(tensors_in(args[:1])) if mutable else []
        for tensor in written:
            self.nodes[id(tensor)] = node
            if tensor.layout is torch.strided:
                self._writers[tensor.untyped_storage()._cdata] = (node, node.meta["rank"])


def _shape(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """None for nested tensors: they have a shape per part, or sizes without numbers."""
    return None if tensor.is_nested else tuple(tensor.shape)


def _line() -> tuple[str, int] | None:
    """The innermost line outside torch and this package."""
    frame: Any = sys._getframe(3)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(("torch.", "lrlint.")) and name != "torch":
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def _map(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """The value with every tensor changed; containers are made anew."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_map(item, change) for item in value)
    if isinstance(value, list):
        return [_map(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _map(item, change) for key, item in value.items()}
    return value


def _to_meta(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.device.type == "meta" or (tensor.ndim == 0 and not tensor.requires_grad):
        return tensor
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _zeros(tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros(tensor.shape, dtype=tensor.dtype) if tensor.device.type == "meta" else tensor


def _is_kept_real(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and not tensor.is_floating_point() and tensor.numel() <= _SMALL


def _create(func: Any, args: Any, kwargs: Any) -> Any:
    """New integers and booleans are real: masks and positions are made of them."""
    result = func(*args, **kwargs)
    if result.device.type != "meta" or result.is_floating_point() or result.numel() > _SMALL:
        return result
    like = [torch.empty(a.shape, dtype=a.dtype) if isinstance(a, torch.Tensor) else a for a in args]
    return func(*like, **{**kwargs, "device": torch.device("cpu")})


def _scalar(self: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    if tensor.device.type != "meta":
        return func(*args, **kwargs)
    self.guessed = self.answered = True
    if tensor.dtype is torch.bool:  # a check that all is well comes out well
        made_by = getattr(self.node_of(tensor).target, "_schema", None)
        return made_by is not None and made_by.name == "aten::all"
    return 1.0 if tensor.is_floating_point() else 1


def _nonzero(self: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    if tensor.device.type == "meta":
        if tensor.numel() > _SMALL:
            raise NotImplementedError("the positions of non-zero values depend on data")
        self.guessed = True
        tensor = torch.ones(tensor.shape, dtype=torch.bool)
    return func(tensor, **kwargs)


def _index(self: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    """Boolean masks select as many elements as they have; a mask without values selects all."""
    indices: list[Any] = []
    for index in args[1]:
        if index is not None and index.dtype in (torch.bool, torch.uint8) and _is_mixed(args):
            indices += list(_nonzero(self, aten.nonzero.default, (index,), {}).unbind(1))
        else:
            indices.append(index)
    changed = (args[0], indices, *args[2:])
    if not _is_mixed(changed):
        return func(*changed, **kwargs)
    if func._schema.is_mutable:
        if args[0].device.type == "meta":
            return args[0]
        return self._plainly(func, changed, kwargs, list(tensors_in(changed)))
    return self._on_meta(func, changed, kwargs)


def _masked_select(self: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    if not _is_mixed(args):
        return func(*args, **kwargs)
    shape = torch.broadcast_shapes(args[0].shape, args[1].shape)  # type: ignore[no-untyped-call]
    positions = _nonzero(self, aten.nonzero.default, (args[1].expand(shape),), {})
    return torch.empty(len(positions), dtype=args[0].dtype, device="meta")


def _grouped_mm(self: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    first, second = args[0], args[1]
    if not _is_mixed(args):
        return func(*args, **kwargs)
    shape = (
        (*first.shape[:-1], second.shape[-1]) if first.ndim == 2 else (first.shape[0], first.shape[1], second.shape[-1])
    )
    return torch.empty(shape, dtype=first.dtype, device="meta")


def _packed(self: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    """Sequences packed by their lengths; of the values only the number of rows is needed."""
    values, lengths = args[0], args[1]
    if values.device.type != "meta" or lengths.device.type == "meta":
        return self._on_meta(func, args, kwargs) if _is_mixed(args) else func(*args, **kwargs)
    rows, sizes = func(torch.zeros(*values.shape[:2], 1), *args[1:], **kwargs)
    return torch.empty(rows.shape[0], *values.shape[2:], dtype=values.dtype, device="meta"), sizes


def _is_mixed(values: Any) -> bool:
    return any(tensor.device.type == "meta" for tensor in tensors_in(values))


_SPECIAL: dict[Any, Callable[..., Any]] = {
    aten._local_scalar_dense.default: _scalar,
    aten.nonzero.default: _nonzero,
    aten.index.Tensor: _index,
    aten.index_put.default: _index,
    aten.index_put_.default: _index,
    aten._index_put_impl_.default: _index,
    aten.masked_select.default: _masked_select,
    aten._pack_padded_sequence.default: _packed,
}
if hasattr(aten, "_grouped_mm"):
    _SPECIAL[aten._grouped_mm.default] = _grouped_mm
