"""One examination of a target: where it runs, what it trains on, the experiment, and everything put back."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch

from lrlint.errors import TargetError, UsageError
from lrlint.facts import ProbeFacts, Setup
from lrlint.inspection.built import Built
from lrlint.stability import peaks, report
from lrlint.stability.arms import Laboratory, Progress
from lrlint.stability.conditions import irregular, repeatable, uncompiled
from lrlint.stability.data import NoData, data_of
from lrlint.stability.experiment import Experiment
from lrlint.stability.failures import device_failures
from lrlint.stability.origin import Names
from lrlint.stability.placement import move, places
from lrlint.stability.state import Snapshot, preserved
from lrlint.stability.steps import Stepper

#: Steps of one run.
STEPS = 27
#: Distinct batches that are kept (for runs that go on, and for fresh ones).
BATCHES = 100


def examine(
    built: Built,
    setup: Setup,
    *,
    steps: int | None = None,
    device: Any = None,
    seed: int = 0,
    budget: float | None = None,
    progress: Progress | None = None,
) -> ProbeFacts:
    """The probe's facts about a target that was built and inspected; arguments and errors as of `probe`."""
    if steps is not None and steps < 10:
        raise UsageError(f"{steps} steps are too few to judge a rate", "take at least 10")
    models, optimizers = list(built.models.values()), list(built.optimizers.values())
    others = [*built.schedulers, *built.extra_modules.values(), built.loss_fn, built.owner]
    others = [other for other in others if other is not None]

    notes: list[str] = []

    def on(place: torch.device, snapshot: Snapshot) -> ProbeFacts:
        with ExitStack() as stack:
            if move(models, optimizers, built.loss_fn, place):  # runs start from a copy that is there as well
                snapshot = stack.enter_context(preserved(models, optimizers, others))
            try:
                batches, loss_fn, made_up = data_of(built, setup, BATCHES, place, seed)
            except NoData as error:
                return ProbeFacts("inconclusive", 0.0, reason=str(error), seed=seed)
            stepper = Stepper(models, optimizers, batches, loss_fn, setup.training, seed=seed)
            rates = peaks.peaks(setup, stepper.rates)
            if not rates:
                raise UsageError("no parameter group has a rate and a parameter to train")
            lab = Laboratory(
                stepper,
                snapshot,
                rates,
                ramp=peaks.ramp(setup, stepper.rates),
                seed=seed,
                budget=budget,
                others=others,
                progress=progress,
            )
            experiment = Experiment(
                lab,
                Names(built.models),
                steps or STEPS,
                families=[setup.optimizers[o].family for o in sorted({o for o, _ in rates})],
                clipped=setup.training.clip_norm is not None,
                decays=peaks.decay(setup, lab.keys),
            )
            return report.facts(experiment, experiment.conduct(), peaks.labels(setup, lab.keys), [*made_up, *notes])

    left = places(models, device)
    strict = True
    with built.running(), uncompiled(), preserved(models, optimizers, others) as snapshot:
        while True:
            try:
                with device_failures(), repeatable(left[0], strict=strict):
                    return on(left[0], snapshot)
            except TargetError as error:
                operation = irregular(error.message)
                if strict and operation:
                    strict = False
                    notes.append(f"{operation} is not deterministic on {left[0]}: figures vary from run to run")
                elif len(left) > 1:
                    failed = left.pop(0)
                    notes[:] = [f"run on {left[0]}: on {failed}, {error.message}"]
                else:
                    raise
                snapshot.restore()
