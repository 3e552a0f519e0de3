"""The audit report as Markdown: the content of the HTML page, pictures in characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lrlint.facts import ProbeFacts
from lrlint.reports.full import source_frames
from lrlint.reports.markdown import code
from lrlint.reports.markdown import text as plain
from lrlint.reports.style import Style, clean
from lrlint.reports.summary import summary
from lrlint.reports.views import parameters
from lrlint.reports.views import probe as probe_view
from lrlint.reports.views.audit import Context, FindingView, OptimizerView, TargetView, audit
from lrlint.reports.views.card import elements
from lrlint.reports.views.map_text import map_lines
from lrlint.text import names
from lrlint.text.wording import count

if TYPE_CHECKING:
    from lrlint.lint.run import Run

_FRAME = Style(100)


def render(run: Run, context: Context | None = None) -> str:
    """The audit report of a run."""
    audited = audit(run, context)
    single = len(audited.targets) == 1
    title = f": {code(audited.targets[0].name or 'setup')}" if single else ""
    lines = [f"# Training setup audit{title}", ""]
    for view in audited.targets:
        name = "" if single else f"{code(view.name or 'setup')}: "
        ran = f" ({count(view.ran, 'rule')} ran, {view.skipped} did not)" if view.setup else ""
        lines.append(f"- {name}**{plain(view.verdict.text)}**{ran}")
    lines += ["", plain(summary(run)), ""] if not single else [""]
    identity = audited.context.identity.pairs()
    if identity:
        lines += _table(("", ""), ((title, plain(value)) for title, value in identity))
        lines += ["Approved by: ____________________  Date: ____________  Signature: ____________________", ""]
    if audited.general:
        lines += ["## Configuration", "", *(line for view in audited.general for line in _finding(view, None))]
    if audited.beside:
        named = [code(view.name) for view in audited.targets if view.setup is not None]
        lines += ["## Targets side by side", ""]
        rows = [
            (f"**{key}**" if differs else key, *(f"**{plain(v)}**" if differs else plain(v) for v in values))
            for key, values, differs in audited.beside
        ]
        lines += _table(("setting", *named), rows)
    for view in audited.targets:
        lines += _target(view, audited.context.against_name)
    return "\n".join(lines).rstrip() + "\n"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(headers)} |", f"|{'---|' * len(headers)}", *body, ""] if body else []


def _block(lines: Iterable[str]) -> list[str]:
    """Preformatted text; four spaces cannot be ended by what a name holds, as a fence could."""
    return [*(f"    {line}".rstrip() for line in lines), ""]


def _target(view: TargetView, against: str) -> list[str]:
    lines = [f"## {code(view.name or 'setup')}", ""]
    if view.failure is not None:
        failure_lines = [
            f"**failed**: {plain(view.failure.message)}",
            "",
            *([plain(view.failure.hint), ""] if view.failure.hint else []),
        ]
        return [*lines, *failure_lines, *_block(clean(line) for line in view.failure.trace.splitlines())]
    if view.setup is None:
        return lines
    lines += _table(("setup", ""), ((title, plain(value)) for title, value in view.card))
    if view.map is not None:
        lines += ["### Groups from input to output", "", *_block(map(clean, map_lines(view.map, 92)))]
    for shown in view.optimizers:
        lines += _optimizer(shown)
    if view.schedules:
        lines += ["### Schedule", ""]
    for schedule in view.schedules:
        lines += [f"**{plain(schedule.title)}**, {plain(schedule.told)}", ""]
        lines += [*(f"- {plain(course)}" for course in schedule.courses[:6]), ""]
    if view.setup.probe is not None:
        lines += ["### Probe", "", *_probe(view.setup.probe)]
    if view.change is not None:
        lines += [f"### Changes since {code(against)}", ""]
        lines += [f"- {plain(change.text)}" for change in view.change.changes] or ["no difference"]
        lines += [*(f"- *{plain(remark)}*" for remark in view.change.remarks), ""]
    lines += ["### Findings", ""]
    lines += [line for finding_view in view.findings for line in _finding(finding_view, view)] or ["none", ""]
    return [*lines, *_accepted_and_unchecked(view), *_parameters(view)]


def _optimizer(shown: OptimizerView) -> list[str]:
    where = f" {code(str(shown.optimizer.span))}" if shown.optimizer.span else ""
    rows = []
    for row in shown.rows:
        note = f"<br>{plain(row.note)}" if row.note else ""
        held = ", ".join(code(pattern) for pattern in row.patterns[:2]) or "(empty)"
        rest = f" and {count(len(row.patterns) - 2, 'more pattern')}" if len(row.patterns) > 2 else ""
        options = f"**{plain(row.options)}** " if row.options else ""
        cells = (plain(row.label) + note, row.rates, row.decay, str(row.tensors), elements(row.elements))
        rows.append((*cells, f"{options}{held}{rest}"))
    heading = [f"### {plain(shown.optimizer.label)}{where}", ""]
    return heading + _table(("group", "peak rate", "decay", "tensors", "elements", "holds"), rows)


def _probe(facts: ProbeFacts) -> list[str]:
    return _block(probe_view.render(facts, Style(92)).splitlines())


def _finding(view: FindingView, target: TargetView | None) -> list[str]:
    finding = view.finding
    rule = f"[{finding.rule}]({view.link})" if view.link else finding.rule
    sure = "" if finding.confidence == "high" else f" ({finding.confidence} confidence)"
    lines = [f"#### {finding.severity} {rule} {plain(finding.name)}{sure}", "", plain(finding.message), ""]
    if target is not None and target.sources is not None:
        lines += _block(source_frames(finding, target.sources, _FRAME, target.setup))
    lines += [f"- {plain(label)}: {code(subject)}" for label, subject in view.subjects]
    patterns = names.compress(finding.parameters)
    if patterns:
        lines.append(f"- {count(len(finding.parameters), 'parameter')}: {', '.join(map(code, patterns))}")
    lines += [f"- **Help**: {plain(finding.help)}"] if finding.help else []
    lines += [f"- Why it matters: {plain(view.why)}"] if view.why else []
    return [*lines, ""]


def _accepted_and_unchecked(view: TargetView) -> list[str]:
    lines = []
    if view.aside:
        lines += ["### Set aside", ""]
        headers = ("severity", "rule", "by", "reason", "until", "finding")
        rows = [(a.severity, a.rule, a.by, a.reason, a.until or "–", a.message) for a in view.aside]
        lines += _table(headers, (tuple(map(plain, row)) for row in rows))
    if view.unchecked:
        lines += ["### Not checked", ""]
        unchecked = [
            (plain(u.reason), ", ".join(rule.split(" ")[0] for rule in u.rules), code(u.command) if u.command else "–")
            for u in view.unchecked
        ]
        lines += _table(("because", "rules", "to check them"), unchecked)
    if view.setup is not None and view.setup.notes:
        lines += ["### Not established", ""]
        lines += [*(f"- {note.fact}: {plain(note.reason)}" for note in view.setup.notes), ""]
    return lines


def _parameters(view: TargetView) -> list[str]:
    rows = [
        (code(r.pattern), str(r.tensors), r.elements, r.shape, plain(r.role), plain(r.group), r.rate, r.decay)
        for r in view.patterns
    ]
    return ["### Parameters", "", *_table(parameters.HEADERS, rows)]
