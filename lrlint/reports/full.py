"""The default report: each finding with its code, the facts, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrlint.facts import Setup, Span
from lrlint.lint.finding import Finding, Related
from lrlint.reports.frame import Mark, frame
from lrlint.reports.links import rule_page
from lrlint.reports.style import SEVERITY_COLOUR, Style, clean, columns, shorten, wrap
from lrlint.reports.summary import summary
from lrlint.reports.views.loop import line
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
    setups = {setup.target: setup for setup in run.setups}
    blocks: list[str] = []
    for target in dict.fromkeys(finding.target for finding in run.active):
        if several:
            blocks.append(_heading(target or "configuration", style))
        blocks += [
            _finding(finding, sources.get(target) or run.sources(""), setups.get(target), style)
            for finding in run.active
            if finding.target == target
        ]
    blocks += [_failure(failure, style) for failure in run.failures]
    worst = next((s for s in ("error", "warning", "info") if run.counts()[s]), None)
    colour = "red" if run.failures else SEVERITY_COLOUR[worst] if worst else "green"
    blocks += _rehearsals(run, several)
    blocks += _lasting(run, several, style)
    closing = summary(run)
    head, dot, tail = closing.partition(" · ")
    blocks.append(style.paint(head, colour) + dot + tail)
    return "\n\n".join(blocks) + "\n"


def _rehearsals(run: Run, several: bool) -> list[str]:
    """One line per script that was rehearsed: how far, and what became of its files."""
    seen = [(setup.target, setup.loop) for setup in run.setups if setup.loop is not None]
    lines = [f"{clean(target)}: {line(loop)}" if several else line(loop) for target, loop in seen]
    return ["\n".join(lines)] if lines else []


def _lasting(run: Run, several: bool, style: Style) -> list[str]:
    """What running the target's code changed in live objects for good."""
    found = [(setup.target, note.reason) for setup in run.setups for note in setup.notes if note.fact == "state"]
    lines = [wrap(f"note: {f'{target}: ' if several else ''}{reason}", style.width, "  ") for target, reason in found]
    return ["\n".join(line.removeprefix("  ") for line in lines)] if lines else []


def _heading(target: str, style: Style) -> str:
    """A rule across the terminal with the target's name, above the findings about it."""
    name = shorten(clean(target), style.width - 6)
    rest = "─" * (style.width - columns(name) - 4)
    return f"{style.paint('──', 'blue')} {style.paint(name, 'bold')} {style.paint(rest, 'blue')}"


def _finding(finding: Finding, sources: Sources, setup: Setup | None, style: Style) -> str:
    code = style.link(finding.rule, rule_page(finding.rule))
    title = style.paint(f"{finding.severity}[{code}]", SEVERITY_COLOUR[finding.severity])
    lines = [f"{title} {style.paint(finding.name, 'bold')}{_confidence(finding, style)}"]
    lines.append(wrap(finding.message, style.width, "  "))
    lines += source_frames(finding, sources, style, setup)
    lines += _facts(finding, style)
    return "\n".join(lines)


def _confidence(finding: Finding, style: Style) -> str:
    return "" if finding.confidence == "high" else style.paint(f" ({finding.confidence} confidence)", "dim")


def source_frames(finding: Finding, sources: Sources, style: Style, setup: Setup | None = None) -> list[str]:
    """One frame per file, the primary location's first."""
    marks = _marks(finding, setup)
    gutter = max([len(str(mark.span.end_line or mark.span.line)) for mark in marks], default=1)
    if not marks:
        return [f"{' ' * gutter}{style.paint('-->', 'blue')} {clean(finding.target)}"] if finding.target else []
    lines: list[str] = []
    for position, path in enumerate(dict.fromkeys(mark.span.path for mark in marks)):
        own = [mark for mark in marks if mark.span.path == path]
        arrow = style.paint(":::" if position else "-->", "blue")
        lines.append(f"{' ' * gutter}{arrow} {clean(str(own[0].span))}")
        source = sources.get(path)
        drawn = frame(source, own, style, gutter) if source is not None else []
        lines += drawn
        if not drawn:
            bar = style.paint("|", "blue")
            lines += [f"{' ' * gutter} {bar} {clean(mark.label)}" for mark in own if mark.label]
    return lines


def _marks(finding: Finding, setup: Setup | None = None) -> list[Mark]:
    """The primary region, then up to three more of the finding, then those of its related subjects."""
    marks: dict[Span, Mark] = {}
    for position, span in enumerate(finding.locations[:4]):
        label = _held(finding, span, setup) or _subject(finding.parameters) if position == 0 else "and here"
        marks[span] = Mark(span, label, position == 0)
    for related in finding.related:
        for position, span in enumerate(related.locations[:2]):
            if span not in marks:
                marks[span] = Mark(span, related.label if position else _related_label(related), False)
    return list(marks.values())


def _held(finding: Finding, span: Span, setup: Setup | None) -> str:
    """``holds 40 of 42``, where the parameters are in no optimizer and the place is the one that should have them."""
    if setup is None or finding.groups or not finding.parameters:
        return ""
    optimizer = next((o for o in setup.optimizers if o.span == span), None)
    held = {member.parameter.index for member in optimizer.members} if optimizer is not None else set()
    known = [setup.by_name[name] for name in finding.parameters if name in setup.by_name]
    if optimizer is None or len(known) < len(finding.parameters) or any(p.index in held for p in known):
        return ""
    return f"holds {len(held)} of {len(held) + len(known)} parameters"


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


def _facts(finding: Finding, style: Style) -> list[str]:
    lines = []
    patterns = names.compress(finding.parameters)
    in_message = all(f"`{pattern}`" in finding.message for pattern in patterns)
    if patterns and not (in_message or (len(patterns) == 1 and finding.locations)):
        lines.append(_fact("parameters", _patterns(finding.parameters), style))
    placed = set(finding.locations)
    for related in finding.related:
        if related.parameters and all(span in placed for span in related.locations):
            lines.append(_fact(related.label, _patterns(related.parameters), style))
    if finding.help:
        lines.append(_fact("help", finding.help, style))
    lines.append(_fact("see", f"lrlint rule {finding.rule}", style))
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
