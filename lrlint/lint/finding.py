"""A finding: what a rule says about its subject, and the vocabulary to rank it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lrlint.text import names
from lrlint.text.grades import CONFIDENCES as CONFIDENCES
from lrlint.text.grades import SEVERITIES as SEVERITIES
from lrlint.text.grades import Confidence as Confidence
from lrlint.text.grades import Severity as Severity

if TYPE_CHECKING:  # a rule's documentation is shown without loading the facts
    from lrlint.facts import Span


@dataclass(frozen=True, slots=True)
class Related:
    """Another subject of the same finding, with its role in it (``spared``, ``scheduler``, ...)."""

    label: str
    parameters: tuple[str, ...] = ()
    groups: tuple[tuple[int, int], ...] = ()
    locations: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What one rule says about one subject.

    A rule yields ``Finding(subject, message)``: the subject is a Member, Members, Parameter, Group, Optimizer,
    NormLayer, Module, Unregistered, Schedule, Rejection, the Setup, or a list of such facts. ``related`` is one such
    subject or a mapping label → subject. ``key`` names the group option concerned, so that the location is that very
    line. ``data`` holds the numbers of the message. The engine fills in the remaining fields.

    ``groups`` are (optimizer, group) index pairs; ``parameters`` all canonical names concerned.
    """

    subject: Any = field(repr=False)
    message: str
    related: Any = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    help: str = ""
    key: str | None = None
    severity: Severity | Literal[""] = ""
    confidence: Confidence | Literal[""] = ""
    rule: str = ""
    name: str = ""
    target: str = ""
    parameters: tuple[str, ...] = ()
    groups: tuple[tuple[int, int], ...] = ()
    modules: tuple[str, ...] = ()
    locations: tuple[Span, ...] = ()
    suppressed: Mapping[str, Any] | None = None  # by what and why, where it was set aside

    @property
    def fingerprint(self) -> str:
        """Identity across edits: code, target and starred subject; no line, message, value or group index."""
        subject = sorted({names.star(name) for name in (*self.parameters, *self.modules)})
        text = "\n".join((self.rule, self.target, *subject))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @property
    def rank(self) -> tuple[int, int]:
        """Larger is worse: (severity, confidence)."""
        return SEVERITIES.index(self.severity), CONFIDENCES.index(self.confidence)

    def to_dict(self) -> dict[str, Any]:
        """The finding of the JSON output."""
        return {
            "rule": self.rule,
            "name": self.name,
            "severity": self.severity,
            "confidence": self.confidence,
            "message": self.message,
            "help": self.help,
            "target": self.target,
            "parameters": list(self.parameters),
            "groups": [list(pair) for pair in self.groups],
            "modules": list(self.modules),
            "locations": [_span(span) for span in self.locations],
            "related": [
                {
                    "label": related.label,
                    "parameters": list(related.parameters),
                    "groups": [list(pair) for pair in related.groups],
                    "locations": [_span(span) for span in related.locations],
                }
                for related in self.related
            ],
            "data": dict(self.data),
            "fingerprint": self.fingerprint,
            **({"suppressed": dict(self.suppressed)} if self.suppressed else {}),
        }


def _span(span: Span) -> dict[str, Any]:
    fields = ("path", "line", "column", "end_line", "end_column")
    return {key: getattr(span, key) for key in fields if getattr(span, key) is not None}


def at_least(findings: Iterable[Finding], severity: str) -> list[Finding]:
    """Findings at or above a severity that nothing set aside."""
    floor = SEVERITIES.index(severity)
    return [finding for finding in findings if not finding.suppressed and SEVERITIES.index(finding.severity) >= floor]
