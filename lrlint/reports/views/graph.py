"""What the forward pass does with each parameter, in execution order (`lrlint show --graph`)."""

from __future__ import annotations

from collections.abc import Sequence

from lrlint.facts import GraphFacts, Group, Parameter, ParameterUse, Setup
from lrlint.reports.style import Style, clean, wrap
from lrlint.reports.table import table
from lrlint.text.names import compress, star
from lrlint.text.wording import count, rate

_HEADERS = ("order", "parameter", "role", "in", "out", "followed by", "group", "lr", "decay")
_RIGHT = ("order", "in", "out", "lr", "decay")
#: Columns that are left out first where the terminal is narrow.
_OPTIONAL = ("followed by", "in", "out", "decay", "role")


def render(setup: Setup, style: Style) -> str:
    """Parameters that the observed pass used, equal blocks on one row, then those that it did not use or whose
    gradient is cut."""
    graph = setup.graph
    assert graph is not None
    known = [(graph.parameters[p.name], p) for p in setup.parameters if p.name in graph.parameters]
    used = sorted((pair for pair in known if pair[0].order is not None), key=lambda pair: pair[0].order or 0)
    parts = [_head(setup, graph, style)]
    rows = [_row(setup, same) for same in _folded(setup, used)]
    if rows:
        parts.append("\n".join(table(_HEADERS, rows, style.width, name="parameter", right=_RIGHT, optional=_OPTIONAL)))
    parts += [_rest(title, names, style) for title, names in _others(known) if names]
    decayed = [p for use, p in used if use.scale_invariant and any(g.weight_decay > 0 for g in setup.groups_of(p))]
    if decayed:
        verb = "is" if len(decayed) == 1 else "are"
        parts.append(
            wrap(
                f"{count(len(decayed), 'decayed weight')} {verb} scale-invariant (a norm follows): decay there does "
                "not shrink the function, it sets the effective rate (arXiv 1706.05350)",
                style.width,
            )
        )
    return "\n\n".join(parts) + "\n"


_Used = tuple[ParameterUse, Parameter]


def _folded(setup: Setup, used: Sequence[_Used]) -> list[list[_Used]]:
    """Uses in order of the first one; those of repeated blocks that differ in nothing but their place are together."""
    alike: dict[tuple[object, ...], list[_Used]] = {}
    for use, parameter in used:
        groups = setup.groups_of(parameter)
        decay = groups[0].weight_decay if groups else None
        key = (star(parameter.name), use.role, use.count, star(use.followed_by or ""), len(groups), decay)
        alike.setdefault(key, []).append((use, parameter))
    return list(alike.values())


def _head(setup: Setup, graph: GraphFacts, style: Style) -> str:
    complete = "" if graph.complete else "; values were guessed, verdicts on use are left open"
    line = f"{count(graph.operators, 'operator')} on {graph.method}, inputs: {graph.inputs}{complete}"
    return f"{style.paint(clean(setup.target) or 'setup', 'bold')}\n{wrap(line, style.width, '  ')}"


def _row(setup: Setup, same: Sequence[_Used]) -> list[str]:
    uses = [use for use, _ in same]
    groups = [group for _, parameter in same for group in setup.groups_of(parameter)[:1]]
    peaks = [group.peak_lr for group in groups if group.peak_lr is not None]
    times = f" ×{uses[0].count}" if uses[0].count > 1 else ""
    return [
        _span([use.order for use in uses]),
        clean(", ".join(compress(parameter.name for _, parameter in same))) + times,
        uses[0].role or "?",
        _span([use.depth_from_input for use in uses]),
        _span([use.depth_from_output for use in uses]),
        clean(", ".join(compress(filter(None, (use.followed_by for use in uses))))[:40]),
        clean(_groups(groups)),
        " … ".join(rate(value) for value in dict.fromkeys((min(peaks), max(peaks)))) if peaks else "-",
        f"{groups[0].weight_decay:g}" if groups else "-",
    ]


def _groups(groups: Sequence[Group]) -> str:
    labels = list(dict.fromkeys(str(group.index) for group in groups))
    return "-" if not labels else labels[0] if len(labels) == 1 else f"{labels[0]}…{labels[-1]}"


def _span(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return str(known[0]) if min(known) == max(known) else f"{min(known)}…{max(known)}"


def _others(known: list[tuple[ParameterUse, Parameter]]) -> list[tuple[str, list[str]]]:
    return [
        ("Not used by the pass", [p.name for use, p in known if use.used is False]),
        ("Used, and reached by no gradient", [p.name for use, p in known if use.used and use.reaches_output is False]),
    ]


def _rest(title: str, names: list[str], style: Style) -> str:
    return "\n".join([style.paint(title, "bold"), *(f"  {clean(name)}" for name in compress(names))])
