"""Optimizers, their parameter groups, and the parameters in these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from lrlint.facts.parameters import Parameter
from lrlint.facts.span import Span

DecayForm: TypeAlias = Literal["", "coupled", "decoupled"]
MisfitKind: TypeAlias = Literal["shape", "device", "dtype", "step-device"]
RejectionKind: TypeAlias = Literal["overlap", "duplicate", "empty", "value", "non-leaf"]


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A parameter in a parameter group: its identity from the parameter, its treatment from the group."""

    parameter: Parameter
    group: Group

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.parameter, attribute)

    @property
    def weight_decay(self) -> float:
        return self.group.weight_decay

    @property
    def lr(self) -> float | None:
        return self.group.lr

    @property
    def peak_lr(self) -> float | None:
        return self.group.peak_lr


class Members(Sequence[Member]):
    """An immutable list of members with the three questions rules ask of it."""

    __slots__ = ("_items",)

    def __init__(self, items: Sequence[Member] = ()) -> None:
        self._items = tuple(items)

    def __getitem__(self, index: Any) -> Any:
        return Members(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._items)

    def where(self, condition: Callable[[Member], Any]) -> Members:
        """Those for which the condition holds."""
        return Members([member for member in self._items if condition(member)])

    def split(self, condition: Callable[[Member], Any]) -> tuple[Members, Members]:
        """(those for which the condition holds, the others)."""
        return self.where(condition), self.where(lambda member: not condition(member))

    def by(self, key: Callable[[Member], Any]) -> dict[Any, Members]:
        """Members under each value of the key, in order of first appearance."""
        found: dict[Any, list[Member]] = {}
        for member in self._items:
            found.setdefault(key(member), []).append(member)
        return {value: Members(items) for value, items in found.items()}


def number(options: Mapping[str, Any], key: str) -> float | None:
    """An option of a group as a float, or None where it is absent or not a number."""
    value = options.get(key)
    if isinstance(value, Mapping):
        value = value.get("tensor")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


@dataclass(frozen=True, eq=False)
class Group:
    """One parameter group.

    ``options`` are the group's entries as torch holds them, without ``params``; a tensor is ``{"tensor": value}``,
    anything that is not plain data is ``{"object": "its type"}``. ``written`` are the keys the user wrote on this very
    group (None where that is not known). ``family`` is that of the algorithm that updates this group (one class may run
    Muon and Adam). ``decoupled`` says whether this group's weight decay is decoupled from the gradient (AdamW) or added
    to it (L2). ``peak_lr`` is the largest rate this group will have: from the simulated schedule, else
    ``max_lr``/``initial_lr``/``lr`` times an unapplied multiplier key. ``requested`` are the options right after the
    optimizer took the group; empty where that was not observed.
    """

    optimizer: int
    index: int
    options: Mapping[str, Any]
    parameters: tuple[Parameter, ...]
    family: str = "other"
    decoupled: bool = False
    peak_lr: float | None = None
    written: frozenset[str] | None = None
    requested: Mapping[str, Any] = field(default_factory=dict)
    span: Span | None = None
    key_spans: Mapping[str, Span] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The user's own name of the group, or ``""``."""
        for key in ("name", "group_name", "param_group"):
            if isinstance(self.options.get(key), str):
                return str(self.options[key])
        return ""

    @property
    def label(self) -> str:
        """How messages call it: ``group 0`` or ``group 0 (head)``."""
        return f"group {self.index} ({self.name})" if self.name else f"group {self.index}"

    def number(self, key: str) -> float | None:
        """The option as a float, or None where it is absent or not a number."""
        return number(self.options, key)

    @property
    def lr(self) -> float | None:
        return self.number("lr")

    @cached_property
    def weight_decay(self) -> float:
        return self.number("weight_decay") or 0.0

    @cached_property
    def trainable(self) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in self.parameters if parameter.requires_grad)

    @cached_property
    def members(self) -> Members:
        return Members([Member(parameter, self) for parameter in self.parameters])


@dataclass(frozen=True, slots=True, eq=False)
class StateMisfit:
    """An optimizer state tensor whose shape, device or dtype differs from its parameter's.

    ``problem`` is ``shape``, ``device``, ``dtype`` or ``step-device``; ``found`` and ``expected`` are printable.
    """

    parameter: Parameter
    key: str
    problem: MisfitKind
    found: str
    expected: str


@dataclass(frozen=True, eq=False)
class Optimizer:
    """One optimizer. ``family``: see ``lrlint.inspection.model.optimizers`` (cited table).

    ``reads`` are the group keys that the source of the optimizer (and of its scheduler) reads; None without one.
    ``master_weights``: it keeps float32 copies, or rounds stochastically, so low-precision parameters do train.
    ``decay_form``: ``decoupled`` or ``coupled`` where torch or the source of its step says so, else ``""``.
    ``state_size``: number of parameters that have state. ``stale_state``: parameters with state whose gradient is None.
    ``groups_from``: the library that wrote its groups (transformers' Trainer, PEFT's LoRA+); "" where the user did.
    """

    index: int
    name: str
    class_name: str
    module: str
    family: str
    groups: tuple[Group, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    class_defaults: Mapping[str, Any] = field(default_factory=dict)  # of the class's own constructor
    bases: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)  # attributes rules ask for: split_groups, ...
    reads: frozenset[str] | None = None
    master_weights: bool = False
    wraps: str | None = None  # class name of the wrapper it was unwrapped from
    groups_from: str = ""
    decay_form: DecayForm = ""
    state_size: int = 0
    misfits: tuple[StateMisfit, ...] = ()
    span: Span | None = None

    @property
    def label(self) -> str:
        return f"{self.class_name} ({self.name})" if self.name else self.class_name

    @cached_property
    def members(self) -> Members:
        return Members([member for group in self.groups for member in group.members])

    def parameters(self, *roles: str) -> Members:
        """Members with one of the roles; all of them when none is named."""
        return self.members.where(lambda member: member.parameter.role in roles) if roles else self.members


@dataclass(frozen=True, slots=True, eq=False)
class Rejection:
    """torch refused to build the optimizer. ``kind``: overlap, duplicate, empty, value, non-leaf."""

    kind: RejectionKind
    error: str
    class_name: str
    parameters: tuple[Parameter, ...] = ()
    span: Span | None = None
