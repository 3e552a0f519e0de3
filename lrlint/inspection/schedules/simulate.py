"""The scheduler, run on a stand-in: what each group's options will be over the run.

`simulate` never touches the user's optimizer, scheduler, random state or warnings. Any object with a step method
serves: torch's schedulers, chained and sequential ones, closures, transformers' and timm's, a class of the user's. What
follows a metric is not simulated, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lrlint.facts import GroupSchedule, Note, Schedule, Training
from lrlint.facts.loop import SchedulerSeen
from lrlint.facts.schedule import Clock, Interval, Position, SchedulerConfig, Wiring
from lrlint.inspection.schedules import closed_form, kinds
from lrlint.inspection.schedules.clock import FURTHER, Timing, calls_per_step, clock_of, in_epochs
from lrlint.inspection.schedules.copying import Isolation, Uncopyable, quiet
from lrlint.inspection.schedules.scheduler_facts import (
    before_of,
    constructed_at,
    floor_fact,
    kinds_of,
    node_of,
    rates_of,
)
from lrlint.inspection.schedules.stepping import Driver, Followed, follow, position

if TYPE_CHECKING:
    from lrlint.targets.load import LiveTarget


def simulate(
    built: LiveTarget,
    optimizers: Sequence[Any],
    training: Training,
    loop: Interval | None = None,
    seen: Mapping[int, SchedulerSeen] | None = None,
) -> tuple[tuple[Schedule, ...], list[Note]]:
    """What the target's schedulers do to the groups of ``optimizers``, one record per scheduler of ``built``.

    ``loop``: the interval (``step`` or ``epoch``) at which the training loop steps them by its source, None if that does
    not tell; ``seen``: how they were stepped in a rehearsal, by index.
    A note with the fact ``schedule`` tells why none could be simulated.
    """
    entries = [
        _Entry(built, index, optimizers, training, loop, (seen or {}).get(index))
        for index in range(len(built.schedulers))
    ]
    held = [{id(node) for child in kinds.children_of(e.scheduler) for node in kinds.tree(child)} for e in entries]
    for entry in entries:
        entry.nested = any(id(entry.scheduler) in inner for inner in held)
    for entry in entries:
        entry.stand_back(entries)
    with quiet():
        followed = _follow_all(entries)
    schedules = (
        *(entry.schedule(followed.get(entry.index), entries) for entry in entries),
        *_dropped(built, optimizers),
    )
    notes = [Note("schedule", s.skipped) for s in schedules if s.skipped and not s.wiring.dropped]
    capped = [s for s in schedules if s.capped is not None]
    notes += [Note("schedule", f"{s.class_name} was followed for {s.capped} of {s.horizon} steps") for s in capped]
    return schedules, notes


class _Entry:
    """One scheduler of the target with what is known about it before it runs."""

    def __init__(
        self,
        built: LiveTarget,
        index: int,
        optimizers: Sequence[Any],
        training: Training,
        loop: Interval | None,
        seen: SchedulerSeen | None,
    ) -> None:
        configs = built.scheduler_configs
        self.index = index
        if seen is not None and not seen.nested and not seen.interval:
            training = replace(training, total_steps=None)  # it is not stepped all through the run
        self.training = training
        self.config: Mapping[str, Any] = configs[index] if index < len(configs) else {}
        self.scheduler = built.schedulers[index]
        self.optimizer = kinds.optimizer_of(self.scheduler)
        self.drives = self._index_in(optimizers)
        self.nested = self.stands_back = False
        self.skipped = kinds.data_driven(self.scheduler)
        if self.skipped is None and self.optimizer is None:
            self.skipped = f"{type(self.scheduler).__name__} holds no optimizer that could be followed"
        if any(base.__name__ == "Trainer" for base in type(built.owner).__mro__):
            loop = "step"  # as transformers' own loop does
        self.open_end = self.skipped is None and not _may_be_extrapolated(self.scheduler, seen)
        if self.open_end:
            self.skipped = f"{type(self.scheduler).__name__} was not seen being stepped all through the run"
        calls = calls_per_step(self.config, training)
        observed = None if seen is None or seen.nested else seen.interval or None
        self.clock: Timing = clock_of(self.scheduler, self.config, training, calls, loop, observed)
        self.span = built.recording.scheduler(self.scheduler)
        self.before = self._before(built)

    def _index_in(self, optimizers: Sequence[Any]) -> int | None:
        if self.optimizer is None:
            return None
        return next((i for i, known in enumerate(optimizers) if kinds.same_optimizer(known, self.optimizer)), None)

    def _before(self, built: LiveTarget) -> list[dict[str, Any]]:
        if self.optimizer is None:
            return []
        return [before_of(built.recording.before(self.optimizer, i)) for i in range(len(self.optimizer.param_groups))]

    def stand_back(self, entries: Sequence[_Entry]) -> None:
        """Beside another scheduler, SWALR waits until the training loop switches to it; and none can be followed beside
        one that sets the rate for a time that is not known.
        """
        beside = next((e for e in entries if e is not self and e.open_end and _share_optimizer(e, self)), None)
        if self.active and beside is not None:
            self.skipped = f"{type(self.scheduler).__name__} takes turns with {type(beside.scheduler).__name__}"
            return
        others = any(e is not self and e.active and _share(e, self) for e in entries)
        if self.active and others and kinds.kind_of(self.scheduler) == "averaging":
            self.stands_back = True
            self.skipped = f"{type(self.scheduler).__name__} takes over when the training loop says so"

    @property
    def active(self) -> bool:
        return self.skipped is None and not self.nested

    def driver(self, isolation: Isolation) -> Driver:
        return Driver(isolation.copy(self.scheduler), self.clock, position(self.scheduler))

    def schedule(self, followed: Followed | None, entries: Sequence[_Entry]) -> Schedule:
        cls = type(self.scheduler)
        groups: tuple[GroupSchedule, ...] = ()
        if followed is not None:
            groups = tuple(
                GroupSchedule(i, traces.get("lr"), {k: v for k, v in traces.items() if k != "lr"}, self.before[i])
                for i, traces in enumerate(followed.groups)
            )
        return Schedule(
            index=self.index,
            class_name=cls.__name__,
            qualified=f"{cls.__module__}.{cls.__qualname__}",
            optimizer=self.drives,
            horizon=self.clock.horizon if followed is not None else None,
            groups=groups,
            skipped=self.skipped,
            unit=self.clock.unit,
            period=self.clock.period / self.clock.calls,
            span=self.span,
            horizon_from=self.clock.horizon_from,
            capped=followed.capped if followed is not None else None,
            error=followed.error if followed is not None else None,
            non_finite=followed.non_finite if followed is not None else None,
            kinds=kinds_of(self.scheduler),
            per_step=kinds.counts_steps(self.scheduler),
            clock=Clock(self.clock.source, self.clock.interval, self.clock.calls),
            length=kinds.length_of(self.scheduler),
            floor=floor_fact(self.scheduler),
            position=self._position(),
            wiring=self._wiring(entries),
            config=config_fact(self.config) if self.config else None,
            root=node_of(self.scheduler),
        )

    def _position(self) -> Position:
        return Position(
            start=position(self.scheduler),
            constructed_at=constructed_at(self.scheduler),
            last_lrs=rates_of(self.scheduler, "_last_lr"),
            curve=self._curve(),
        )

    def _curve(self) -> tuple[tuple[float, ...], ...]:
        """The rates by the scheduler's own formula around its position, where an optimizer with state was given to it.

        One row per step from the one before to the one after; empty without state, position or formula.
        """
        at, here = None, position(self.scheduler)
        if self.optimizer is None or not self.optimizer.state or not here or self.skipped:
            return ()
        try:
            with quiet():
                copied = Isolation().copy(self.scheduler)
                at = closed_form.closed_form(copied) if closed_form.known(copied) else None
                if at is None:
                    return ()
                rows = []
                for step in (max(here - 1, 0), here, here + 1):
                    at(step)
                    rows.append(tuple(float(group["lr"]) for group in kinds.optimizer_of(copied).param_groups))
                return tuple(rows)
        except Exception:  # a formula that cannot be evaluated says nothing
            return ()

    def _wiring(self, entries: Sequence[_Entry]) -> Wiring:
        together = tuple(e.index for e in entries if e.active and self.active and _share(e, self))
        return Wiring(
            together=together if len(together) > 1 else (),
            nested=self.nested,
            yields_to=next((type(e.scheduler).__name__ for e in entries if e.stands_back and _share(e, self)), ""),
            orphan=type(self.optimizer).__name__ if self.optimizer is not None and self.drives is None else "",
        )


def config_fact(config: Mapping[str, Any]) -> SchedulerConfig:
    """What rules read of a framework's configuration. A value of another type than its key asks for is left out."""
    interval, frequency, monitor = (config.get(key) for key in ("interval", "frequency", "monitor"))
    return SchedulerConfig(
        framework=config.get("framework", ""),
        interval=interval if isinstance(interval, str) else None,
        frequency=frequency if isinstance(frequency, int) else None,
        monitor=monitor if isinstance(monitor, str) else None,
        written=tuple(config.get("written", ())),
        unknown=tuple(config.get("unknown", ())),
        stray=tuple(config.get("stray", ())),
    )


def _may_be_extrapolated(scheduler: Any, seen: SchedulerSeen | None) -> bool:
    """Whether its formula may be followed beyond the calls that a rehearsal has seen.

    A warm-up that is stepped under ``if epoch <= warm`` grows without bound when it is stepped on. torch's own classes
    end by themselves; a function, or a class of the user's, need not.
    """
    if seen is None or seen.nested or seen.interval:
        return True
    leaves = [node for node in kinds.tree(scheduler) if not kinds.children_of(node)]
    unbounded = {"lambda", "other"} if seen.guarded else {"other"}
    return not any(kinds.kind_of(leaf) in unbounded and not kinds.is_timm(leaf) for leaf in leaves)


def _dropped(built: LiveTarget, optimizers: Sequence[Any]) -> list[Schedule]:
    """Schedulers that a LightningModule builds and does not return: Lightning will not step them."""
    owner = built.owner
    if not any(base.__name__ == "LightningModule" for base in type(owner).__mro__) or not owner.automatic_optimization:
        return []
    kept = {id(node) for scheduler in built.schedulers for node in kinds.tree(scheduler)}
    lost = [scheduler for scheduler, _ in built.recording.created_schedulers if id(scheduler) not in kept]
    inner = {id(child) for scheduler in lost for child in kinds.children_of(scheduler)}
    dropped: list[Schedule] = []
    for scheduler in lost:
        index = next(
            (i for i, o in enumerate(optimizers) if kinds.same_optimizer(o, kinds.optimizer_of(scheduler))), None
        )
        if index is None or id(scheduler) in inner:
            continue
        cls = type(scheduler)
        dropped.append(
            Schedule(
                index=len(built.schedulers) + len(dropped),
                class_name=cls.__name__,
                qualified=f"{cls.__module__}.{cls.__qualname__}",
                optimizer=index,
                skipped=f"{cls.__name__} was built but not returned",
                kinds=(kinds.kind_of(scheduler),),
                wiring=Wiring(dropped=True),
                span=built.recording.scheduler(scheduler),
            )
        )
    return dropped


def _share_optimizer(first: _Entry, second: _Entry) -> bool:
    return kinds.same_optimizer(first.optimizer, second.optimizer)


def _share(first: _Entry, second: _Entry) -> bool:
    return _share_optimizer(first, second) and first.clock.unit == second.clock.unit


def _follow_all(entries: Sequence[_Entry]) -> dict[int, Followed]:
    """Each set of schedulers on one optimizer is followed as one; a scheduler that cannot be copied is skipped."""
    followed: dict[int, Followed] = {}
    for entry in entries:
        if not entry.active or entry.index in followed:
            continue
        team = [e for e in entries if e.active and _share(e, entry)]
        try:
            result = _over_the_top(entry, _follow(team)) if len(team) == 1 else _follow(team)
            other = in_epochs(entry.clock, entry.training) if len(team) == 1 else None
            if other is not None and (result.strange or result.ends_at(other.horizon / other.period)):
                assumed, entry.clock = entry.clock, other
                again = _follow(team)
                if again.strange:
                    entry.clock = assumed
                else:
                    result = again
        except Uncopyable as reason:
            for member in team:
                member.skipped = f"{type(member.scheduler).__name__} was not simulated: {reason}"
            continue
        followed.update(dict.fromkeys((member.index for member in team), result))
    return followed


def _over_the_top(entry: _Entry, result: Followed) -> Followed:
    """A look ahead of default length that ends while the rates still rise goes on, if that shows where they turn.

    The base rate says nothing of it where the factor is the rate itself, as in the usual form of Noam's schedule.
    """
    if entry.clock.horizon_from != "default" or not result.rises:
        return result
    near, entry.clock = entry.clock, replace(entry.clock, horizon=FURTHER * entry.clock.horizon)
    further = _follow([entry])
    if further.strange or further.capped is not None or further.rises:
        entry.clock = near
        return result
    return further


def _follow(team: Sequence[_Entry]) -> Followed:
    def copies() -> list[Driver]:
        isolation = Isolation()
        return [entry.driver(isolation) for entry in team]

    def groups_of(drivers: list[Driver]) -> Sequence[Mapping[str, Any]]:
        groups: Sequence[Mapping[str, Any]] = kinds.optimizer_of(drivers[0].scheduler).param_groups
        return groups

    return follow(copies, groups_of)
