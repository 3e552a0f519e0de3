"""What changed between two setups, in a reviewer's words: per parameter pattern, whatever the order or the depth.

A parameter is compared with the one of the same name. The order of parameters, groups and optimizers makes no
difference, and neither does depth: new layers that are treated like the old ones of their pattern are only remarked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lrlint.facts import Group, Parameter, Schedule, Setup
from lrlint.text import names
from lrlint.text.wording import count, rate

SCHEMA = "lrlint-diff/1"

_NUMBER = re.compile(r"\d+")

#: Group options that say what a run has done so far, or who made the group, and not how it trains.
_IGNORED = frozenset({"params", "name", "group_name", "param_group", "initial_lr"})

Value = str
Treatment = Mapping[str, Value]


@dataclass(frozen=True)
class Change:
    """One thing that changed for some parameters.

    ``kind``: changed, added, removed, or moved (into an optimizer, or out of all).
    """

    kind: str
    key: str
    before: str
    after: str
    parameters: tuple[str, ...] = ()
    text: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "key": self.key,
            "before": self.before,
            "after": self.after,
            "patterns": names.compress(self.parameters),
            "parameters": list(self.parameters),
            "text": self.text,
        }


@dataclass(frozen=True)
class Comparison:
    """All changes, and remarks that are no change (more layers of the same kind)."""

    changes: tuple[Change, ...] = ()
    remarks: tuple[str, ...] = ()
    schema: str = field(default=SCHEMA, repr=False)

    @property
    def same(self) -> bool:
        return not self.changes

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``lrlint diff --format json``."""
        changes = [change.to_dict() for change in self.changes]
        return {"schema": self.schema, "same": self.same, "changes": changes, "remarks": list(self.remarks)}

    def __str__(self) -> str:
        lines = [change.text for change in self.changes] or ["no difference"]
        return "\n".join([*lines, *(f"({remark})" for remark in self.remarks)])


def compare(before: Setup, after: Setup) -> Comparison:
    """What changed from ``before`` to ``after``."""
    old, new = _treatments(before), _treatments(after)
    remarks: list[str] = []
    changes = _whole(before, after)
    changes += _values(old, new)
    changes += _come_and_gone(old, new, "removed", remarks)
    changes += _come_and_gone(new, old, "added", remarks)
    return Comparison(tuple(changes), tuple(remarks))


def _treatments(setup: Setup) -> dict[str, Treatment]:
    """Parameter name → everything that decides how it trains."""
    return {parameter.name: _treatment(setup, parameter) for parameter in setup.parameters}


def _treatment(setup: Setup, parameter: Parameter) -> Treatment:
    treatment = {
        "shape": "×".join(map(str, parameter.shape))
        if parameter.shape
        else "?"
        if parameter.shape is None
        else "scalar",
        "dtype": parameter.dtype,
        "trained": "yes" if parameter.requires_grad else "frozen",
    }
    groups = setup.groups_of(parameter)
    treatment["optimizer"] = " and ".join(setup.optimizers[group.optimizer].label for group in groups) or "none"
    if len(parameter.names) > 1:
        treatment["tied with"] = ", ".join(sorted(name for name in parameter.names if name != parameter.name))
    for group in groups[:1]:
        treatment.update(_options(group))
        treatment.update(_course(setup.schedules, group))
    return treatment


def _options(group: Group) -> dict[str, Value]:
    return {key: _shown(group.options[key]) for key in sorted(group.options) if key not in _IGNORED}


def _course(schedules: Iterable[Schedule], group: Group) -> dict[str, Value]:
    """The scheduled rate, by its ends and its peak: the present rate of a scheduled group is only where it starts."""
    for schedule in schedules:
        for part in schedule.groups if schedule.optimizer == group.optimizer else ():
            if part.group == group.index and part.lr is not None:
                trace = part.lr
                return {"lr": f"{rate(trace.first)} … {rate(trace.peak)} at {trace.peak_step} … {rate(trace.last)}"}
    return {}


def _shown(value: Any) -> Value:
    if isinstance(value, Mapping):
        value = next(iter(value.values()), "")
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, (int, float)):
        return rate(float(value)) if isinstance(value, float) else str(value)
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(_shown(item) for item in value) + ")"
    return str(value)


def _values(old: Mapping[str, Treatment], new: Mapping[str, Treatment]) -> list[Change]:
    """Changed values of parameters that both have, one change per (key, before, after)."""
    members_of: dict[tuple[str, Value, Value], list[str]] = {}
    for name, treatment in old.items():
        other = new.get(name)
        if other is None or other == treatment:
            continue
        moved = treatment["optimizer"] == "none" or other["optimizer"] == "none"
        for key in dict.fromkeys((*treatment, *other)):
            pair = treatment.get(key, "not set"), other.get(key, "not set")
            if pair[0] != pair[1] and (key in ("optimizer", "trained", "shape", "dtype", "tied with") or not moved):
                members_of.setdefault((key, *pair), []).append(name)
    return _ladders(members_of, len(old.keys() & new.keys()))


def _ladders(members_of: Mapping[tuple[str, Value, Value], list[str]], shared: int) -> list[Change]:
    """Many values of one key over one set of patterns (layer-wise rates) are told as one change."""
    by_subject: dict[tuple[str, tuple[str, ...]], list[tuple[Value, Value, list[str]]]] = {}
    for (key, before, after), members in members_of.items():
        pattern = tuple(sorted({names.star(name) for name in members}))
        by_subject.setdefault((key, pattern), []).append((before, after, members))
    changes = []
    for (key, _), rows in by_subject.items():
        few = len(rows) <= 2
        for before, after, members in rows if few else [_span(rows)]:
            subject = "all parameters" if len(members) == shared and shared > 1 else _subject(members)
            text = f"{subject}: {_key(key)} {before} → {after}"
            kind = "moved" if key == "optimizer" and "none" in (before, after) else "changed"
            changes.append(Change(kind, key, before, after, tuple(members), text))
    return changes


def _span(rows: list[tuple[Value, Value, list[str]]]) -> tuple[Value, Value, list[str]]:
    members = [name for _, _, names_ in rows for name in names_]
    return _between([row[0] for row in rows]), _between([row[1] for row in rows]), members


def _between(values: list[Value]) -> Value:
    """``1e-05 to 1e-03 (12 values)``."""
    different = list(dict.fromkeys(values))
    if len(different) == 1:
        return different[0]
    try:
        ordered = sorted(different, key=float)
    except ValueError:
        ordered = different
    return f"{ordered[0]} to {ordered[-1]} ({count(len(different), 'value')})"


def _key(key: str) -> str:
    return key.replace("_", " ") if key != "trained" else "trained:"


def _come_and_gone(
    mine: Mapping[str, Treatment], other: Mapping[str, Treatment], kind: str, remarks: list[str]
) -> list[Change]:
    """Parameters that only one side has. Those whose pattern the other side treats alike are only remarked."""
    alike: dict[str, list[str]] = {}
    rest: dict[tuple[str, str], list[str]] = {}
    known: dict[str, list[Treatment]] = {}
    for name, treatment in other.items():
        known.setdefault(names.star(name), []).append(treatment)
    for name, treatment in mine.items():
        if name in other:
            continue
        pattern = names.star(name)
        if "*" in pattern and treatment in known.get(pattern, ()):
            alike.setdefault(pattern, []).append(name)
        else:
            rest.setdefault((treatment["optimizer"], _told(treatment)), []).append(name)
    if alike:
        deeper = "more" if kind == "added" else "fewer"
        members = [name for members_of_pattern in alike.values() for name in members_of_pattern]
        remarks.append(f"{count(len(members), 'parameter')} {deeper} of the same kind: {names.describe(members)}")
    noun = "new parameter" if kind == "added" else "parameter"
    verb = "in" if kind == "added" else "gone from"
    return [
        Change(
            kind,
            "parameters",
            treatment_text if kind == "removed" else "",
            treatment_text if kind == "added" else "",
            tuple(members),
            f"{_subject(members)}: {count(len(members), noun)} {verb} "
            + (f"{optimizer} ({treatment_text})" if optimizer != "none" else f"no optimizer ({treatment_text})"),
        )
        for (optimizer, treatment_text), members in rest.items()
    ]


def _told(treatment: Treatment) -> str:
    parts = [f"{_key(key)} {treatment[key]}" for key in ("lr", "weight_decay") if key in treatment]
    return ", ".join(parts if treatment["trained"] == "yes" else [*parts, "frozen"]) or "trained"


def _whole(before: Setup, after: Setup) -> list[Change]:
    """What concerns no parameter in particular: schedulers, and what was declared about the run."""
    pairs: list[tuple[str, Any, Any]] = [
        (key, getattr(before.training, key), getattr(after.training, key))
        for key in ("total_steps", "accumulation", "world_size", "batch_size", "precision", "clip_norm")
    ]
    pairs.insert(0, ("scheduler", _schedulers(before), _schedulers(after)))
    return [
        Change("changed", key, _shown(old), _shown(new), (), f"{_key(key)}: {_shown(old)} → {_shown(new)}")
        for key, old, new in pairs
        if old != new
    ]


def _schedulers(setup: Setup) -> str | None:
    descriptions = []
    for schedule in setup.schedules:
        length = schedule.horizon if schedule.covers_run else None
        descriptions.append(schedule.class_name + (f" over {length} {schedule.unit}s" if length else ""))
    return ", ".join(sorted(descriptions)) or None


def _subject(members: Iterable[str]) -> str:
    """Patterns with their counts: ``h.*.ln_1.weight (12)``. A number that all members share stays."""
    alike: dict[str, list[str]] = {}
    for name in members:
        alike.setdefault(names.star(name), []).append(name)
    shown = [f"`{_common(same)}`" + (f" ({len(same)})" if len(same) > 1 else "") for same in list(alike.values())[:4]]
    more = len(alike) - 4
    return ", ".join(shown) + (f" and {count(more, 'more pattern')}" if more > 0 else "")


def _common(alike: list[str]) -> str:
    columns = zip(*(_NUMBER.findall(name) for name in alike), strict=True)
    numbers = iter([column[0] if len(set(column)) == 1 else "*" for column in columns])
    return _NUMBER.sub(lambda _: next(numbers), alike[0])
