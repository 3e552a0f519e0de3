"""Two independent schedulers drive one optimizer and overwrite or multiply each other's rates.

Each computes from the rate the other left, or from its own base: a warm-up beside a cosine never lets the rate reach
the configured value, and the order of the two `step()` calls decides the outcome. The simulation steps both side by
side, as training would.

What to do: `SequentialLR` for one after the other, `ChainedScheduler` for both at once.

Silent for schedulers that are nested in one another, that a rehearsal saw stepped in different epochs only, that the
training loop steps under conditions that exclude each other (`if epoch < warm` / `else`), for `SWALR`, which takes over
late, and for one that only warms up beside `ReduceLROnPlateau` (*info* for others beside it). Factor schedulers
(`StepLR`, `ExponentialLR`, `LinearLR`, ...) multiply as torch documents it: reported only when the configured rate is
never reached.

Sources: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate (chaining), reproduced with torch
2.13: `LinearLR` and `CosineAnnealingLR` stepped side by side peak at 7.9e-4 instead of 1e-3
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.order import exclude_each_other, step_in_turn
from lrlint.text.grades import Severity
from lrlint.text.wording import listing, rate

#: Classes that multiply the present rate: the product does not depend on their order.
FACTORS = {"StepLR", "MultiStepLR", "ExponentialLR", "LinearLR", "ConstantLR", "PolynomialLR", "MultiplicativeLR"}
COMBINE = "combine them in SequentialLR (one after the other) or ChainedScheduler (both at once)"


@rule("LR413", severity="warning", confidence="medium", needs=("optimizer",))
def multiple_schedulers_one_optimizer(setup: Setup) -> Iterator[Finding]:
    for index, optimizer in enumerate(setup.optimizers):
        ours = [s for s in setup.schedules if s.optimizer == index and not s.wiring.nested and not s.wiring.dropped]
        ours = [s for s in ours if s.kinds != ("averaging",)]
        simulated = [s for s in ours if s.groups]
        if (
            len(ours) < 2
            or step_in_turn(setup, ours)
            or (setup.source is not None and exclude_each_other(setup.source))
        ):
            continue
        names = listing(s.class_name for s in ours)
        severity: Severity = "info" if len(simulated) < 2 else "warning"
        peak, base = _peak(simulated)
        lost = bool(base) and peak < 0.9 * base and simulated[0].covers_run
        if len(simulated) < 2 and all(set(s.kinds) <= {"warmup", "constant"} for s in simulated):
            continue
        bare = _without_scheduler(setup) if len({s.class_name for s in ours}) == 1 else []
        if len(simulated) >= 2 and {s.class_name for s in simulated} <= FACTORS and not lost and not bare:
            continue
        text = f"{names} drive one optimizer, each on its own"
        if bare:
            text += f", and {listing(other.label for other in bare)} has none"
        if lost:
            text += f": stepped side by side the rate peaks at {rate(peak)} instead of {rate(base)}"
        yield Finding(
            ours[::-1] if bare else ours,
            text,
            related=optimizer,
            data={"schedulers": [s.class_name for s in ours], "peak": peak, "configured": base},
            help=f"give one of them to {bare[0].label}" if bare else COMBINE,
            severity=severity,
        )


def _without_scheduler(setup):
    """The optimizers that no scheduler drives: beside two of one class on another, one was built on the wrong one."""
    driven = {schedule.optimizer for schedule in setup.schedules}
    return [] if None in driven else [optimizer for optimizer in setup.optimizers if optimizer.index not in driven]


def _peak(schedules):
    """(highest rate of the fastest group over the run, the rate it was given)."""
    if not schedules:
        return 0.0, 0.0
    pairs = [(g.lr.peak, g.before.get("lr", 0.0)) for g in schedules[0].groups if g.lr]
    return max(pairs, key=lambda pair: pair[1], default=(0.0, 0.0))
