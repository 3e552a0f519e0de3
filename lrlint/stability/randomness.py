"""The process's random states: kept, put back, and set for one step."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import torch

from lrlint.stability.records import Record, State


def random_states() -> list[Record]:
    """The global random states of Python, NumPy (only if it is loaded), torch and its accelerators in use."""
    states: list[Record] = [
        State(random.getstate(), random.setstate),
        State(torch.get_rng_state(), torch.set_rng_state),
    ]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        states.append(State(numpy.get_state(), numpy.set_state))
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states.append(State(torch.cuda.get_rng_state_all(), torch.cuda.set_rng_state_all))
    if torch.backends.mps.is_available():
        states.append(State(torch.mps.get_rng_state(), torch.mps.set_rng_state))
    xpu: Any = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_initialized():
        states.append(State(xpu.get_rng_state_all(), xpu.set_rng_state_all))
    return states


def seed_all(seed: int, step: int) -> None:
    """Set all global random states in use by (seed, step)."""
    value = (seed * 1_000_003 + step * 7919 + 1) % 2**32
    # Not torch.manual_seed: while CUDA is not in use it formats the stack on every call, and seeds its later first use.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
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
