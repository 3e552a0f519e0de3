"""The warm-up does not work: it never ends, is cut off, comes one step late, or starts again every epoch.

Simulated over the declared run: (1) the rate is still rising when training ends, so the warm-up is as long as the run
(steps counted before accumulation, or epochs given as steps); (2) the first step is taken at the full rate and the
warm-up begins with the second, so that the least trained weights get the largest step; (3) the rate drops to its
start once per epoch, because the warm-up counts the steps within the epoch; (4) a `SequentialLR` goes on to its next
scheduler before a linear warm-up is over, and the rate jumps.

What to do: compute the warm-up in optimizer steps; build the scheduler before the first step, so that its constructor
sets the first rate; give it the global step.

Judged over the declared `total_steps`; whether the warm-up ends, over the scheduler's own length as well. Cyclic
schedulers and restarts, and schedules that only fall, are not judged.

Sources: https://github.com/hirofumi0810/neural_sp/issues/137 (warm-up longer than the run),
https://github.com/marian-nmt/marian/issues/156 (first step at full rate),
https://github.com/Vision-CAIR/MiniGPT-4/pull/263 (the warm-up restarts every epoch),
https://github.com/Lightning-AI/pytorch-lightning/issues/18570"""

from collections.abc import Iterator
from itertools import pairwise

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import driven
from lrlint.analysis.schedule_faults import late_warmup
from lrlint.analysis.schedule_length import cut_off, lead
from lrlint.text.wording import rate


@rule("LR411", severity="warning", confidence="medium", needs=("optimizer", "schedule"))
def warmup_or_peak_anomaly(setup: Setup) -> Iterator[Finding]:
    for schedule, _ in driven(setup):
        if cut := cut_off(schedule):
            yield Finding(
                schedule,
                f"{schedule.class_name}: the warm-up of {cut.length} scheduler steps is cut off after {cut.taken}, at "
                f"{cut.reached:.0%} of the rate",
                help="let the milestone be the warm-up's length",
            )
            continue
        covered = schedule.has_declared_horizon or (schedule.covers_run and schedule.ends is not None)
        if not covered or "cycle" in schedule.kinds or schedule.horizon < 10:
            continue
        trace = lead(schedule)
        if trace is None:
            continue
        text = _unfinished(schedule, trace, max(schedule.base_lrs, default=0.0))
        text = text or (schedule.has_declared_horizon and (late_warmup(trace) or _again(setup, schedule, trace)))
        if text:
            yield Finding(
                schedule,
                f"{schedule.class_name}: {text}",
                data={"peak": trace.peak, "peak_step": trace.peak_step, "horizon": schedule.horizon},
                help="count the warm-up in optimizer steps of the whole run",
            )


def _unfinished(schedule, trace, base):
    """A rise, from below half of its peak, that lasts until the last tenth of the run."""
    rises = trace.peak_step >= 0.9 * schedule.horizon and trace.first < 0.5 * trace.peak
    steady = all(b >= a * (1 - 1e-9) for a, b in pairwise(trace.values) if b != trace.last)
    if not rises or not steady or trace.peak > 1.01 * base > 0:  # beyond the base rate it is no warm-up but a growth
        return None
    where = f"{schedule.unit} {trace.peak_step} of {schedule.horizon}"
    share = f", to {trace.peak / base:.0%} of {rate(base)}" if base and trace.peak < 0.99 * base else ""
    return f"the rate rises until {where}{share}: the run is all warm-up"


def _again(setup, schedule, trace):
    per_epoch = setup.training.steps_per_epoch
    points = pairwise(zip(trace.steps, trace.values, strict=True))
    # From near the peak each time: a step decay falls as far, but never comes back up.
    drops = [b for (a, high), (b, low) in points if b - a == schedule.period and low <= 0.2 * high >= 0.1 * trace.peak]
    if not per_epoch or per_epoch < 3 or len(drops) < 3 or schedule.period > 1:
        return None
    if any(abs((b - a) / per_epoch - 1) > 0.02 for a, b in pairwise(drops)):
        return None
    return f"the rate falls back {len(drops)} times, every {per_epoch} steps: the warm-up starts again each epoch"
