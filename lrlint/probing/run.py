"""The door to running steps: does training diverge, stall or suffer at the peak rate, and which group is to blame?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lrlint.inspection.build import build
from lrlint.probing.examine import examine
from lrlint.probing.laboratory import Progress
from lrlint.probing.result import ProbeResult
from lrlint.targets.load import from_objects


def probe(
    model: Any,
    optimizer: Any = None,
    *,
    batches: Any = None,
    loss_fn: Any = None,
    scheduler: Any = None,
    total_steps: int | None = None,
    steps: int | None = None,
    device: Any = None,
    seed: int = 0,
    budget: float | None = None,
    progress: Progress | None = None,
    metric_fn: Callable[..., Any] | None = None,
    resume: str | Path | None = None,
    headroom: bool = True,
    thorough: bool = False,
    **declared: Any,
) -> ProbeResult:
    """Take a few real steps at the peak rates and at lower ones, from the setup's own state, and judge the rates.

    ``model``, ``optimizer`` and ``scheduler`` are one object each, or a list or dict of them. ``batches`` is an
    iterable of batches or a loader (at most 100 are taken); without any they are made up after ``example_inputs`` or
    what the model asks for, and the evidence is weak. ``loss_fn(model, batch)`` returns the scalar loss; a criterion of
    (output, target), a LightningModule or a model that returns its loss will do too.

    ``steps``: of one run (default 27). ``device``: where to run: a device, ``auto`` for CUDA where there is room for the
    model (and where it is, should it not run there), or None for where it is. ``seed`` decides all random numbers: the
    same seed gives the same result on the same device. ``budget``: seconds, after which what is known is said.
    ``progress(done, expected, what)`` is called after each step.

    ``metric_fn(model)`` (or of all models) gives a number that is lower for better models; it is taken at the end of every
    run, and where it contradicts the loss there is no verdict: for losses that are no measure (a target network, a
    discriminator). ``resume``: a checkpoint file with the state of the models and, where it has them, of optimizers and
    schedulers: the runs start from there, at the rates that training has there. ``headroom``: look for how far the rate of
    each group alone can rise (at most 55 steps a group). ``thorough``: runs of 300 steps where nothing fails earlier, and
    further seeds. ``declared``: what `lrlint.check` takes too
    (``precision``, ``clip_norm``, ``accumulation``, ``example_inputs``, ...).

    Everything given comes back as it was, bit for bit: weights, gradients, optimizer state, random states.

    Raises UsageError when the objects do not make training steps, TargetError when their own code fails, DeviceError
    for a device that is not there.
    """
    built = from_objects(
        model, optimizer, scheduler, total_steps=total_steps, batches=batches, loss_fn=loss_fn, **declared
    )
    setup = build(built, graph=False)
    more: dict[str, Any] = {"metric_fn": metric_fn, "resume": resume, "headroom": headroom, "thorough": thorough}
    facts = examine(built, setup, steps=steps, device=device, seed=seed, budget=budget, progress=progress, **more)
    return ProbeResult(facts, replace(setup, probe=facts))


__all__ = ["examine", "probe"]
