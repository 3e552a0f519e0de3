"""The default report: each finding with its code, the facts, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrlint.facts import Span
from lrlint.lint.finding import Finding, Related
from lrlint.reports.frame import Mark, frame
from lrlint.reports.style import SEVERITY_COLOUR, Style, clean, wrap
from lrlint.reports.summary import summary
from lrlint.text import names
from lrlint.text.sources import Sources
from lrlint.text.wording import count

if TYPE_CHECKING:
    from lrlint.lint.run import Failure, Run

#: Patterns listed under a finding before the rest is only counted.
_NAMES = 6


def render(run: Run, style: Style | None = None) -> str:
    style = style or Style()
    if not run.checked:  # why is told on standard error
        return ""
    several = len(run.targets) > 1
    sources = {target: run.sources(target) for target in run.targets}
    blocks = [_finding(found, sources.get(found.target) or run.sources(""), several, style) for found in run.active]
    blocks += [_failure(failure, style) for failure in run.failures]
    worst = next((s for s in ("error", "warning", "info") if run.counts()[s]), None)
    colour = "red" if run.failures else SEVERITY_COLOUR[worst] if worst else "green"
    line = summary(run)
    head, dot, tail = line.partition(" · ")
    blocks.append(style.paint(head, colour) + dot + tail)
    return "\n\n".join(blocks) + "\n"


def _finding(found: Finding, sources: Sources, several: bool, style: Style) -> str:
    title = style.paint(f"{found.severity}[{found.rule}]", SEVERITY_COLOUR[found.severity])
    lines = [f"{title} {style.paint(found.name, 'bold')}{_confidence(found, style)}"]
    lines.append(wrap(found.message, style.width, "  "))
    lines += _places(found, sources, several, style)
    lines += _facts(found, style)
    return "\n".join(lines)


def _confidence(found: Finding, style: Style) -> str:
    return "" if found.confidence == "high" else style.paint(f" ({found.confidence} confidence)", "dim")


def _places(found: Finding, sources: Sources, several: bool, style: Style) -> list[str]:
    """One frame per file, the primary location's first."""
    marks = _marks(found)
    gutter = max([len(str(mark.span.end_line or mark.span.line)) for mark in marks], default=1)
    target = style.paint(f"  ({clean(found.target)})", "dim") if several and found.target else ""
    if not marks:
        return [f"{' ' * gutter}{style.paint('-->', 'blue')} {clean(found.target)}"] if found.target else []
    lines: list[str] = []
    for position, path in enumerate(dict.fromkeys(mark.span.path for mark in marks)):
        own = [mark for mark in marks if mark.span.path == path]
        arrow = style.paint(":::" if position else "-->", "blue")
        lines.append(f"{' ' * gutter}{arrow} {clean(str(own[0].span))}{'' if position else target}")
        source = sources.get(path)
        drawn = frame(source, own, style, gutter) if source is not None else []
        lines += drawn
        if not drawn:
            bar = style.paint("|", "blue")
            lines += [f"{' ' * gutter} {bar} {clean(mark.label)}" for mark in own if mark.label]
    return lines


def _marks(found: Finding) -> list[Mark]:
    """The primary region, then up to three more of the finding, then those of its related subjects."""
    marks: dict[Span, Mark] = {}
    for position, span in enumerate(found.locations[:4]):
        marks[span] = Mark(span, _subject(found.parameters) if position == 0 else "", position == 0)
    for related in found.related:
        for position, span in enumerate(related.locations[:2]):
            if span not in marks:
                marks[span] = Mark(span, related.label if position else _related_label(related), False)
    return list(marks.values())


def _related_label(related: Related) -> str:
    subject = _subject(related.parameters)
    everywhere = " in all" if len(related.locations) > 1 else ""
    return f"{related.label}: {subject}{everywhere}" if subject else related.label


def _subject(parameters: tuple[str, ...]) -> str:
    """The one pattern of the parameters, or how many there are (their patterns are listed below the frame)."""
    patterns = names.compress(parameters)
    if len(patterns) != 1:
        return count(len(parameters), "parameter") if parameters else ""
    return patterns[0] if len(parameters) == 1 else f"{patterns[0]} ({len(parameters)})"


def _facts(found: Finding, style: Style) -> list[str]:
    lines = []
    patterns = names.compress(found.parameters)
    told = all(f"`{pattern}`" in found.message for pattern in patterns)
    if patterns and not (told or (len(patterns) == 1 and found.locations)):
        lines.append(_fact("parameters", _patterns(found.parameters), style))
    placed = set(found.locations)
    for related in found.related:
        if related.parameters and all(span in placed for span in related.locations):
            lines.append(_fact(related.label, _patterns(related.parameters), style))
    if found.help:
        lines.append(_fact("help", found.help, style))
    lines.append(_fact("see", f"lrlint rule {found.rule}", style))
    return lines


def _patterns(parameters: tuple[str, ...]) -> str:
    patterns = names.compress(parameters)
    rest = f", and {count(len(patterns) - _NAMES, 'more pattern')}" if len(patterns) > _NAMES else ""
    return ", ".join(patterns[:_NAMES]) + rest


def _fact(label: str, text: str, style: Style) -> str:
    label = clean(label)
    lead = f"  = {label}: "
    body = wrap(text, style.width, " " * len(lead), lead)
    return body.replace(lead, f"  {style.paint('=', 'blue')} {style.paint(label + ':', 'bold')} ", 1)


def _failure(failure: Failure, style: Style) -> str:
    title = f"{style.paint('failed', 'red')} {style.paint(clean(failure.target), 'bold')}"
    return f"{title}\n{wrap(failure.message, style.width, '  ')}"
