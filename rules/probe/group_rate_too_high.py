"""A lower rate learns much more in the same steps.

The run as configured does learn, but loses at least 45 % of what the same steps at a lower rate gain: it bounces or
damages what was learnt. Both runs were long enough (54 to 135 steps) for an early instability to heal.

What to do: use the rate that is named. It was run again over fresh batches with another seed.

This finds about half of such setups and is wrong in about one of fifty healthy ones; a run that is merely less than
ideal at its peak, as many good recipes are, is not reported.

Sources: https://arxiv.org/abs/2103.00065 (edge of stability), https://arxiv.org/abs/2003.02218 (catapults),
https://github.com/google-research/tuning_playbook (how to tell that a rate is too high)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import advice, confidence, groups, numbers, severity, story


@rule("LR903", severity="warning", confidence="medium", needs=("probe",))
def group_rate_too_high(setup: Setup) -> Iterator[Finding]:
    facts = setup.probe
    if facts.course != "degraded" or not facts.guilty:
        return
    yield Finding(
        groups(setup, facts.guilty) or setup,
        story(facts, facts.guilty),
        data=numbers(facts),
        help=advice(facts),
        key="lr",
        severity=severity(facts, "warning"),
        confidence=confidence(facts, "medium"),
    )
