"""What the sections of the HTML page are made of: its style, escaped text, line charts and their legends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from lrlint.facts import Trace
from lrlint.reports.style import clean
from lrlint.reports.views import curves
from lrlint.text.wording import rate

STYLE = """
.lrlint{--e:#c62828;--w:#b26a00;--i:#1565c0;--line:#8884;font:15px/1.5 system-ui,sans-serif}
.lrlint{max-width:72rem;margin:0 auto;padding:0 1rem 4rem}
.lrlint h1,.lrlint h2,.lrlint h3{font-weight:600;margin:1.6em 0 .5em}.lrlint h1{font-size:1.5em}
.lrlint h2{font-size:1.2em;border-top:1px solid var(--line);padding-top:1em}.lrlint h3{font-size:1em}
.lrlint .finding{border:1px solid var(--line);border-left:4px solid var(--c);border-radius:4px}
.lrlint .finding{margin:.8em 0;padding:.6em .9em}
.lrlint .error{--c:var(--e)}.lrlint .warning{--c:var(--w)}.lrlint .info{--c:var(--i)}
.lrlint .head b{color:var(--c)}.lrlint .dim{opacity:.7}.lrlint p{margin:.3em 0}
.lrlint pre,.lrlint code{font:13px/1.45 ui-monospace,monospace}.lrlint pre{overflow-x:auto;margin:.5em 0}
.lrlint pre mark{background:none;color:inherit;border-bottom:2px solid var(--c)}
.lrlint table{border-collapse:collapse}.lrlint .wide{overflow-x:auto}
.lrlint td,.lrlint th{padding:.15em .8em .15em 0;text-align:left;vertical-align:top}
.lrlint .groups{font-size:13px}.lrlint .groups tbody{border-top:1px solid var(--line)}
.lrlint .groups td{font-variant-numeric:tabular-nums;white-space:nowrap}
.lrlint .groups td:nth-child(4){font-family:ui-monospace,monospace;white-space:normal;overflow-wrap:anywhere}
.lrlint .groups :is(td,th):is(:nth-child(2),:nth-child(3),:nth-child(5),:nth-child(6)){text-align:right}
.lrlint .probe{font-size:13px}.lrlint .probe td{padding-right:1.6em;font-variant-numeric:tabular-nums}
.lrlint svg{width:100%;max-width:44rem}.lrlint svg text{font:11px system-ui;fill:currentColor}
.lrlint .legend{list-style:none;padding:0;font-size:13px}
.lrlint :is(p,li,summary,td,details){overflow-wrap:anywhere}
@media(prefers-color-scheme:dark){.lrlint{--e:#ef7a7a;--w:#e0a44c;--i:#7ab3f0}}
@media print{.lrlint{max-width:none}.lrlint .finding{break-inside:avoid}.lrlint pre{white-space:pre-wrap}}
"""
#: Okabe and Ito's colours, which also readers with impaired colour vision tell apart (jfly.uni-koeln.de/color).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_WIDTH, _HEIGHT, _LEFT, _BELOW = 640, 170, 70, 22


def fragment(body: str) -> str:
    """A part of a page with its own style, to stand inside another page."""
    return f'<style>{STYLE}</style><div class="lrlint">{body}</div>'


def text(value: str) -> str:
    """Escaped for HTML, without control characters."""
    return escape(clean(value.replace("\t", "    ")))


def prose(value: str) -> str:
    """Escaped text whose `quoted names` are set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(value))


def chart(traces: Sequence[Trace], title: str, wide: bool = False) -> str:
    """The traces as lines on common axes, the vertical one as `lrlint.reports.views.curves.axis` says."""
    low, high, logarithmic = curves.axis(traces, wide)
    height = curves.scaler(low, high, logarithmic)
    first, last = min(t.steps[0] for t in traces), max(t.steps[-1] for t in traces)
    span = max(last - first, 1)

    def point(step: float, value: float) -> str:
        x = _LEFT + (_WIDTH - _LEFT) * (step - first) / span
        return f"{x:.1f},{(_HEIGHT - _BELOW) * (1 - height(value)) + 2:.1f}"

    lines = "".join(
        f'<polyline fill="none" stroke="{_COLOURS[k % len(_COLOURS)]}" stroke-width="1.6" '
        f'points="{" ".join(point(s, v) for s, v in zip(t.steps, t.values, strict=True))}"/>'
        for k, t in enumerate(traces)
    )
    base = _HEIGHT - _BELOW + 2
    marks = (
        (_LEFT - 6, 12, "end", rate(high)),
        (_LEFT - 6, base, "end", rate(low)),
        (_LEFT, _HEIGHT - 4, "start", str(first)),
        (_WIDTH, _HEIGHT - 4, "end", str(last)),
    )
    labels = "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{label}</text>' for x, y, anchor, label in marks)
    axes = f'<path d="M{_LEFT} 2V{base}H{_WIDTH}" fill="none" stroke="currentColor" opacity=".4"/>'
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{axes}{lines}{labels}</svg>'


def legend(lines: Iterable[str]) -> str:
    """What each line of a chart shows, in the order it was drawn."""
    items = "".join(
        f'<li><span style="color:{_COLOURS[k % len(_COLOURS)]}">━</span> {text(line)}</li>'
        for k, line in enumerate(lines)
    )
    return f'<ul class="legend">{items}</ul>'
