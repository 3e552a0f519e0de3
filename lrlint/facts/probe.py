"""What a few real steps showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """Result of the stability probe, torch-free."""

    verdict: str
    score: float
    details: Mapping[str, Any] = field(default_factory=dict)
