"""How each parameter's shape, initial size, rate and decay depend on the width."""

from __future__ import annotations

from collections.abc import Sequence

from lrlint.facts import Group, Parameter, Setup
from lrlint.facts.scale import LayerKind, ScaledParameter
from lrlint.scaling.slopes import slope

#: Rates whose slopes differ by this much depend on the width each in its own way.
_DIFFERENT = 0.25


def kind_of(grows_in: bool, grows_out: bool) -> LayerKind:
    """A layer's kind, by what of it grows with the width."""
    if grows_in:
        return "hidden" if grows_out else "output"
    return "input" if grows_out else "fixed"


def compared(widths: Sequence[float], setups: Sequence[Setup]) -> tuple[ScaledParameter, ...]:
    """Every trainable parameter that an optimizer holds at all widths (more layers at one width have no counterpart)."""
    tables = [{p.name: p for p in setup.parameters if p.requires_grad and p.shape} for setup in setups]
    found = []
    for name, first in tables[0].items():
        same = [table.get(name) for table in tables]
        present = [p for p in same if p is not None and p.shape is not None and len(p.shape) == len(first.shape or ())]
        if len(present) == len(tables):
            found.append(_compared(widths, setups, present))
    return tuple(found)


def _compared(widths: Sequence[float], setups: Sequence[Setup], same: Sequence[Parameter]) -> ScaledParameter:
    groups = [next(iter(setup.groups_of(p)), None) for setup, p in zip(setups, same, strict=True)]
    std = tuple(None if p.values is None else p.values.rms for p in same)
    rates = tuple(
        None if group is None else group.peak_lr if group.peak_lr is not None else group.lr for group in groups
    )
    shapes = tuple(p.shape or () for p in same)
    return ScaledParameter(
        same[0].name,
        _kind(same[0], [shapes[0], shapes[-1]]),
        shapes,
        std,
        rates,
        std_slope=slope(widths, std),
        rate_slope=slope(widths, rates),
        decay_slope=slope(widths, [_decay(group, rate) for group, rate in zip(groups, rates, strict=True)]),
    )


def _decay(group: Group | None, rate: float | None) -> float | None:
    if group is None or not group.weight_decay:
        return None
    return group.weight_decay * (rate or 0.0) if group.decoupled else group.weight_decay


def _kind(parameter: Parameter, shapes: Sequence[Sequence[int]]) -> LayerKind:
    small, large = shapes
    grows = [b > a for a, b in zip(small, large, strict=True)]
    if len(grows) < 2:
        return "vector" if any(grows) else "fixed"
    if parameter.role in ("embedding", "position", "token"):
        return "input" if any(grows) else "fixed"
    return kind_of(any(grows[1:]), grows[0])


def differ(parameters: Sequence[ScaledParameter]) -> bool:
    """Whether groups' rates depend on the width, and not all in the same way: what hand-written scaling rules look like."""
    slopes = [p.rate_slope for p in parameters if p.rate_slope is not None]
    return bool(slopes) and max(slopes) - min(slopes) > _DIFFERENT
