"""The record a rule reads: parameters, groups, optimizers, norm layers, and the Setup that holds them.

Nothing here imports torch. ``lrlint.inspection`` writes these facts once from live objects; rules, formats and
snapshots only read them. A fact that could not be established is None (or absent) and the reason is a `Note`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lrlint.facts.graph import GraphFacts
from lrlint.facts.probe import ProbeFacts
from lrlint.facts.schedule import Schedule
from lrlint.facts.source import SourceFacts
from lrlint.facts.span import Span


@dataclass(frozen=True, slots=True)
class Values:
    """Statistics of a parameter's values, from at most `sampled` evenly spaced elements.

    ``exponents`` maps the binary exponent e of |w| in [2**(e-1), 2**e) to the share of sampled elements that have it;
    exact zeros are not in it (their share is ``zeros``). From it the share of elements that a step of a given size
    can move in bfloat16 follows without the tensor.
    """

    sampled: int
    rms: float
    absmax: float
    zeros: float
    finite: bool = True
    exponents: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """One parameter object (identity, not name): tied names share one record.

    ``name`` is canonical: wrapper prefixes (``module.``, ``_orig_mod.``, ...) are stripped, and the model's own name
    leads when a target has several. ``names`` are all spellings in the module tree, first the one torch lists.
    ``origin`` tells where it was met first: ``model``; ``extra`` (criterion and other modules beside the model);
    ``unregistered`` (reachable from the model, but not registered); ``optimizer`` (only the optimizer holds it);
    ``discarded`` (only one of the discarded optimizers does).
    ``kind`` is ``plain``, ``lazy``, ``meta``, ``fake``, ``quantized``, ``sparse``, ``dtensor`` or ``subclass``.
    ``role`` is one of norm, embedding, prelu, bias, position, token, relative_position, ssm, lora_A, lora_B, wn_g,
    scale, scalar, matrix (dense, convolution, recurrent weights), vector (other 1-D), other.
    ``module_kind`` is the owner's: linear, conv, rnn, attention, embedding, norm:<layer|batch|rms|group|instance>,
    prelu or other.
    ``free`` is a tensor that is no `nn.Parameter`: no module ever held it.
    """

    index: int
    name: str
    names: tuple[str, ...]
    origin: str
    role: str
    shape: tuple[int, ...] | None
    dtype: str
    device: str
    requires_grad: bool = True
    kind: str = "plain"
    leaf: str = ""
    module: str = ""
    module_class: str = ""
    module_kind: str = "other"
    is_head: bool = False  # the output head, where the model or its structure tells
    gradient: str | None = None  # None: .grad is None; else "zero" or "nonzero"
    values: Values | None = None
    no_decay: str | None = None  # how the model's author marked it as exempt from weight decay
    wanted: Mapping[str, Any] = field(default_factory=dict)  # options its author attached (S4's p._optim)
    sparse_gradient: bool = False
    free: bool = False

    @property
    def numel(self) -> int:
        """Number of elements; 0 for a lazy parameter."""
        count = 0 if self.shape is None else 1
        for size in self.shape or ():
            count *= size
        return count

    @property
    def ndim(self) -> int | None:
        return None if self.shape is None else len(self.shape)


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


@dataclass(frozen=True, eq=False)
class Group:
    """One parameter group.

    ``options`` are the group's entries as torch holds them, without ``params``; a tensor is ``{"tensor": value}``,
    anything that is not plain data is ``{"object": "its type"}``. ``written`` are the keys the user wrote on this very
    group (None where that is not known). ``family`` is the optimizer's. ``decoupled`` says whether this group's weight
    decay is decoupled from the gradient (AdamW) or added to it (L2). ``peak_lr`` is the largest rate this group will
    have: from the simulated schedule, else ``max_lr``/``initial_lr``/``lr`` times an unapplied multiplier key.
    ``requested`` are the options right after the optimizer took the group; empty where that was not observed.
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
        value = self.options.get(key)
        if isinstance(value, Mapping):
            value = value.get("tensor")
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

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
    problem: str
    found: str
    expected: str


@dataclass(frozen=True, eq=False)
class Optimizer:
    """One optimizer. ``family``: see ``lrlint.inspection.model.optimizers`` (cited table).

    ``reads`` are the group keys that the source of the optimizer (and of its scheduler) reads; None without one.
    ``master_weights``: it keeps float32 copies, or rounds stochastically, so low-precision parameters do train.
    ``decay_form``: ``decoupled`` or ``coupled`` where torch or the source of its step says so, else ``""``.
    ``state_size``: number of parameters that have state. ``stale_state``: parameters with state whose gradient is None.
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
    decay_form: str = ""
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
class Module:
    """A module of the tree in registration order; ``path`` is canonical, ``parent`` is None at a root."""

    index: int
    path: str
    class_name: str
    qualified: str
    kind: str = "other"
    parent: str | None = None
    training: bool = True
    span: Span | None = None  # the class statement, where it lies in the user's project


@dataclass(frozen=True, slots=True, eq=False)
class NormLayer:
    """A normalisation layer. ``kind``: batch, layer, rms, group, instance or other.

    ``trains_statistics``: ``training`` as it is after ``model.train()`` (a module may override ``train``).
    """

    path: str
    class_name: str
    kind: str
    weight: Parameter | None = None
    bias: Parameter | None = None
    features: int | None = None
    eps: float | None = None
    momentum: float | None = None
    tracks_statistics: bool = False
    training: bool = True
    trains_statistics: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Unregistered:
    """Something trainable that hangs on a module but is not registered with it.

    ``kind``: ``module`` (in a plain list, dict, ...), ``parameter``, or ``tensor`` (requires grad, not a Parameter;
    ``non_leaf`` when it is the result of an operation on one, ``derived`` when that operation leads back to a
    registered parameter: a stored activation). ``path`` is like ``encoder.blocks[0]``. ``parameters``
    holds a leaf tensor too.
    """

    path: str
    kind: str
    class_name: str
    owner: str
    owner_class: str
    parameters: tuple[Parameter, ...] = ()
    non_leaf: bool = False
    derived: bool = False
    span: Span | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedTie:
    """Two names the model means to be one parameter. ``tied``: they are."""

    first: Parameter
    second: Parameter
    reason: str
    tied: bool
    certain: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Rejection:
    """torch refused to build the optimizer. ``kind``: overlap, duplicate, empty, value, non-leaf."""

    kind: str
    error: str
    class_name: str
    parameters: tuple[Parameter, ...] = ()
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A root module. ``prefix`` leads its parameters' names ("" for a single model)."""

    name: str
    prefix: str
    class_name: str
    qualified: str
    library: str = ""  # transformers, lightning, peft, ... where known
    attributes: Mapping[str, Any] = field(default_factory=dict)  # e.g. {"peft": True, "model_type": "gpt2"}


@dataclass(frozen=True, slots=True)
class Training:
    """What the target declared about the run around the setup; None where it did not.

    ``options`` is everything else that was declared. ``total_steps`` counts optimizer steps.
    ``precision``: ``fp16-mixed``, ``bf16-mixed``, ``fp16``, ``bf16``, ``fp32``.
    """

    total_steps: int | None = None
    steps_per_epoch: int | None = None
    batch_size: int | None = None
    accumulation: int | None = None
    world_size: int | None = None
    precision: str | None = None
    grad_scaler: str | None = None  # qualified class name
    clip_norm: float | None = None
    distributed: str | None = None  # "ddp", "fsdp", ...
    find_unused_parameters: bool | None = None
    unfreezes: tuple[str, ...] = ()  # globs of parameters that will be unfrozen later
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Note:
    """A fact that could not be established: ``fact`` names what rules need (``graph``, ``schedule``, ...)."""

    fact: str
    reason: str


@dataclass(frozen=True, eq=False)
class Setup:
    """Everything lrlint knows about one target.

    ``discarded`` are optimizers that the target built and did not return (an engine may have replaced one).
    """

    target: str = ""
    models: tuple[Model, ...] = ()
    modules: tuple[Module, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    norms: tuple[NormLayer, ...] = ()
    optimizers: tuple[Optimizer, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    unregistered: tuple[Unregistered, ...] = ()
    aliases: tuple[tuple[Parameter, Parameter], ...] = ()
    ties: tuple[ExpectedTie, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    discarded: tuple[Optimizer, ...] = ()
    training: Training = field(default_factory=Training)
    graph: GraphFacts | None = None
    probe: ProbeFacts | None = None
    source: SourceFacts | None = None
    notes: tuple[Note, ...] = ()
    span: Span | None = None  # the factory's definition

    @property
    def manual_schedule(self) -> bool:
        """Whether the training loop sets rates by hand: it was declared, or seen in its source."""
        declared = bool(self.training.options.get("manual_schedule"))
        return declared or (self.source is not None and self.source.sets_rates)

    @cached_property
    def membership(self) -> dict[int, list[Member]]:
        """Parameter index → its memberships, over all optimizers, in order."""
        found: dict[int, list[Member]] = {}
        for optimizer in self.optimizers:
            for member in optimizer.members:
                found.setdefault(member.parameter.index, []).append(member)
        return found

    def groups_of(self, parameter: Parameter) -> list[Group]:
        return [member.group for member in self.membership.get(parameter.index, ())]

    @cached_property
    def by_name(self) -> dict[str, Parameter]:
        """Every name (canonical and raw) → its parameter."""
        found = {name: parameter for parameter in self.parameters for name in parameter.names}
        found.update((parameter.name, parameter) for parameter in self.parameters)
        return found

    @cached_property
    def module_by_path(self) -> dict[str, Module]:
        return {module.path: module for module in self.modules}

    def note(self, fact: str) -> str | None:
        """Why a fact is missing, or None."""
        return next((note.reason for note in self.notes if note.fact == fact), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` restores it without torch."""
        from lrlint.facts.snapshot import encode_setup

        return encode_setup(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Setup:
        """The Setup of `to_dict`'s data. Raises ValueError with the offending key where it is not one."""
        from lrlint.facts.snapshot import decode_setup

        return decode_setup(data)
