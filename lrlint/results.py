"""How results show themselves in a notebook: the only place above the reports that knows a Run, a Setup and their pictures.

The data classes themselves import nothing that draws, so that facts, rules, engine and reports stay below each other.
"""

from __future__ import annotations

from lrlint.facts import Setup
from lrlint.lint.run import Run

__all__ = ["Run", "Setup"]


def _run_as_html(run: Run) -> str:
    from lrlint.reports.html import fragment

    return fragment(run)


def _setup_as_html(setup: Setup) -> str:
    from lrlint.reports.html import setup_fragment

    return setup_fragment(setup)


for _shown, _as_html in ((Run, _run_as_html), (Setup, _setup_as_html)):
    setattr(_shown, "_repr_html_", _as_html)  # noqa: B010 (no attribute that the classes declare)
