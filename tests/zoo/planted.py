"""The target that the mutation tests check: a real model with one fault in it, built while lrlint watches."""

from __future__ import annotations

from typing import Any

from zoo import faults
from zoo.seeding import SEEDS, Fault, Sound

assert faults  # importing it fills SEEDS

#: The fault that `planted` built last: what the test expects of lrlint.
latest: Fault | None = None


def planted(operator: str, model: str, grouping: str = "") -> dict[str, Any]:
    """A real model with one fault, as a target (``lrlint check zoo.planted:planted --arg model=…``)."""
    global latest
    plant = next(seed.plant for seed in SEEDS if str(seed) == operator)
    latest = fault = plant(Sound(model, grouping))
    return {"model": fault.model, "optimizer": fault.optimizer, "scheduler": fault.scheduler, **fault.declared}
