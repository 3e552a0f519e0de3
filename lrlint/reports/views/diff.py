"""A comparison of two setups as text, JSON or Markdown."""

from __future__ import annotations

from lrlint.config.files import dump
from lrlint.lint.setup_diff import Comparison
from lrlint.reports.markdown import code
from lrlint.reports.markdown import text as markup
from lrlint.reports.style import Style, clean, wrap
from lrlint.text.wording import count

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "moved": ("!", "magenta")}


def render(format_: str, found: Comparison, before: str, after: str, style: Style) -> str:
    """``format_`` is text, json or markdown."""
    if format_ == "json":
        return dump({**found.to_dict(), "before": before, "after": after})
    return _markdown(found, before, after) if format_ == "markdown" else _text(found, before, after, style)


def _text(found: Comparison, before: str, after: str, style: Style) -> str:
    lines = [] if found.same else [style.paint(clean(f"{before} → {after}"), "bold"), ""]
    for change in found.changes:
        sign, colour = _SIGNS[change.kind]
        body = wrap(change.text, style.width, "    ", f"  {sign} ")
        lines.append(body.replace(f"  {sign} ", f"  {style.paint(sign, colour)} ", 1))
    lines += [wrap(remark, style.width, "    ", "    ") for remark in found.remarks]
    return "\n".join([*lines, *([""] if lines else []), _closing(found)]) + "\n"


def _markdown(found: Comparison, before: str, after: str) -> str:
    lines = [f"### {code(before)} → {code(after)}", ""]
    lines += [f"- {markup(change.text)}" for change in found.changes]
    lines += [f"- *{markup(remark)}*" for remark in found.remarks]
    return "\n".join([*lines, *([""] if found.changes or found.remarks else []), _closing(found)]) + "\n"


def _closing(found: Comparison) -> str:
    return "no difference" if found.same else count(len(found.changes), "change")
