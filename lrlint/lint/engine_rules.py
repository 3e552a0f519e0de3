"""The findings that the engine itself makes: they have codes like rules, and no file of their own."""

from __future__ import annotations

from dataclasses import dataclass

from lrlint.lint.finding import Confidence, Severity
from lrlint.text import names


@dataclass(frozen=True)
class Builtin:
    """Code, name, severity and documentation, with the same names as a `Rule`'s."""

    code: str
    name: str
    severity: Severity
    documentation: str
    confidence: Confidence = "high"
    family: str = "engine"

    @property
    def summary(self) -> str:
        """The first line of the documentation."""
        return self.documentation.split("\n", 1)[0]


UNUSED = Builtin(
    "LR001",
    "unused-suppression",
    "warning",
    """A suppression matches no finding any more, or never did.

A comment or a `[[tool.lrlint.suppress]]` entry that sets nothing aside hides the next real fault at its place. It is
reported only when every rule it names has run, and (for entries) when every configured target was checked.

What to do: remove it, or correct the rule, the pattern or the place.""",
)
EXPIRED = Builtin(
    "LR002",
    "expired-suppression",
    "warning",
    """A suppression is past its `until` date: it no longer sets anything aside.

What to do: fix what it hid, or set a new date with a reason.""",
)
CRASHED = Builtin(
    "LR003",
    "rule-crashed",
    "warning",
    """A rule raised an exception: its findings are missing from this run.

What to do: report it; until it is repaired, leave the rule out with `ignore`.""",
)

ALL = (UNUSED, EXPIRED, CRASHED)


def matching(selector: str) -> list[Builtin]:
    """Those a selector names: code, code prefix, name or family."""
    selected = selector.lower()
    return [b for b in ALL if selected in (b.name, b.family) or names.is_prefix(selector.upper(), b.code)]
