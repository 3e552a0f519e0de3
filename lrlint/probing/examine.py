"""One examination of a target: where it runs, what it trains on, the experiment, and everything put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from lrlint.errors import DeviceError, TargetError, UsageError
from lrlint.facts import ProbeFacts, Setup
from lrlint.probing import facts
from lrlint.probing.diagnosis import Names
from lrlint.probing.experiment import MEMORY, Experiment, Terms
from lrlint.probing.laboratory import Progress, TrialRunner
from lrlint.probing.training import peak_rates
from lrlint.probing.training.batches import moved
from lrlint.probing.training.checkpoint import Checkpoint
from lrlint.probing.training.data import NoData, data_of
from lrlint.probing.training.determinism import irregular, repeatable, uncompiled
from lrlint.probing.training.device import move, places
from lrlint.probing.training.failures import device_failures, target_code
from lrlint.probing.training.metric import metric
from lrlint.probing.training.statistics import Key
from lrlint.probing.training.stepper import Stepper
from lrlint.probing.training.trained import trained_groups
from lrlint.targets.frameworks.sharding import sharded_by
from lrlint.targets.live_target import LiveTarget
from lrlint.targets.preservation.iterators import Uncopyable, is_position, twin
from lrlint.targets.preservation.snapshot import Snapshot, preserved

#: Steps of one run.
STEPS = 27
#: Distinct batches that are kept (for runs that go on, and for fresh ones).
BATCHES = 100
_SHARDED = "the model is sharded by {by}: its steps cannot be taken back, so none was taken"


def examine(
    built: LiveTarget,
    setup: Setup,
    *,
    steps: int | None = None,
    device: Any = None,
    seed: int = 0,
    budget: float | None = None,
    progress: Progress | None = None,
    metric_fn: Callable[..., Any] | None = None,
    resume: str | Path | None = None,
    headroom: bool = True,
    thorough: bool = False,
) -> ProbeFacts:
    """The probe's facts about a target that was built and inspected; arguments and errors as of `probe`."""
    if steps is not None and steps < 10:
        raise UsageError(f"{steps} steps are too few to judge a rate", "take at least 10")
    models, optimizers, others = built.state()
    if by := sharded_by([*models, *built.extra_modules.values()]):
        return ProbeFacts("inconclusive", 0.0, reason=_SHARDED.format(by=by), seed=seed)
    until = None if budget is None else time.monotonic() + budget
    notes: list[str] = []
    metric_fn = metric_fn or built.metric_fn
    checkpoint = None if resume is None else Checkpoint.read(resume)

    def on(target_device: torch.device, snapshot: Snapshot) -> ProbeFacts:
        with ExitStack() as stack:
            at: dict[Key, float] | None = None
            if checkpoint is not None:
                at = checkpoint.load(models, optimizers, built.schedulers)
                snapshot = stack.enter_context(preserved(models, optimizers, others))
            if move([*models, *built.extra_modules.values()], optimizers, built.loss_fn, target_device):
                snapshot = stack.enter_context(preserved(models, optimizers, others))  # runs start from a copy there
            batches, loss_fn, made_up = data_of(built, setup, BATCHES, target_device, seed)
            stepper = Stepper(models, optimizers, batches, loss_fn, setup.training, seed=seed)
            rates = peak_rates.peaks(setup, stepper.rates)
            if at is not None:
                rates = {key: at.get(key, rate) for key, rate in rates.items()}
            if not rates:
                raise UsageError("no parameter group has a rate and a parameter to train")
            lab = TrialRunner(
                stepper,
                snapshot,
                rates,
                ramp=0 if at is not None else peak_rates.ramp(setup, stepper.rates),
                seed=seed,
                budget=None if until is None else max(until - time.monotonic(), 0.0),
                others=others,
                progress=progress,
                metric=None if metric_fn is None else metric(metric_fn, models),
            )
            weak = bool(batches.weak or made_up)
            terms = Terms(
                families=[setup.optimizers[o].family for o in sorted({o for o, _ in rates})],
                clipped=setup.training.clip_norm is not None,
                decays=peak_rates.decay(setup, lab.keys),
                length=None if at is not None else peak_rates.length(setup, lab.keys),
                weak=weak,
                pretrained=trained_groups(models, optimizers, lab.keys),
                headroom=headroom,
                thorough=thorough,
            )
            experiment = Experiment(lab, Names(built.models), steps or STEPS, terms)
            result = facts.facts(
                experiment, experiment.conduct(), peak_rates.labels(setup, lab.keys), [*made_up, *notes]
            )
            return result if checkpoint is None else replace(result, resumed=checkpoint.name)

    left = places(models, device)

    def somewhere(snapshot: Snapshot) -> ProbeFacts:
        """On the first device where it goes well."""
        strict = True
        while True:
            try:
                with device_failures(), repeatable(left[0], strict=strict):
                    result = on(left[0], snapshot)
                if result.reason != MEMORY or len(left) == 1:
                    return result
                why = MEMORY
            except NoData as error:
                why = str(error)
                if len(left) == 1:
                    return ProbeFacts("inconclusive", 0.0, reason=why, seed=seed, notes=tuple(notes))
            except TargetError as error:
                why = error.message
                operation = irregular(why) if strict else ""
                if operation:
                    strict = False
                    notes.append(f"{operation} is not deterministic on {left[0]}: figures vary from run to run")
                    snapshot.restore()
                    continue
                if len(left) == 1:
                    raise
            except (torch.OutOfMemoryError, MemoryError) as error:
                why = MEMORY
                if len(left) == 1:
                    raise DeviceError(f"{left[0]} has no room for the model: {str(error).splitlines()[0]}") from error
            snapshot.restore()
            failed = left.pop(0)
            notes[:] = [f"run on {left[0]}: on {failed}, {why}"]

    with built.running(), uncompiled(), preserved(models, optimizers, others, data=built.data()) as snapshot:
        batches, lasting = _again(built.batches, setup)
        built = replace(built, batches=batches)
        result = somewhere(snapshot)
    return replace(result, notes=(*result.notes, *lasting, *snapshot.notes))


def _again(batches: Any, setup: Setup) -> tuple[Any, list[str]]:
    """The batches in a form that can be read more than once, should the first device not do; and a note if that lasts.

    An iterator that can be copied stays where it is; out of any other the batches are taken.
    """
    if not isinstance(batches, Iterator):
        return batches, []
    source, lasting = batches, []
    try:
        source = twin(batches, {})
    except Uncopyable:
        lasts = is_position(batches) or type(batches).__module__.startswith("torch.")
    else:
        lasts = False
    with target_code("reading the batches"):
        batches_ = islice(source, BATCHES * (setup.training.accumulation or 1))
        copies = [moved(batch, None) for batch in batches_]  # it may fill the same tensors again
    if lasts:
        name = type(batches).__name__
        lasting = [f"batches is a {name}, which cannot be wound back: {len(copies)} batches were taken out of it"]
    return copies, lasting
