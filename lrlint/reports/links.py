"""Where the pages of the rules are."""

from __future__ import annotations

import re

#: The site that `mkdocs build` makes of docs/; RELEASING.md says when to change it.
DOCUMENTATION = "https://lrlint.readthedocs.io/en/latest/"

_URL = re.compile(r"https?://[^\s),;>\]`]+[^\s),;>\]`.]")


def rule_page(code: str, documentation: str = "") -> str:
    """The page of a rule that ships; for a team's own the first address in its documentation; else ""."""
    if re.fullmatch(r"LR\d{3}", code):
        return f"{DOCUMENTATION}rules/{code.lower()}/"
    match = _URL.search(documentation)
    return match[0] if match else ""
