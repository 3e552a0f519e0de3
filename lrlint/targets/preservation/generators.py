"""Random states as records: the process's own, and those of generator objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lrlint.inspection import randomness as kept
from lrlint.targets.preservation.records import Record, State


def random_states() -> list[Record]:
    """The global random states, as a snapshot keeps them."""
    return [State(value, restore) for restore, value in kept.random_states()]


def generator_state(generator: torch.Generator) -> Record:
    """The state of a generator object."""
    set_state: Callable[[torch.Tensor], Any] = generator.set_state
    return State(generator.get_state().clone(), set_state)
