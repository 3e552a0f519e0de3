"""The probe's result for a terminal: the loss and every group's update ratio over the steps, and what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lrlint.analysis.probe_messages import configured, course, cure, labels, repaired
from lrlint.facts import ProbeFacts, Trace
from lrlint.facts.probe import ProbeGroup, Recommendation
from lrlint.reports.style import Style, clean, shorten, wrap
from lrlint.reports.views.curves import chart
from lrlint.text.wording import count, number, rate

_COLOUR = {"stable": "green", "unstable": "red", "stalled": "yellow", "inconclusive": "yellow"}
_COURSE = {
    "diverges": "the loss diverges at these rates",
    "degraded": "a lower rate learns much more",
    "stalls": "no rate learns",
}
#: Groups listed, and drawn, before the rest is only counted.
GROUPS = 12
_CURVES = 6
HEADERS = ("group", "peak rate", "update/weights", "verdict")


def render(facts: ProbeFacts, style: Style | None = None, *, ascii: bool = False) -> str:
    """Head, two charts, one line per group and the recommendations. ``ascii`` draws with letters instead of dots."""
    style = style or Style()
    width = min(style.width, 90)
    lines = [_head(facts, style), *_charts(facts, width, ascii), *_groups(facts, style)]
    lines += [wrap(told(facts, change), width, "      ", "  * ") for change in facts.recommendations]
    lines += [wrap(note, width, "    ", "  ") for note in facts.notes]
    text = "\n".join(lines) + "\n"
    return _plain(text) if ascii else text


def why(facts: ProbeFacts) -> str:
    """What the verdict rests on, in a phrase; "" where it says enough."""
    return facts.reason or _COURSE.get(facts.course, "")


def evidence(facts: ProbeFacts) -> str:
    """How much was run, on what."""
    batches = count(facts.batches, "batch", "batches") + (", repeated" if facts.cycled else "")
    weak = "; made-up data or loss: weak evidence" if facts.weak else ""
    runs = f"{count(facts.steps_run, 'step')} in {count(len(facts.arms), 'run')}"
    return f"score {facts.score:.2f}, {runs}, {batches}, seed {facts.seed}, {facts.device}{weak}"


def told(facts: ProbeFacts, recommendation: Recommendation) -> str:
    """A recommendation, whether it held, and what it did."""
    text = f"{'verified' if recommendation.verified else 'did not hold'}: {cure(facts, recommendation)}"
    if recommendation.kind == "lr" and len(recommendation.groups) < len(facts.groups):
        text += f" for {labels(facts, recommendation.groups)}"
    result = repaired(recommendation)
    return f"{text}; {result}" if result else text


def as_configured(facts: ProbeFacts) -> str:
    """The course of the run that is drawn: the longest as configured."""
    run = configured(facts)
    return course(run) if run is not None else "not run"


def losses(facts: ProbeFacts) -> Trace | None:
    """The loss as configured, by step."""
    return _trace(facts.trace.loss)


def ratios(facts: ProbeFacts) -> list[tuple[ProbeGroup, Trace]]:
    """The update ratios of the first groups, by step."""
    drawn = zip(facts.groups[:_CURVES], facts.trace.ratios, strict=False)
    found = [(group, _trace(values, positive=True)) for group, values in drawn]
    return [(group, trace) for group, trace in found if trace is not None]


def of_weights(facts: ProbeFacts) -> str:
    """What the curves of the ratios show."""
    more = len(facts.groups) > _CURVES
    return f"update / weights{f' (first {_CURVES} of {len(facts.groups)} groups)' if more else ''}"


def margin(group: ProbeGroup) -> str:
    """How far its rate may go, behind the verdict."""
    if group.factor is None:
        return ""
    return ", without margin" if group.factor == 1 else f", holds at {number(group.factor)} times its rate"


def _head(facts: ProbeFacts, style: Style) -> str:
    verdict, said = style.paint(facts.verdict, _COLOUR.get(facts.verdict, "bold")), why(facts)
    return f"probe: {verdict}{f' ({clean(said)})' if said else ''}\n  {evidence(facts)}"


def _charts(facts: ProbeFacts, width: int, ascii: bool) -> list[str]:
    lines: list[str] = []
    loss = losses(facts)
    if loss is not None:
        lines += [
            "",
            f"  as configured: {as_configured(facts)}",
            *chart([loss], width=width, height=5, ascii=ascii, wide=True),
        ]
    drawn = [trace for _, trace in ratios(facts)]
    if drawn:
        lines += ["", f"  {of_weights(facts)}", *chart(drawn, width=width, height=5, ascii=ascii, wide=True)]
    return lines


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
    name, peak, ratio, verdict = HEADERS
    lines = ["", f"  {name:<{widest}}  {peak:>9}  {ratio:>14}  {verdict}"]
    for group in facts.groups[:GROUPS]:
        label = f"{shorten(clean(group.label), widest):<{widest}}"
        ratio = number(group.update_ratio) if group.update_ratio is not None else "-"
        verdict = style.paint(group.verdict, "red" if group.verdict in ("diverges", "degraded") else "dim")
        lines.append(f"  {label}  {rate(group.lr):>9}  {ratio:>14}  {verdict}{margin(group)}")
    if len(facts.groups) > GROUPS:
        lines.append(f"  and {count(len(facts.groups) - GROUPS, 'more group')}")
    return [*lines, ""]


_ASCII = {"→": "->", "×": "x", "│": "|", "‖": "|", "…": "...", "−": "-", "·": "*"}


def _plain(text: str) -> str:
    for character, spelling in _ASCII.items():
        text = text.replace(character, spelling)
    return text.encode("ascii", "backslashreplace").decode("ascii")
