"""A comparison of two setups as text, JSON or Markdown."""

from __future__ import annotations

from lrlint.config.files import dump
from lrlint.lint.setup_diff import Comparison
from lrlint.reports.markdown import code
from lrlint.reports.markdown import text as markup
from lrlint.reports.style import Style, clean, wrap
from lrlint.text.wording import count

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "moved": ("!", "magenta")}


def render(format_: str, comparison: Comparison, before: str, after: str, style: Style) -> str:
    """``format_`` is text, json or markdown."""
    if format_ == "json":
        return dump({**comparison.to_dict(), "before": before, "after": after})
    return _markdown(comparison, before, after) if format_ == "markdown" else _text(comparison, before, after, style)


def _text(comparison: Comparison, before: str, after: str, style: Style) -> str:
    lines = [] if comparison.same else [style.paint(clean(f"{before} → {after}"), "bold"), ""]
    for change in comparison.changes:
        sign, colour = _SIGNS[change.kind]
        body = wrap(change.text, style.width, "    ", f"  {sign} ")
        lines.append(body.replace(f"  {sign} ", f"  {style.paint(sign, colour)} ", 1))
    lines += [wrap(remark, style.width, "    ", "    ") for remark in comparison.remarks]
    return "\n".join([*lines, *([""] if lines else []), _closing(comparison)]) + "\n"


def _markdown(comparison: Comparison, before: str, after: str) -> str:
    lines = [f"### {code(before)} → {code(after)}", ""]
    lines += [f"- {markup(change.text)}" for change in comparison.changes]
    lines += [f"- *{markup(remark)}*" for remark in comparison.remarks]
    return "\n".join([*lines, *([""] if comparison.changes or comparison.remarks else []), _closing(comparison)]) + "\n"


def _closing(comparison: Comparison) -> str:
    return "no difference" if comparison.same else count(len(comparison.changes), "change")
