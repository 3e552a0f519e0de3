"""The process's random states: kept, put back, and set for one step."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import torch

from lrlint.targets import rng_state as kept
from lrlint.targets.preservation.records import Record, State


def random_states() -> list[Record]:
    """The global random states, as a snapshot keeps them."""
    return [State(value, restore) for restore, value in kept.random_states()]


def seed_all(seed: int, step: int) -> None:
    """Set all global random states in use by (seed, step)."""
    value = (seed * 1_000_003 + step * 7919 + 1) % 2**32
    # Not torch.manual_seed: while CUDA is not in use it formats the stack on every call, and seeds its later first use.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with kept.tolerant():
            torch.cuda.manual_seed_all(value)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(value)
    xpu: Any = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_initialized():
        xpu.manual_seed_all(value)
    random.seed(value)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed(value)


def generator_state(generator: torch.Generator) -> Record:
    """The state of a generator object."""
    set_state: Callable[[torch.Tensor], Any] = generator.set_state
    return State(generator.get_state().clone(), set_state)
