"""Parameter groups as rows: groups that differ only in the block they hold and in its rate are one row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lrlint.facts import Group, Optimizer, Setup
from lrlint.text import names
from lrlint.text.wording import count, rate

_NUMBER = re.compile(r"\d+")
#: Fewer groups than this are shown one by one.
_RUNGS = 3
#: Options that say nothing about how a group trains, or that stand in columns of their own.
_OWN = frozenset(
    "params name group_name param_group lr initial_lr weight_decay lr_scale max_lr min_lr max_momentum base_momentum "
    "betas momentum fused foreach capturable differentiable maximize decoupled_weight_decay lr_mult lr_mul".split()
)


@dataclass(frozen=True)
class GroupRow:
    """One group, or a ladder of groups. ``note`` says what kind of ladder it is."""

    label: str
    groups: tuple[Group, ...]
    rates: str
    decay: str
    patterns: tuple[str, ...]
    tensors: int
    elements: int
    note: str = ""
    options: str = ""

    @property
    def folded(self) -> bool:
        return len(self.groups) > 1


@dataclass(frozen=True)
class _Ladder:
    """Groups of one kind by the number of their block. ``rungs`` are (number, rate)."""

    shape: str
    groups: tuple[Group, ...]
    rungs: tuple[tuple[int, float | None], ...]


def group_rows(setup: Setup, optimizer: Optimizer) -> list[GroupRow]:
    """The optimizer's groups in order of their first one, ladders folded."""
    kinds: dict[tuple[Any, ...], list[tuple[int, Group]]] = {}
    alone: list[Group] = []
    for group in optimizer.groups:
        key = _kind(group)
        if key is None:
            alone.append(group)
        else:
            kinds.setdefault(key[:-1], []).append((key[-1], group))
    ladders: dict[tuple[tuple[int, float | None], ...], list[_Ladder]] = {}
    for (shape, *_), members in kinds.items():
        numbers = [value for value, _ in members]
        if len(members) < _RUNGS or len(set(numbers)) < len(numbers):
            alone += [group for _, group in members]
            continue
        members.sort(key=lambda pair: pair[0])
        rungs = tuple((value, peak(group)) for value, group in members)
        ladders.setdefault(rungs, []).append(_Ladder(shape, tuple(group for _, group in members), rungs))
    usual = _usual(optimizer)
    rows = [_row(group.label.removeprefix("group "), (group,), usual) for group in alone]
    rows += [_folded(same, usual) for same in ladders.values()]
    return sorted(rows, key=lambda row: min(group.index for group in row.groups))


def peak(group: Group) -> float | None:
    """The rate that the group is judged at."""
    return group.lr if group.peak_lr is None else group.peak_lr


def _kind(group: Group) -> tuple[Any, ...] | None:
    """What the rungs of one ladder share, with the number of this one's block last; None where it is no rung."""
    treatment = (group.weight_decay, repr(sorted((k, repr(v)) for k, v in group.options.items() if k not in _OWN)))
    if group.name:
        numbers = _NUMBER.findall(group.name)
        if len(numbers) != 1:
            return None
        return (names.star(group.name), treatment, int(numbers[0]))
    if not group.parameters:
        return None
    blocks = {tuple(_NUMBER.findall(parameter.name))[:1] for parameter in group.parameters}
    if len(blocks) != 1 or blocks == {()}:
        return None
    shape = ", ".join(dict.fromkeys(names.star(parameter.name) for parameter in group.parameters))
    return (shape, treatment, int(next(iter(blocks))[0]))


def _folded(same: Sequence[_Ladder], usual: dict[str, Any]) -> GroupRow:
    """Ladders over the same blocks with the same rates (decayed and spared parameters of each layer) as one row."""
    rungs = same[0].rungs
    numbers = [value for value, _ in rungs]
    span = f"{{{numbers[0]}..{numbers[-1]}}}"
    named = bool(same[0].groups[0].name)
    label = _joined([ladder.shape.replace("*", span) for ladder in same]) if named else f"blocks {span}"
    groups = tuple(group for ladder in same for group in ladder.groups)
    row = _row(label, groups, usual)
    missing = len(range(numbers[0], numbers[-1] + 1)) - len(numbers)
    gap = "none missing" if not missing else f"{missing} missing"
    return GroupRow(
        **{
            **{name: getattr(row, name) for name in row.__dataclass_fields__},
            "note": f"{_step(rungs)}{count(len(rungs), 'rung')}, {gap}",
        }
    )


def _step(rungs: Sequence[tuple[int, float | None]]) -> str:
    """``×1/0.9 per rung, `` where the rates grow by a constant factor from block to block."""
    known = [(block, value) for block, value in rungs if value]
    if len(known) < len(rungs) or len({value for _, value in known}) == 1:
        return ""
    factors = [(after / before) ** (1 / (k - j)) for (j, before), (k, after) in pairwise(known)]
    low, high = min(factors), max(factors)
    if high <= low * 1.01:
        factor = factors[len(factors) // 2]
        text = f"1/{1 / factor:.3g}" if factor > 1 and abs(1 / factor * 100 - round(1 / factor * 100)) < 0.05 else ""
        return f"×{text or format(factor, '.3g')} per rung, "
    if low >= 1 or high <= 1:
        return "in steps, "
    return "up and down, "


def _joined(labels: Sequence[str]) -> str:
    """``layer_{0..39}_{decay, no_decay}``."""
    if len(labels) == 1:
        return labels[0]
    first, last = min(labels), max(labels)
    lead = first[: next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    lead = lead[: max(lead.rfind(mark) for mark in "_.-/ }") + 1]
    return f"{lead}{{{', '.join(label[len(lead) :] for label in labels)}}}"


def _row(label: str, groups: tuple[Group, ...], usual: dict[str, Any]) -> GroupRow:
    parameters = [parameter for group in groups for parameter in group.parameters]
    rates = [value for group in groups if (value := peak(group)) is not None]
    decays = list(dict.fromkeys(f"{group.weight_decay:g}" for group in groups))
    low, high = (min(rates), max(rates)) if rates else (None, None)
    rising = len(groups) > 1 and low != high and rates[0] == low
    ends = (low, high) if rising else (high, low)
    rates_text = (
        "–" if low is None else rate(low) if low == high else " → ".join(rate(end) for end in ends if end is not None)
    )
    return GroupRow(
        label=label,
        groups=groups,
        rates=rates_text,
        decay=" / ".join(decays),
        patterns=tuple(names.compress(parameter.name for parameter in parameters)),
        tensors=len(parameters),
        elements=sum(parameter.numel for parameter in parameters),
        options="; ".join(_unusual(groups[0], usual)),
    )


def _usual(optimizer: Optimizer) -> dict[str, Any]:
    """The options that all groups share: they stand at the optimizer."""
    if not optimizer.groups:
        return {}
    first = dict(optimizer.groups[0].options)
    return {key: value for key, value in first.items() if all(g.options.get(key) == value for g in optimizer.groups)}


def shared_options(optimizer: Optimizer) -> list[str]:
    """``betas 0.9, 0.999``, ``eps 1e-08``, ...: what all groups have in common."""
    return [f"{key} {shown(value)}" for key, value in _usual(optimizer).items() if _telling(key, value)]


def _unusual(group: Group, usual: dict[str, Any]) -> Iterator[str]:
    for key, value in group.options.items():
        if key not in usual and _telling(key, value) and key not in ("lr", "weight_decay"):
            yield f"{key} {shown(value)}"


def _telling(key: str, value: Any) -> bool:
    """Whether a reader of the audit wants to see it: hyperparameters, not switches of the implementation."""
    if key in ("betas", "momentum"):
        return bool(value)
    return key not in _OWN and not isinstance(value, (bool, dict, str)) and value is not None


def shown(value: Any) -> str:
    """A group option as text."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
