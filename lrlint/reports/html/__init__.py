"""The audit report as one HTML page that needs nothing else; and parts of it as fragments, for notebooks."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lrlint.facts import ProbeFacts, Setup
from lrlint.lint.finding import Finding
from lrlint.reports.full import source_frames
from lrlint.reports.html import drawing, markup
from lrlint.reports.style import Style
from lrlint.reports.summary import summary
from lrlint.reports.views import card, parameters
from lrlint.reports.views import probe as probe_view
from lrlint.reports.views import setup as setup_view
from lrlint.reports.views.audit import Audit, Context, TargetView, audit
from lrlint.reports.views.chart import loss_chart, ratio_chart
from lrlint.text import names
from lrlint.text.wording import count, number, rate

if TYPE_CHECKING:
    from lrlint.lint.finding import Finding
    from lrlint.lint.run import Run

#: Columns of a code frame on the page.
_FRAME = 100


def render(run: Run, context: Context | None = None) -> str:
    """The audit page of a run. Without a context it says nothing of who made it and when."""
    view = audit(run, context)
    title = (
        f"lrlint: {count(len(view.targets), 'target') if len(view.targets) != 1 else view.targets[0].name or 'setup'}"
    )
    return _rendered("page.html", audit=view, title=_short(title), summary=summary(run))


def fragment(run: Run) -> str:
    """Verdicts and findings with their own style, to stand inside another page."""
    return _rendered("fragment.html", audit=audit(run), summary=summary(run), probe=None)


def setup_fragment(setup: Setup) -> str:
    """A setup as lrlint sees it, to stand inside another page."""
    from lrlint.lint.run import Checked, Run

    return _rendered("setup_fragment.html", view=audit(Run(checked=(Checked(setup, ()),))).targets[0])


def probe_fragment(facts: ProbeFacts) -> str:
    """A probe's result with its own style, for notebooks."""
    return _rendered("fragment.html", audit=None, probe=facts)


def _short(title: str) -> str:
    return title if len(title) <= 70 else title[:69] + "…"


def _rendered(name: str, **values: Any) -> str:
    return str(_environment().get_template(name).render(values))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Every value is text: control characters are written as escapes, and what is markup in HTML is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=markup.cleaned,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(prose=markup.prose, count=count, rate=rate, number=number, elements=card.elements)
    environment.globals.update(
        frame=_frame,
        compress=names.compress,
        map_drawing=drawing.group_map,
        chart_drawing=drawing.chart,
        probe_view=_probe,
        pattern_headers=parameters.HEADERS,
        tensor_headers=parameters.TENSOR_HEADERS,
        tensor_rows=parameters.tensor_rows,
        unheld=setup_view.unheld,
        present=card.present,
        include_raw=_raw,
    )
    return environment


def _raw(name: str) -> Markup:
    """A file of the templates' folder as it stands: the style sheet and the script."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _frame(finding: Finding, target: TargetView | None) -> Markup:
    """The frame that the terminal shows, its colours as elements."""
    if target is None or target.sources is None:
        return Markup("")
    lines = source_frames(finding, target.sources, Style(_FRAME, colour=True), target.setup)
    return markup.painted("\n".join(line.rstrip() for line in lines))


def _probe(facts: ProbeFacts) -> dict[str, Any]:
    """What `lrlint.reports.views.probe.render` draws for a terminal."""
    charts = [chart for chart in (loss_chart(facts), ratio_chart(facts)) if chart is not None]
    return {
        "why": probe_view.why(facts),
        "evidence": probe_view.evidence(facts),
        "charts": charts,
        "headers": probe_view.HEADERS,
        "groups": facts.groups[: probe_view.GROUPS],
        "more": max(len(facts.groups) - probe_view.GROUPS, 0),
        "margin": probe_view.margin,
        "headroom": probe_view.headroom_rows(facts),
        "headroom_headers": probe_view.HEADROOM,
        "told": [probe_view.told(facts, recommendation) for recommendation in facts.recommendations],
        "severity": {"unstable": "error", "stalled": "warning", "inconclusive": "warning", "too-low": "warning"}.get(
            facts.verdict, "ok"
        ),
    }


__all__ = ["Audit", "fragment", "probe_fragment", "render", "setup_fragment"]
