"""The probe's result for a terminal: the loss and every group's update ratio over the steps, and what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lrlint.evidence import course, cure, repaired
from lrlint.facts import ProbeFacts, Trace
from lrlint.facts.probe import ProbeArm, ProbeGroup
from lrlint.formats.plot import chart
from lrlint.formats.text import Style, clean, plural, shorten, wrap
from lrlint.vocabulary import number, rate

_COLOUR = {"stable": "green", "unstable": "red", "stalled": "yellow", "inconclusive": "yellow"}
_COURSE = {
    "diverges": "the loss diverges at these rates",
    "degraded": "a lower rate learns much more",
    "stalls": "no rate learns",
}
#: Groups drawn and listed before the rest is only counted.
_GROUPS = 12
_CURVES = 6


def render(facts: ProbeFacts, style: Style | None = None, *, ascii: bool = False) -> str:
    """Head, two charts, one line per group and the recommendations. ``ascii`` draws with letters instead of dots."""
    style = style or Style()
    width = min(style.width, 90)
    lines = [_head(facts, style), *_charts(facts, width, ascii), *_groups(facts, style)]
    for recommendation in facts.recommendations:
        mark = "verified" if recommendation.verified else "did not hold"
        text, chosen = cure(facts, recommendation), recommendation.groups
        if recommendation.kind == "lr" and len(chosen) < len(facts.groups):
            text += (
                f" for {', '.join(_label(facts, pair) for pair in chosen[:4])}{' and more' if len(chosen) > 4 else ''}"
            )
        result = repaired(recommendation)
        lines.append(wrap(f"{mark}: {text}{f'; {result}' if result else ''}", width, "      ", "  * "))
    lines += [wrap(note, width, "    ", "  ") for note in facts.notes]
    text = "\n".join(lines) + "\n"
    return _plain(text) if ascii else text


def html(facts: ProbeFacts) -> str:
    """The same as a fragment of HTML, for notebooks."""
    from html import escape

    return f'<pre style="line-height:1.2">{escape(render(facts, Style(90)))}</pre>'


def _head(facts: ProbeFacts, style: Style) -> str:
    verdict = style.paint(facts.verdict, _COLOUR.get(facts.verdict, "bold"))
    why = facts.reason or _COURSE.get(facts.course, "")
    evidence = f"{plural(facts.batches, 'batch').replace('batchs', 'batches')}{', repeated' if facts.cycled else ''}"
    weak = "; made-up data or loss: weak evidence" if facts.weak else ""
    return (
        f"probe: {verdict}{f' ({clean(why)})' if why else ''}\n"
        f"  score {facts.score:.2f}, {plural(facts.steps_run, 'step')} in {plural(len(facts.arms), 'run')}, {evidence}, "
        f"seed {facts.seed}, {facts.device}{weak}"
    )


def _charts(facts: ProbeFacts, width: int, ascii: bool) -> list[str]:
    lines: list[str] = []
    loss = _trace(facts.trace.loss)
    run = next((arm for arm in facts.arms if not arm.changes and arm.clip is None), None)
    if loss is not None:
        lines += ["", f"  as configured: {_course(run)}", *chart([loss], width=width, height=5, ascii=ascii)]
    ratios = [_trace(values, positive=True) for values in facts.trace.ratios[:_CURVES]]
    drawn = [trace for trace in ratios if trace is not None]
    if drawn:
        more = f" (first {_CURVES} of {len(facts.trace.ratios)} groups)" if len(facts.trace.ratios) > _CURVES else ""
        lines += ["", f"  update / weights{more}", *chart(drawn, width=width, height=5, ascii=ascii)]
    return lines


def _course(arm: ProbeArm | None) -> str:
    return course(arm) if arm is not None else "not run"


def _trace(values: Sequence[float], positive: bool = False) -> Trace | None:
    """The finite values as a curve; one that starts at a value that is not finite cannot be drawn."""
    points = [(k, v) for k, v in enumerate(values) if math.isfinite(v) and (v > 0 or not positive)]
    if len(points) < 2:
        return None
    return Trace(tuple(k for k, _ in points), tuple(v for _, v in points))


def _groups(facts: ProbeFacts, style: Style) -> list[str]:
    if not facts.groups:
        return []
    widest = min(max(len(clean(group.label)) for group in facts.groups), 30)
    lines = ["", f"  {'group':<{widest}}  {'peak rate':>9}  {'update/weights':>14}  verdict"]
    for group in facts.groups[:_GROUPS]:
        label = f"{shorten(clean(group.label), widest):<{widest}}"
        ratio = number(group.update_ratio) if group.update_ratio is not None else "-"
        verdict = style.paint(group.verdict, "red" if group.verdict in ("diverges", "degraded") else "dim")
        lines.append(f"  {label}  {rate(group.lr):>9}  {ratio:>14}  {verdict}{_margin(group)}")
    if len(facts.groups) > _GROUPS:
        lines.append(f"  and {plural(len(facts.groups) - _GROUPS, 'more group')}")
    return [*lines, ""]


def _margin(group: ProbeGroup) -> str:
    if group.factor is None:
        return ""
    return f", holds at {number(group.factor)} times its rate"


def _label(facts: ProbeFacts, pair: Sequence[int]) -> str:
    found = facts.group((pair[0], pair[1]))
    return f"`{clean(found.label)}`" if found else f"group {pair[1]}"


_ASCII = {"→": "->", "×": "x", "│": "|", "‖": "|", "…": "...", "−": "-", "·": "*"}


def _plain(text: str) -> str:
    for character, spelling in _ASCII.items():
        text = text.replace(character, spelling)
    return text.encode("ascii", "backslashreplace").decode("ascii")
