"""The process's random states, and what becomes of them when a device fails."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

#: A function that puts a state back, and the state.
Kept = tuple[Callable[[Any], Any], Any]


def random_states() -> list[Kept]:
    """The global random states of Python, NumPy (only if it is loaded), torch and its accelerators in use."""
    states: list[Kept] = [(random.setstate, random.getstate()), (torch.set_rng_state, torch.get_rng_state())]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        states.append((numpy.set_state, numpy.get_state()))
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with tolerant():
            states.append((_set_cuda, torch.cuda.get_rng_state_all()))
    if torch.backends.mps.is_available():
        states.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
    xpu: Any = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_initialized():
        states.append((xpu.set_rng_state_all, xpu.get_rng_state_all()))
    return states


def _set_cuda(states: Any) -> None:
    with tolerant():
        torch.cuda.set_rng_state_all(states)


@contextmanager
def tolerant() -> Iterator[None]:
    """A device that has failed has no state any more; what runs elsewhere needs none of it."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost(error):
            raise


def is_lost(error: BaseException) -> bool:
    """Whether the error says that a device has failed: nothing runs on it any more, and nothing can be put back there."""
    text = str(error)
    return isinstance(error, RuntimeError) and "CUDA error" in text and "out of memory" not in text
