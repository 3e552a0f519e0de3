"""How results show themselves in a notebook: the only place above the reports that knows a Run and its pictures.

The data class itself imports nothing that draws, so that rules, engine and reports stay below each other.
"""

from __future__ import annotations

from lrlint.lint.run import Run

__all__ = ["Run"]


def _repr_html_(run: Run) -> str:
    from lrlint.reports.html import fragment

    return fragment(run)


Run._repr_html_ = _repr_html_  # type: ignore[attr-defined]
