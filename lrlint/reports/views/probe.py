"""The probe's result for a terminal: the loss and every group's update ratio over the steps, and what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lrlint.analysis.probe_messages import (
    bounds,
    configured,
    course,
    cure,
    expected,
    labels,
    made_up_for,
    repaired,
    share,
)
from lrlint.facts import ProbeFacts, Trace
from lrlint.facts.probe import Headroom, ProbeGroup, Recommendation
from lrlint.reports.style import Style, clean, shorten, wrap
from lrlint.reports.views.curves import chart
from lrlint.text.wording import count, number, rate

_COLOUR = {"stable": "green", "unstable": "red", "stalled": "yellow", "inconclusive": "yellow", "too-low": "yellow"}
_SAID = {"too-low": "too low"}
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
    lines = [_head(facts, style), *_charts(facts, width, ascii), *_groups(facts, style), *_headroom(facts)]
    lines += [wrap(told(facts, change), width, "      ", "  * ") for change in facts.recommendations]
    lines += [wrap(note, width, "    ", "  ") for note in facts.notes]
    text = "\n".join(lines) + "\n"
    return _plain(text) if ascii else text


def why(facts: ProbeFacts) -> str:
    """What the verdict rests on, in a phrase; "" where it says enough."""
    if facts.reason or not facts.too_low:
        return facts.reason or _COURSE.get(facts.course, "")
    low = facts.too_low[0]
    everything = len(low.groups) == len(facts.groups)
    return expected(low) if everything else f"{labels(facts, low.groups)} {made_up_for(low)}"


def score(facts: ProbeFacts) -> str:
    """What the score says, as a sentence; "" where there is none to say."""
    if facts.verdict == "stalled" or facts.too_low or not facts.arms:
        return ""
    if facts.score > 2:
        return "the run as configured breaks"
    if facts.score >= 1:
        return "the run as configured loses all that lower rates gain"
    if facts.score > 0.15:
        return f"the run as configured lacks {share(facts.score)} of what lower rates gain"
    return "no lower rate does better"


def extent(facts: ProbeFacts) -> str:
    """How much of the training was seen."""
    seen = facts.extent
    if seen is None:
        return ""
    of_run = f" of {seen.total:,}" if seen.total else ""
    return f"seen: {seen.steps}{of_run} steps, in which the best run took {share(seen.share)} off the loss"


def evidence(facts: ProbeFacts) -> str:
    """How much was run, on what."""
    batches = count(facts.batches, "batch", "batches") + (", repeated" if facts.cycled else "")
    weak = "; made-up data or loss: weak evidence" if facts.weak else ""
    runs = f"{count(facts.steps_run, 'step')} in {count(len(facts.arms), 'run')}"
    parts = [score(facts), extent(facts), f"{runs}, {batches}, seed {facts.seed}, {facts.device}{weak}"]
    if facts.resumed:
        parts.insert(0, f"from {facts.resumed}, at the rates it has there")
    return "; ".join(part for part in parts if part)


def told(facts: ProbeFacts, recommendation: Recommendation) -> str:
    """A recommendation, whether it held, and what it did."""
    text = f"{'verified' if recommendation.verified else 'did not hold'}: {cure(facts, recommendation)}"
    if recommendation.kind == "lr" and len(recommendation.groups) < len(facts.groups):
        text += f" for {labels(facts, recommendation.groups)}"
    told = [text, repaired(recommendation), bounds(recommendation), recommendation.reason]
    return "; ".join(part for part in told if part)


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
    traces = [(group, _trace(values, positive=True)) for group, values in drawn]
    return [(group, trace) for group, trace in traces if trace is not None]


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
    name = _SAID.get(facts.verdict, facts.verdict)
    verdict, reason = style.paint(name, _COLOUR.get(facts.verdict, "bold")), why(facts)
    head = f"probe: {verdict}{f' ({clean(reason)})' if reason else ''}"
    return f"{head}\n{wrap(evidence(facts), min(style.width, 90), '  ', '  ')}"


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


#: Columns of the headroom map.
HEADROOM = ("group", "nothing below", "configured", "best", "holds up to")


def headroom_rows(facts: ProbeFacts) -> list[tuple[str, ...]]:
    """The headroom map, a row per group: rates between which the group alone learns and holds, in two digits."""
    return [_headroom_row(room) for room in facts.headroom[:GROUPS]]


def _headroom_row(room: Headroom) -> tuple[str, ...]:
    low, best, largest = (
        "-" if factor is None else rate(float(f"{factor * room.lr:.2g}"))
        for factor in (room.low, room.best, room.largest)
    )
    top = f"{largest} (× {number(room.largest)})" + (", or more" if room.capped else "")
    return clean(room.label), low, rate(room.lr), best, top + ("" if room.verified else ", not verified")


def _headroom(facts: ProbeFacts) -> list[str]:
    """The headroom map as a table."""
    if not facts.headroom:
        return []
    rows = [(shorten(row[0], 30), *row[1:]) for row in (HEADROOM, *headroom_rows(facts))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  headroom: rates of each group alone, about"]
    for label, *numbers, top in rows:
        cells = "  ".join(f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:-1], strict=True))
        lines.append(f"  {label:<{widths[0]}}  {cells}  {top}".rstrip())
    if len(facts.headroom) > GROUPS:
        lines.append(f"  and {count(len(facts.headroom) - GROUPS, 'more group')}")
    return [*lines, ""]


_ASCII = {"→": "->", "×": "x", "│": "|", "‖": "|", "…": "...", "−": "-", "·": "*"}


def _plain(text: str) -> str:
    for character, spelling in _ASCII.items():
        text = text.replace(character, spelling)
    return text.encode("ascii", "backslashreplace").decode("ascii")
