"""The probe's result in HTML: verdict, loss and update ratios over the steps, one row per group, what repairs it."""

from __future__ import annotations

from lrlint.facts import ProbeFacts
from lrlint.facts.probe import ProbeGroup
from lrlint.reports.html import parts as html_parts
from lrlint.reports.html.parts import chart, legend, prose, text
from lrlint.reports.views import probe as picture
from lrlint.text.wording import count, number, rate

_SEVERITY = {"unstable": "error", "stalled": "warning", "inconclusive": "warning"}


def fragment(facts: ProbeFacts) -> str:
    """The result with its own style, for notebooks."""
    return html_parts.fragment(section(facts))


def section(facts: ProbeFacts) -> str:
    """What `lrlint.reports.views.probe.render` draws for a terminal."""
    why, verdict = picture.why(facts), facts.verdict.replace("-", " ")
    parts = [
        f'<p class="head {_SEVERITY.get(facts.verdict, "")}"><b>{verdict}</b>{f": {prose(why)}" if why else ""}</p>',
        f'<p class="dim">{text(picture.evidence(facts))}</p>',
        _loss(facts),
        _ratios(facts),
        _groups(facts),
    ]
    told = [picture.told(facts, recommendation) for recommendation in facts.recommendations]
    if told:
        parts.append(f"<ul>{''.join(f'<li>{prose(line)}</li>' for line in told)}</ul>")
    parts += [f"<p>{prose(note)}</p>" for note in facts.notes]
    return "".join(parts)


def _loss(facts: ProbeFacts) -> str:
    trace = picture.losses(facts)
    if trace is None:
        return ""
    return f'<p class="dim">as configured: {text(picture.as_configured(facts))}</p>{chart([trace], "loss", wide=True)}'


def _ratios(facts: ProbeFacts) -> str:
    drawn = picture.ratios(facts)
    if not drawn:
        return ""
    curves = chart([trace for _, trace in drawn], "update / weights", wide=True)
    return f'<p class="dim">{picture.of_weights(facts)}</p>{curves}{legend(group.label for group, _ in drawn)}'


def _groups(facts: ProbeFacts) -> str:
    if not facts.groups:
        return ""
    rows = "".join(map(_row, facts.groups[: picture.GROUPS]))
    more = len(facts.groups) - picture.GROUPS
    rest = f"<p>and {count(more, 'more group')}</p>" if more > 0 else ""
    head = "".join(f'<th scope="col">{name}</th>' for name in picture.HEADERS)
    return f'<div class="wide"><table class="probe"><thead><tr>{head}</tr></thead>{rows}</table></div>{rest}'


def _row(group: ProbeGroup) -> str:
    ratio = "–" if group.update_ratio is None else number(group.update_ratio)
    cells = (group.label, rate(group.lr), ratio, group.verdict + picture.margin(group))
    return "<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in cells) + "</tr>"
