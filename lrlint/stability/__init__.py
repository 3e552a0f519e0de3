"""The door to running steps: does training diverge, stall or suffer at the peak rate, and which group is to blame?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lrlint.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from lrlint.facts import ProbeFacts, Setup
    from lrlint.inspection.built import Built
    from lrlint.stability.arms import Progress
    from lrlint.stability.result import ProbeResult

#: Steps of one run.
STEPS = 27
#: Distinct batches that are kept (for runs that go on, and for fresh ones).
BATCHES = 100


def probe(
    model: Any,
    optimizer: Any,
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
    **declared: Any,
) -> ProbeResult:
    """Take a few real steps at the peak rates and at lower ones, from the setup's own state, and judge the rates.

    ``model``, ``optimizer`` and ``scheduler`` are one object each, or a list or dict of them. ``batches`` is an
    iterable of batches or a loader (at most 100 are taken); without any they are made up after ``example_inputs`` or
    what the model asks for, and the evidence is weak. ``loss_fn(model, batch)`` returns the scalar loss; a criterion of
    (output, target), a LightningModule or a model that returns its loss will do too.

    ``steps``: of one run (default 27). ``device``: where to run (default: where the model is). ``seed`` decides all
    random numbers: the same seed gives the same result. ``budget``: seconds, after which what is known is said.
    ``progress(done, expected, what)`` is called after each step. ``declared``: what `lrlint.check` takes too
    (``precision``, ``clip_norm``, ``accumulation``, ``example_inputs``, ...).

    Everything given comes back as it was, bit for bit: weights, gradients, optimizer state, random states.

    Raises UsageError when the objects do not make training steps, TargetError when their own code fails, DeviceError
    for a device that is not there.
    """
    from lrlint.inspection.build import build
    from lrlint.inspection.target import adopt
    from lrlint.stability.result import ProbeResult

    built = adopt(model, optimizer, scheduler, total_steps=total_steps, batches=batches, loss_fn=loss_fn, **declared)
    setup = build(built, graph=False)
    found = examine(built, setup, steps=steps, device=device, seed=seed, budget=budget, progress=progress)
    return ProbeResult(found, replace(setup, probe=found))


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
    from lrlint.facts import ProbeFacts
    from lrlint.stability import peaks, report
    from lrlint.stability.arms import Laboratory
    from lrlint.stability.data import NoData, data_of
    from lrlint.stability.experiment import Experiment
    from lrlint.stability.origin import Names
    from lrlint.stability.state import preserved
    from lrlint.stability.steps import Stepper
    from lrlint.stability.uncompiled import uncompiled

    check_device(device)
    if steps is not None and steps < 10:
        raise UsageError(f"{steps} steps are too few to judge a rate", "take at least 10")
    models, optimizers = list(built.models.values()), list(built.optimizers.values())
    others = [*built.schedulers, *built.extra_modules.values(), built.loss_fn, built.owner]
    others = [other for other in others if other is not None]
    with built.running(), uncompiled(), preserved(models, optimizers, others) as snapshot:
        try:
            batches, loss_fn, notes = data_of(built, setup, BATCHES, device, seed)
        except NoData as error:
            return ProbeFacts("inconclusive", 0.0, reason=str(error), seed=seed)
        stepper = Stepper(models, optimizers, batches, loss_fn, setup.training, device, seed=seed)
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
        return report.facts(experiment, experiment.conduct(), peaks.labels(setup, lab.keys), notes)


def check_device(device: Any) -> None:
    """Raises DeviceError for a device that this machine (or this build of torch) does not have."""
    if device is None:
        return
    import torch

    try:
        torch.empty(1, device=device)
    except Exception as error:
        reason = str(error).split("\n", 1)[0]
        raise DeviceError(
            f"device {device} is not available: {reason}", "leave out --device to run where the model is"
        ) from None


__all__ = ["examine", "probe"]
