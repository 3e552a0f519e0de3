"""The record a rule reads: everything lrlint knows about one target.

Nothing here imports torch. ``lrlint.inspection`` writes these facts once from live objects; rules, reports and snapshots
only read them. A fact that could not be established is None (or absent) and the reason is a `Note`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lrlint.facts import snapshot_v1
from lrlint.facts.graph import GraphFacts
from lrlint.facts.loop import LoopFacts
from lrlint.facts.modules import ExpectedTie, Model, Module, NormLayer, Unregistered
from lrlint.facts.optimizers import Group, Member, Optimizer, Rejection
from lrlint.facts.parameters import Parameter
from lrlint.facts.probe import ProbeFacts
from lrlint.facts.ranks import RankView
from lrlint.facts.resume import ResumeFacts
from lrlint.facts.scale import ScaleFacts
from lrlint.facts.schedule import Schedule
from lrlint.facts.snapshot import decode, encode
from lrlint.facts.source import SourceFacts
from lrlint.facts.span import Span
from lrlint.text.wording import count

#: What a snapshot says it is.
SCHEMA = "lrlint-setup/2"


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
    joins_later: tuple[str, ...] = ()  # globs of parameters for which a callback will add a group (BackboneFinetuning)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Note:
    """A fact that could not be established: ``fact`` names what rules need (``graph``, ``schedule``, ...)."""

    fact: str
    reason: str


@dataclass(frozen=True, eq=False, repr=False)
class Setup:
    """Everything lrlint knows about one target.

    ``train_changes`` are parameters whose ``requires_grad`` is another one after ``model.train()``.
    ``discarded`` are optimizers that the target built and did not return (an engine may have replaced one).
    ``resume`` is what loading the declared checkpoint would change.
    ``ranks`` are the views of all processes of a distributed run, in order; empty where there is one process.
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
    train_changes: tuple[Parameter, ...] = ()
    discarded: tuple[Optimizer, ...] = ()
    training: Training = field(default_factory=Training)
    resume: ResumeFacts | None = None
    ranks: tuple[RankView, ...] = ()
    graph: GraphFacts | None = None
    probe: ProbeFacts | None = None
    scale: ScaleFacts | None = None  # what building it at several widths showed (`lrlint scale`)
    source: SourceFacts | None = None
    loop: LoopFacts | None = None
    notes: tuple[Note, ...] = ()
    span: Span | None = None  # the factory's definition

    def __repr__(self) -> str:
        models = ", ".join(model.class_name for model in self.models) or "no model"
        optimizers = ", ".join(f"{o.label} in {count(len(o.groups), 'group')}" for o in self.optimizers)
        return f"<Setup: {models} ({count(len(self.parameters), 'parameter')}), {optimizers or 'no optimizer'}>"

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
        return {"schema": SCHEMA, **encode(self, Parameter, "parameters")}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Setup:
        """The Setup of `to_dict`'s data, also of schema 1. Raises ValueError with the offending key if it is not one."""
        found = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
        if not isinstance(data, Mapping) or found not in (SCHEMA, snapshot_v1.SCHEMA):
            if isinstance(found, str) and found.startswith(SCHEMA.partition("/")[0] + "/"):
                raise ValueError(f"another lrlint saved it: its schema is {found!r}, and this one reads {SCHEMA!r}")
            raise ValueError(f"not a setup snapshot: schema is {found!r}, expected {SCHEMA!r}")
        try:
            body = {key: value for key, value in snapshot_v1.upgraded(data).items() if key != "schema"}
            setup: Setup = decode(Setup, body, Parameter, "parameters")
            misfit = next(_misfits(setup), "")
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"not a setup snapshot: {error}") from error
        if misfit:
            raise ValueError(f"damaged: {misfit}")
        return setup


def _misfits(setup: Setup) -> Iterator[str]:
    """Numbers that do not refer to what they count, and curves without points."""
    for what, items in (("parameters", setup.parameters), ("optimizers", setup.optimizers)):
        if [item.index for item in items] != list(range(len(items))):
            yield f"the {what} are not numbered in order"
    for optimizer in setup.optimizers:
        if [(g.optimizer, g.index) for g in optimizer.groups] != [
            (optimizer.index, k) for k in range(len(optimizer.groups))
        ]:
            yield f"the groups of optimizer {optimizer.index} are not numbered in order"
    for item in setup.schedules:
        count = None
        if item.optimizer is not None:
            if not 0 <= item.optimizer < len(setup.optimizers):
                yield f"a schedule drives optimizer {item.optimizer}, and there is none"
                continue
            count = len(setup.optimizers[item.optimizer].groups)
        if item.groups and item.horizon is None:
            yield "a schedule has a course, and no horizon"
        for group in item.groups:
            if count is not None and not 0 <= group.group < count:
                yield f"a schedule sets the rate of group {group.group}, and there is none"
            for trace in (group.lr, *group.others.values()):
                if trace is not None and (not trace.steps or len(trace.steps) != len(trace.values)):
                    yield "a schedule's curve has no points, or values without steps"
