"""What the forward pass does with each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lrlint.facts import GraphFacts, Note


def observe(
    models: Mapping[str, nn.Module],
    name_of: Mapping[int, str],
    *,
    example_inputs: Any = None,
    batches: Any = None,
    batch_size: int | None = None,
) -> tuple[GraphFacts | None, list[Note]]:
    """The facts of one observed pass, and why facts are missing."""
    return None, [Note("graph", "this version does not observe the forward pass yet")]
