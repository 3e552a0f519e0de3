"""The words for how bad a finding is, and how sure lrlint is of it; each from the least to the most."""

from __future__ import annotations

from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["info", "warning", "error"]
Confidence: TypeAlias = Literal["low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")
CONFIDENCES: tuple[Confidence, ...] = ("low", "medium", "high")
