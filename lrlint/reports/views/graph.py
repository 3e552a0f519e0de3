"""What the forward pass does with each parameter, in execution order (`lrlint show --graph`)."""

from __future__ import annotations

from tabulate import tabulate

from lrlint.facts import GraphFacts, Parameter, ParameterUse, Setup
from lrlint.reports.style import Style, clean, shorten
from lrlint.text.wording import count, rate

_HEADERS = ("order", "parameter", "role", "in", "out", "followed by", "lr", "decay")


def render(setup: Setup, style: Style) -> str:
    """A row per parameter that the observed pass used, then those that it did not use or whose gradient is cut."""
    graph = setup.graph
    assert graph is not None
    known = [(graph.parameters[p.name], p) for p in setup.parameters if p.name in graph.parameters]
    used = sorted((pair for pair in known if pair[0].order is not None), key=lambda pair: pair[0].order or 0)
    room = max(style.width - 66, 30)
    rows = [_row(setup, use, parameter, room) for use, parameter in used]
    aligned = ("right", "left", "left", "right", "right", "left", "right", "right")
    parts = [_head(setup, graph, style)]
    if rows:
        parts.append(tabulate(rows, headers=_HEADERS, tablefmt="simple", disable_numparse=True, colalign=aligned))
    parts += [_rest(title, names, style) for title, names in _others(known) if names]
    decayed = [p for use, p in used if use.scale_invariant and any(g.weight_decay > 0 for g in setup.groups_of(p))]
    if decayed:
        parts.append(
            f"{count(len(decayed), 'decayed weight')} {'is' if len(decayed) == 1 else 'are'} scale-invariant (a norm "
            "follows): decay there does not shrink the function, it sets the effective rate (arXiv 1706.05350)"
        )
    return "\n\n".join(parts) + "\n"


def _head(setup: Setup, graph: GraphFacts, style: Style) -> str:
    complete = "" if graph.complete else "; values were guessed, verdicts on use are left open"
    told = f"{count(graph.operators, 'operator')} on {graph.method}, inputs: {graph.inputs}{complete}"
    return f"{style.paint(clean(setup.target) or 'setup', 'bold')}  {told}"


def _row(setup: Setup, use: ParameterUse, parameter: Parameter, room: int) -> list[str]:
    groups = setup.groups_of(parameter)
    peak = groups[0].peak_lr if groups else None
    return [
        str(use.order),
        shorten(clean(parameter.name), room) + (f" ×{use.count}" if use.count > 1 else ""),
        use.role or "?",
        _number(use.depth_from_input),
        _number(use.depth_from_output),
        shorten(clean(use.followed_by or ""), 24),
        rate(peak) if peak is not None else "-",
        f"{groups[0].weight_decay:g}" if groups else "-",
    ]


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _others(known: list[tuple[ParameterUse, Parameter]]) -> list[tuple[str, list[str]]]:
    return [
        ("Not used by the pass", [p.name for use, p in known if use.used is False]),
        ("Used, and reached by no gradient", [p.name for use, p in known if use.used and use.reaches_output is False]),
    ]


def _rest(title: str, names: list[str], style: Style) -> str:
    from lrlint.text.names import compress

    return "\n".join([style.paint(title, "bold"), *(f"  {clean(name)}" for name in compress(names))])
