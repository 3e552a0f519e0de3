"""A scheduler that should anneal leaves the rate constant, makes it negative or not a number, or cannot take a step.

A negative rate is gradient ascent: `LambdaLR(lambda t: 1 - t / n)` crosses zero at step n and goes on. A constant rate
comes from `eta_min` equal to the rate, `T_max=0.5` or a power of 0; an impossible argument such as `T_max=0` raises
only at the first step; a fractional power of a negative number is complex. Negative rates and those that are no number
are judged within the declared run, or the scheduler's own length; in the first twentieth of a run whose epochs are not
declared they are *info*, since the scheduler may count epochs.

What to do: clamp the factor (`max(0.0, ...)`), give `T_max` in whole steps, choose `eta_min` well below the rate.

Silent for `ConstantLR`, a factor of exactly 1, functions that return 1, and anything data-driven. A step decay whose
first step lies beyond the run is *info*.

Sources: https://github.com/huggingface/transformers/issues/324 (negative rate after the last step),
https://github.com/AmirmohammadRostami/KeywordsSpotting-EfficientNet-A0/issues/1 (`eta_min` equal to the rate)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import driven
from lrlint.analysis.schedule_faults import constant, negative, raising


@rule("LR409", severity="error", confidence="high", needs=("optimizer", "schedule"))
def constant_or_negative_schedule(setup: Setup) -> Iterator[Finding]:
    for schedule, optimizer in driven(setup):
        if schedule.position.start > 1 and not optimizer.state_size:
            continue  # `last-epoch-without-state`: it was advanced while it was built
        groups = optimizer.groups
        said = raising(schedule) or negative(schedule, groups) or constant(schedule)
        if said:
            text, severity, help = said
            yield Finding(schedule, text, data={"horizon": schedule.horizon}, help=help, severity=severity)
