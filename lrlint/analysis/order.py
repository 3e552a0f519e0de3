"""What is known about the order of things in a training loop: seen in a rehearsal, or read in its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrlint.facts.loop import LoopFacts

if TYPE_CHECKING:
    from lrlint.facts import Setup
    from lrlint.facts.source import SourceCall


def seen_loop(setup: Setup) -> LoopFacts:
    """The loop as it was seen, where that was enough to judge it; else one in which nothing happened."""
    return setup.loop if setup.loop is not None and setup.loop.judged else LoopFacts()


def read_functions(setup: Setup) -> list[list[SourceCall]]:
    """The calls of each function that was read, in order; none where no source was read."""
    return [] if setup.source is None else setup.source.functions()
