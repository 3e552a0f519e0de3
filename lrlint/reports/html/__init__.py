"""The run as one HTML page that needs nothing else; and as a fragment, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lrlint.facts import Span
from lrlint.lint.finding import Finding
from lrlint.reports.html import parts as html_parts
from lrlint.reports.html.parts import STYLE, prose, text
from lrlint.reports.html.setup import section
from lrlint.reports.summary import summary
from lrlint.text import names
from lrlint.text.sources import SourceFile, Sources
from lrlint.text.wording import count

if TYPE_CHECKING:
    from lrlint.lint.run import Run

_LONGEST = 8


def render(run: Run) -> str:
    """The audit page: findings, what was set aside, what was not checked, and every setup as lrlint sees it."""
    body = _body(run) + "".join(section(setup) for setup in run.setups)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{text(_title(run))}</title>"
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<style>{STYLE}</style></head>\n<body><main class="lrlint">{body}</main></body></html>\n'
    )


def _title(run: Run) -> str:
    several = len(run.targets) != 1
    return f"lrlint: {count(len(run.targets), 'target') if several else run.targets[0] or 'setup'}"


def fragment(run: Run) -> str:
    """The findings, with their own style, to stand inside another page."""
    return html_parts.fragment(_body(run))


def _body(run: Run) -> str:
    parts = [f"<h1>lrlint</h1><p>{text(summary(run))}</p>"]
    parts += [
        f'<div class="finding error"><p class="head"><b>failed</b> {text(f.target)}</p><p>{text(f.message)}</p>'
        f"{_help(f.hint)}</div>"
        for f in run.failures
    ]
    several = len(run.targets) > 1
    for target in dict.fromkeys((*run.targets, *(found.target for found in run.active))):
        findings = [found for found in run.active if found.target == target]
        if findings and several:
            parts.append(f"<h2>{text(target or 'configuration')}</h2>")
        sources = run.sources(target)
        parts += [_finding(found, sources) for found in findings]
    aside = [found for found in run.findings if found.suppressed]
    parts.append(_table("Set aside", ("rule", "by", "reason", "finding"), (_aside(found) for found in aside)))
    parts.append(_table("Not checked", ("rule", "reason"), ((f"{s.rule} {s.name}", s.reason) for s in run.skipped)))
    return "\n".join(part for part in parts if part)


def _aside(found: Finding) -> tuple[str, ...]:
    by = found.suppressed or {}
    return (
        f"{found.rule} {found.name}",
        f"{by.get('by', '')} {by.get('where', '')}",
        str(by.get("reason", "")),
        found.message,
    )


def _table(title: str, columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{title}</h2><table><thead><tr>{head}</tr></thead>{body}</table>" if body else ""


def _finding(found: Finding, sources: Sources) -> str:
    confidence = "" if found.confidence == "high" else f' <span class="dim">({found.confidence} confidence)</span>'
    lines = [
        f'<p class="head"><b>{found.severity} {found.rule}</b> {text(found.name)}{confidence}</p>',
        f"<p>{prose(found.message)}</p>",
    ]
    for position, span in enumerate(found.locations[:2]):
        source = sources.get(span.path)
        code = _code(source, span) if source is not None and position == 0 else ""
        lines.append(f'<p class="dim"><code>{text(str(span))}</code></p>{code}')
    for related in found.related:
        subject = ", ".join(names.compress(related.parameters)[:6])
        lines.append(f"<p><b>{text(related.label)}</b> <code>{text(subject)}</code></p>")
    patterns = names.compress(found.parameters)
    if patterns:
        listed = "<br>".join(f"<code>{text(pattern)}</code>" for pattern in patterns)
        lines.append(f"<details><summary>{count(len(found.parameters), 'parameter')}</summary>{listed}</details>")
    lines.append(_help(found.help))
    return f'<div class="finding {found.severity}">{"".join(lines)}</div>'


def _help(said: str) -> str:
    return f"<p><b>Help</b> {prose(said)}</p>" if said else ""


def _code(source: SourceFile, span: Span) -> str:
    last = min(span.end_line or span.line, span.line + _LONGEST - 1, len(source.lines))
    rows = []
    for line in range(span.line, last + 1):
        written = source.lines[line - 1]
        start = span.column - 1 if line == span.line and span.column else len(written) - len(written.lstrip())
        end = span.end_column - 1 if line == span.end_line and span.end_column else len(written)
        marked = f"{text(written[:start])}<mark>{text(written[start:end])}</mark>{text(written[end:])}"
        rows.append(f'<span class="dim">{line:>5}</span>  {marked}')
    return f"<pre>{chr(10).join(rows)}</pre>" if rows else ""
