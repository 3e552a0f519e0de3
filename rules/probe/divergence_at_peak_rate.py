"""Training diverges at the peak rates, and all groups share in it.

A few real steps were run from the setup's own state, at the rates its schedule leads to. The loss did not fall, and
the same steps from the same state with lower rates did: the rates are too high, whatever the schedule's first step
looks like. Reducing only some of the groups was not enough.

What to do: use the rate that is named. It lies a quarter decade below the largest one that held in 27 steps, a half or
three quarters where a lower one does better in 54 (rates that just hold at first fail in a longer run one time in four),
and is that one itself where lower ones are too slow. It was run again over fresh batches with another seed.

A finding needs a counterfactual: the loss of the run as configured is not finite, or ends where it began, and is above
the best run's by more than 30 % of what that one gained and 2 % of the initial loss; a finite one is confirmed over
two to five times as many steps, since early instabilities that heal are no fault. Where the schedule takes the rates
down, the run goes on at a tenth of them: what heals there is no fault either.

Sources: https://arxiv.org/abs/2103.00065 and https://arxiv.org/abs/2207.14484 (training lives at the edge of
stability, so that crossing 2/η alone is no fault), https://arxiv.org/abs/2003.02218 (catapults heal),
https://arxiv.org/abs/2110.04369 (instability at the peak rate; warm-up), https://github.com/google-research/tuning_playbook
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import advice, confidence, groups, numbers, severity, story


@rule("LR901", severity="error", confidence="high", needs=("probe",))
def divergence_at_peak_rate(setup: Setup) -> Iterator[Finding]:
    facts = setup.probe
    if facts.course != "diverges" or len(facts.guilty) != len(facts.groups):
        return
    subject = groups(setup, facts.guilty) or setup
    yield Finding(
        subject,
        story(facts, facts.guilty),
        data=numbers(facts),
        help=advice(facts),
        key="lr",
        severity=severity(facts, "error"),
        confidence=confidence(facts),
    )
