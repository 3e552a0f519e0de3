"""Random states as records: the process's own, and those of generator objects."""

from __future__ import annotations

import functools
import random
import sys
from typing import Any

import torch

from lrlint.targets import rng_state as kept
from lrlint.targets.preservation.records import Record, State


def random_states() -> list[Record]:
    """The global random states, as a snapshot keeps them."""
    return [State(value, restore) for restore, value in kept.random_states()]


def generator_state(item: Any) -> Record | None:
    """The state of a generator object of torch, Python or NumPy; None for anything else."""
    if isinstance(item, torch.Generator):
        return State(item.get_state().clone(), item.set_state)
    if isinstance(item, random.Random):
        if isinstance(item, random.SystemRandom):
            return None
        return State(item.getstate(), item.setstate)
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return None
    if isinstance(item, numpy.RandomState):
        return State(item.get_state(), item.set_state)
    if isinstance(item, numpy.Generator):
        item = item.bit_generator
    if isinstance(item, numpy.BitGenerator):
        return State(item.state, functools.partial(setattr, item, "state"))
    return None
