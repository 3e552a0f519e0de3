"""The parameters of a setup as rows: one per name pattern and treatment, and one per tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrlint.facts import Parameter, Setup
from lrlint.reports.views.card import elements, present
from lrlint.reports.views.ladders import group_rows, peak
from lrlint.text import names
from lrlint.text.wording import rate

#: Most tensors that are listed one by one.
TENSORS = 1000


@dataclass(frozen=True, slots=True)
class PatternRow:
    """Parameters of one name pattern that are treated alike."""

    pattern: str
    tensors: int
    elements: str
    shape: str
    role: str
    group: str
    rate: str
    decay: str


HEADERS = ("parameters", "n", "elements", "shape", "role", "group", "peak rate", "decay")


def pattern_rows(setup: Setup) -> list[PatternRow]:
    """Every parameter, repeated blocks on one row; what no optimizer holds comes first."""
    group_texts = _places(setup)
    alike: dict[tuple[str, str, str], list[Parameter]] = {}
    for parameter in present(setup):
        group, decay = _place(setup, parameter, group_texts)
        alike.setdefault((group, decay, names.star(parameter.name)), []).append(parameter)
    rows = [_row(setup, group, decay, same) for (group, decay, _), same in alike.items()]
    lost = [row for row in rows if row.group.startswith("none")]
    return lost + [row for row in rows if not row.group.startswith("none")]


def _places(setup: Setup) -> dict[tuple[int, int], str]:
    """What the row of each group in the table of groups is called."""
    several = len(setup.optimizers) > 1
    return {
        (optimizer.index, group.index): f"{optimizer.label}: {row.label}" if several else row.label
        for optimizer in setup.optimizers
        for row in group_rows(setup, optimizer)
        for group in row.groups
    }


def _place(setup: Setup, parameter: Parameter, group_texts: dict[tuple[int, int], str]) -> tuple[str, str]:
    groups = setup.groups_of(parameter)
    frozen = "" if parameter.requires_grad else ", frozen"
    if not groups:
        return f"none{frozen or ', trainable'}", ""
    where = " and ".join(group_texts[group.optimizer, group.index] for group in groups)
    return where + frozen, " / ".join(dict.fromkeys(f"{group.weight_decay:g}" for group in groups))


def _row(setup: Setup, group: str, decay: str, same: Sequence[Parameter]) -> PatternRow:
    rates = [value for p in same for g in setup.groups_of(p) if (value := peak(g)) is not None]
    low, high = (min(rates), max(rates)) if rates else (None, None)
    range_ = "–" if low is None or high is None else rate(low) if low == high else f"{rate(low)} … {rate(high)}"
    return PatternRow(
        pattern=", ".join(names.compress(p.name for p in same)),
        tensors=len(same),
        elements=elements(sum(p.numel for p in same)),
        shape=_shape(same),
        role=", ".join(dict.fromkeys(p.role for p in same)),
        group=group,
        rate=range_,
        decay=decay or "–",
    )


def _shape(parameters: Sequence[Parameter]) -> str:
    shapes = list(dict.fromkeys(shape(p) for p in parameters))
    return shapes[0] if len(shapes) == 1 else f"{shapes[0]}, …"


def shape(parameter: Parameter) -> str:
    """``768×768``, ``scalar``, ``?`` for a lazy one."""
    return "?" if parameter.shape is None else "×".join(map(str, parameter.shape)) or "scalar"


TENSOR_HEADERS = ("parameter", "shape", "group", "peak rate", "decay")


def tensor_rows(setup: Setup) -> list[tuple[str, ...]]:
    """(name, shape, group, peak rate, decay) of the first `TENSORS` tensors."""
    rows: list[tuple[str, ...]] = []
    several = len(setup.optimizers) > 1
    for parameter in present(setup)[:TENSORS]:
        groups = setup.groups_of(parameter)
        frozen = "" if parameter.requires_grad else " (frozen)"
        holders = " and ".join((f"{g.optimizer}." if several else "") + (g.name or str(g.index)) for g in groups)
        rates = [value for group in groups if (value := peak(group)) is not None]
        rows.append(
            (
                parameter.name,
                shape(parameter),
                (holders or "none") + frozen,
                rate(max(rates)) if rates else "–",
                f"{groups[0].weight_decay:g}" if groups else "–",
            )
        )
    return rows
