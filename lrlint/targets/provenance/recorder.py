"""Record where optimizers, parameter groups and schedulers were written, while the user's code builds them.

Two tiers. The constructors of torch's optimizers and schedulers and ``Optimizer.add_param_group`` are wrapped for the
duration: the nearest frame of the project gives the call. Modules of the project that are imported meanwhile have
their group literals marked (see `lrlint.targets.provenance.literals`), so that a group also leads to the ``{"params": ...}``
it was written as, and to the line of each of its keys.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from lrlint.facts import Span
from lrlint.facts.optimizers import RejectionKind
from lrlint.targets.frameworks.group_authors import caller_library
from lrlint.targets.frameworks.lr_finders import in_lr_finder
from lrlint.targets.provenance import literals as literal_marking
from lrlint.targets.provenance.project import Project

#: Some of torch's schedulers (SequentialLR, ...) never call their base's constructor: each class is wrapped.
_SCHEDULERS = (lr_scheduler.LRScheduler, lr_scheduler.ReduceLROnPlateau)

#: Classes beside torch's whose construction is worth a span, where the user's code has loaded them.
OTHERS = {
    "timm.scheduler.scheduler": ("Scheduler",),
    "transformers.training_args": ("TrainingArguments",),
    "transformers.trainer": ("Trainer",),
}


@dataclass(frozen=True, eq=False)
class GroupRecord:
    """How one parameter group came about.

    ``span`` is its literal, else the call that added it. ``key_spans`` locate the literal's keys. ``written`` are the
    keys of the dict that the optimizer was given (without ``params``), ``before`` its options once the defaults were
    filled in, and before any scheduler.
    """

    group: dict[str, Any]
    span: Span | None
    key_spans: Mapping[str, Span] = field(default_factory=dict)
    written: frozenset[str] | None = None
    before: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Failed:
    """An optimizer that torch refused to build: its class, the tensors concerned, the error and the call."""

    kind: RejectionKind
    class_name: str
    params: list[torch.Tensor]
    error: str
    span: Span | None


class ConstructionRecorder:
    """What was seen while the user's code ran. Objects stay referenced, so that no identity is used twice."""

    def __init__(self, root: Path | None) -> None:
        self.root = None if root is None else root.resolve()
        self.project = None if root is None else Project(root)
        self.failed: list[Failed] = []
        self.created_optimizers: list[tuple[Any, Span | None]] = []
        self.created_schedulers: list[tuple[Any, Span | None]] = []
        self.walks: list[tuple[Span, list[str]]] = []
        self.scheduler_configs: dict[int, dict[str, Any]] = {}  # as `configure_optimizers` returned them, by scheduler
        self._created: dict[int, tuple[Any, Span | None]] = {}
        self._groups: dict[int, GroupRecord] = {}  # by id of the group dict
        self._order: dict[int, list[GroupRecord]] = {}  # by id of the optimizer
        self._literals: dict[int, tuple[dict[str, Any], literal_marking.Literal]] = {}
        self._sources: dict[int, list[literal_marking.Literal]] = {}  # by id of what stands under "params"
        self._libraries: dict[int, str] = {}  # by id: the library whose code built the optimizer or scheduler
        self._scheduled: set[int] = set()
        self._building: set[int] = set()

    @staticmethod
    def none(root: Path | None = None) -> ConstructionRecorder:
        """The recording of objects that existed before: it knows nothing."""
        return ConstructionRecorder(root)

    def optimizer(self, optimizer: Any) -> Span | None:
        """The call that created the optimizer."""
        return self.created(optimizer)

    def scheduler(self, scheduler: Any) -> Span | None:
        """The call that created the scheduler."""
        return self.created(scheduler)

    def created(self, item: Any) -> Span | None:
        """The call that created a watched object."""
        known = self._created.get(id(item))
        return None if known is None else known[1]

    def library(self, item: Any) -> str:
        """The library that built an optimizer or scheduler for the user; "" where the user did, or it was not seen."""
        return self._libraries.get(id(item), "")

    def note_library(self, item: Any, library: str) -> None:
        """The object is being built by the code of this library ("": the user's, or another's)."""
        self._libraries[id(item)] = library

    def group(self, optimizer: Any, index: int) -> GroupRecord | None:
        """How the group came about: by its dict, or by its position where the dict was replaced since."""
        groups = optimizer.param_groups
        known = self._groups.get(id(groups[index])) if index < len(groups) else None
        order = self._order.get(id(optimizer), [])
        return known or (order[index] if len(order) == len(groups) and index < len(order) else None)

    def before(self, optimizer: Any, index: int) -> dict[str, Any]:
        """The group's options before any scheduler touched them; {} where that was not seen."""
        known = self.group(optimizer, index)
        return {} if known is None else dict(known.before)

    def note_literal(self, group: dict[str, Any], literal: literal_marking.Literal) -> None:
        """A marked expression made this dict."""
        self._literals[id(group)] = (group, literal)
        self._sources.setdefault(id(group.get("params")), []).append(literal)

    def note_created(self, item: Any, span: Span | None) -> None:
        """A watched object is being built by the call at this span."""
        self._created[id(item)] = (item, span)
        self._building.add(id(item))

    def note_complete(self, item: Any, trial: bool = False) -> None:
        """Its constructor returned. ``trial``: it belongs to a learning rate range test, and not to the training."""
        self._building.discard(id(item))
        if trial:
            return
        span = self.created(item)
        if isinstance(item, Optimizer):
            self.created_optimizers.append((item, span))
        elif hasattr(item, "step"):
            self.created_schedulers.append((item, span))

    def note_abandoned(self, item: Any) -> None:
        """Its constructor raised. The span stays known: the error is reported with it."""
        self._building.discard(id(item))

    def mark(self) -> tuple[int, int]:
        """A point to `rewind` to."""
        return len(self.created_optimizers), len(self.created_schedulers)

    def rewind(self, mark: tuple[int, int]) -> None:
        """Leave out what was created since: the code that created it runs again."""
        del self.created_optimizers[mark[0] :], self.created_schedulers[mark[1] :]

    def knows(self, item: Any) -> bool:
        """Whether the construction of this object was seen already."""
        return id(item) in self._created

    def is_under_construction(self, item: Any) -> bool:
        return id(item) in self._building

    def note_group(
        self, optimizer: Optimizer, options: dict[str, Any], source: int, written: frozenset[str], call: Span | None
    ) -> None:
        """The optimizer took a group. ``source`` is the identity of what stood under ``params`` when it was given."""
        group = optimizer.param_groups[-1]
        literal = self._literal(options, source)
        record = GroupRecord(
            group,
            literal.span if literal else call,
            literal.key_spans if literal else {},
            written,
            _options(group),
        )
        self._groups[id(group)] = record
        self._order.setdefault(id(optimizer), []).append(record)

    def note_scheduled(self, optimizer: Any) -> None:
        """The first scheduler is about to take the optimizer: what the user set until now is what counts."""
        if optimizer is None or id(optimizer) in self._scheduled:
            return
        self._scheduled.add(id(optimizer))
        for index, group in enumerate(optimizer.param_groups):
            if (known := self.group(optimizer, index)) is not None:
                known.before.clear()
                known.before.update(_options(group))

    def note_walk(self, frame: FrameType | None, pairs: Any) -> Any:
        """Names and parameters, as the project's own code asks for them: the names it takes are kept."""
        while frame is not None and frame.f_code.co_name == "named_parameters":  # a wrapper that asks what it wraps
            frame = frame.f_back
        if frame is None or self.project is None or not self.project.owns(frame.f_code.co_filename):
            return pairs
        names: list[str] = []
        self.walks.append((self.project.frame_span(frame), names))
        return _noting(pairs, names)

    def call(self, frame: FrameType, skip: Any) -> Span | None:
        """The project's call that led to this frame of a library."""
        return None if self.project is None else self.project.call_span(frame, skip)

    def literal_span(self, group: Any) -> Span | None:
        """The literal that a group dict was written as."""
        known = self._literals.get(id(group))
        return None if known is None else known[1].span

    def place(self, item: Any, span: Span | None, key_spans: Mapping[str, Span]) -> None:
        """Give an optimizer or scheduler that a library built the place where the user configured it."""
        if item is None or span is None or (self.created(item) is not None and not self.library(item)):
            return
        self._created[id(item)] = (item, span)
        records = self._order.get(id(item), [])
        records[:] = [replace(r, span=span, key_spans=r.key_spans or key_spans) for r in records]
        self._groups.update((id(record.group), record) for record in records)

    def _literal(self, group: dict[str, Any], source: int) -> literal_marking.Literal | None:
        known = self._literals.get(id(group))
        if known is not None:
            return known[1]
        copied = self._sources.get(source, [])  # {**literal, "lr": x}, literal | {...}: a new dict, the same params
        return copied[0] if len(copied) == 1 else None


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the group's options that later writes cannot reach (a tensor rate is written in place)."""
    return {
        key: value.detach().clone() if isinstance(value, torch.Tensor) else value
        for key, value in group.items()
        if key != "params"
    }


def _noting(pairs: Any, names: list[str]) -> Iterator[Any]:
    for pair in pairs:
        names.append(pair[0])
        yield pair


@contextmanager
def recording(root: Path, hook: bool = True) -> Iterator[ConstructionRecorder]:
    """Record what the code in this block builds. ``hook=False`` leaves the modules it imports unmarked.

    ``root`` is the project folder; spans are relative to it. Torch's classes are restored at the end.
    """
    record = ConstructionRecorder(root)
    with ExitStack() as stack:
        watch(record, stack)
        if hook and record.project is not None:
            stack.enter_context(literal_marking.import_hook(record.project))
            literal_marking.listeners.append(record.note_literal)
            stack.callback(literal_marking.listeners.remove, record.note_literal)
        yield record


def watch(record: ConstructionRecorder, stack: ExitStack) -> None:
    """Wrap torch's constructors until the stack closes."""
    _patch(stack, Optimizer, "__init__", lambda original: _constructor(record, original))
    _patch(stack, nn.Module, "named_parameters", lambda original: _named_parameters(record, original))
    _patch(stack, Optimizer, "add_param_group", lambda original: _add_param_group(record, original))
    for item in list(vars(lr_scheduler).values()):
        if isinstance(item, type) and issubclass(item, _SCHEDULERS) and "__init__" in vars(item):
            _patch(stack, item, "__init__", lambda original: _constructor(record, original))


def watch_others(record: ConstructionRecorder, stack: ExitStack) -> None:
    """Wrap the constructors of other libraries that the user's modules have imported by now."""
    for module in OTHERS:
        if module in sys.modules:
            watch_module(record, stack, sys.modules[module])


def watch_module(record: ConstructionRecorder, stack: ExitStack, module: ModuleType) -> None:
    """Wrap the constructors of this module that are worth a span."""
    for name in OTHERS.get(module.__name__, ()):
        member = vars(module).get(name)
        if isinstance(member, type) and "__init__" in vars(member):
            _patch(stack, member, "__init__", lambda original: _constructor(record, original))


def _patch(stack: ExitStack, owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    original = vars(owner)[name]
    patched = functools.wraps(original)(wrap(original))
    setattr(owner, name, patched)

    def restore() -> None:
        if vars(owner).get(name) is patched:
            setattr(owner, name, original)

    stack.callback(restore)


def _constructor(record: ConstructionRecorder, original: Callable[..., None]) -> Callable[..., None]:
    """Note the object with the call that creates it, once: constructors of base classes run within."""

    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        if record.knows(self):
            return original(self, *args, **kwargs)
        record.note_created(self, record.call(sys._getframe(1), self))
        record.note_library(self, caller_library(sys._getframe(1), self))
        if not isinstance(self, Optimizer):
            record.note_scheduled(_optimizer_of(args, kwargs))
        try:
            original(self, *args, **kwargs)
        except BaseException:
            record.note_abandoned(self)
            raise
        record.note_complete(self, in_lr_finder(sys._getframe(1)))

    return construct


def _named_parameters(record: ConstructionRecorder, original: Callable[..., Any]) -> Callable[..., Any]:
    def named_parameters(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return record.note_walk(sys._getframe(1), original(self, *args, **kwargs))

    return named_parameters


def _optimizer_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    optimizer = args[0] if args else kwargs.get("optimizer")
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper
    return inner if isinstance(inner, Optimizer) else None


def _add_param_group(record: ConstructionRecorder, original: Callable[..., None]) -> Callable[..., None]:
    def add_param_group(self: Optimizer, param_group: dict[str, Any]) -> None:
        if not isinstance(param_group, dict):
            return original(self, param_group)
        written = frozenset(key for key in param_group if key != "params")
        source, count = id(param_group.get("params")), len(self.param_groups)
        original(self, param_group)
        if len(self.param_groups) > count:
            span = record.created(self) if record.is_under_construction(self) else record.call(sys._getframe(1), self)
            record.note_group(self, param_group, source, written, span)

    return add_param_group
