"""All rates are far too low for the length of the run.

A few steps at rates that stand for the whole run (its steps, times the mean of the schedule, over those few) take as much
off the loss as the configured rates do by its end. Rates that are higher still were held against that: they gain at least
twice as much in the same steps, less two standard errors of the batches, and twice as long and on other batches again.

What to do: raise the rates to about what is named, or train for much longer. A slip of the decimal point, or a rate meant
for another optimizer, are the usual causes.

Where no rate learns anything in so few steps (a plateau), and where the loss is not one that is bounded by zero, nothing
is said. Weights that were trained before are often meant to move little: there it is a note.

In the problems that the limits come from (26 of 9 kinds, swept to the run's end) 0.83 of setups with rates 30 to 3,000
times too low were found, none of 109 sound ones was called too low, and the rate that was named did better at the end in
114 of 114. Without a declared length the run is taken for one of 100,000 steps: less is found then.

Sources: https://arxiv.org/abs/1506.01186 (range tests; on their own they cannot tell a slow start from a low rate),
https://github.com/google-research/tuning_playbook
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import confidence, cure, expected, groups, rates


@rule("LR912", severity="warning", confidence="medium", needs=("probe",))
def all_rates_too_low(setup: Setup) -> Iterator[Finding]:
    facts = setup.probe
    for low in facts.too_low:
        if len(low.groups) < len(facts.groups):
            continue
        change = next((r for r in facts.recommendations if r.kind == "lr" and r.groups == low.groups), None)
        meant = "; the weights seem to be trained already, so low rates may be meant" if low.pretrained else ""
        yield Finding(
            groups(setup, low.groups) or setup,
            f"{rates(facts, low.groups)}: {expected(low)}{meant}",
            data={
                "factor": low.factor,
                "gain": low.gain,
                "reached": low.reached,
                "steps": low.steps,
                "total": low.total,
            },
            help=cure(facts, change) if change else "raise the rates",
            key="lr",
            severity="info" if low.pretrained else "warning",
            confidence=confidence(facts, "medium"),
        )
