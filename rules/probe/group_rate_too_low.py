"""The rate of one group is far too low, and training lacks what it would learn.

Two runs are compared: in one the group has the rate that stands for the whole run, in the other a much higher one at which
the loss along its first update does not rise. The second gains at least a third more, less two standard errors of the
batches. Only a group that changes ten times less, relative to its weights, than the fastest, or one that grows from zero,
is looked at.

What to do: raise its rate to about what is named, or freeze it openly with `requires_grad_(False)`.

A backbone is often meant to move little, and the training loss does not show what a higher rate would make it forget:
where the group's weights seem to be trained already, or it is called a backbone and nothing says that it is new, this is a
note.

In the problems that the limits come from 45 of 61 such groups were found, and none of 181 groups of sound setups.

Sources: https://cs231n.github.io/neural-networks-3/#ratio (ratio of updates to weights, about 1e-3),
https://arxiv.org/abs/1801.06146 (lower rates for pretrained layers)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import confidence, cure, groups, made_up_for, rates
from lrlint.text.module_names import side


@rule("LR913", severity="warning", confidence="medium", needs=("probe",))
def group_rate_too_low(setup: Setup) -> Iterator[Finding]:
    facts = setup.probe
    for low in facts.too_low:
        if len(low.groups) == len(facts.groups):
            continue
        change = next((r for r in facts.recommendations if r.kind == "lr" and r.groups == low.groups), None)
        subject = groups(setup, low.groups)
        meant = low.pretrained or (low.pretrained is None and _backbone(subject))
        note = "; trained weights are often meant to move little" if meant else ""
        yield Finding(
            subject or setup,
            f"{rates(facts, low.groups)}: {made_up_for(low)}{note}",
            data={
                "factor": low.factor,
                "gain": low.gain,
                "reached": low.reached,
                "steps": low.steps,
                "total": low.total,
            },
            help=cure(facts, change) if change else "raise its rate, or freeze it openly",
            key="lr",
            severity="info" if meant else "warning",
            confidence=confidence(facts, "medium"),
        )


def _backbone(subject):
    """All its parameters belong to what is called a backbone."""
    names = [p.name for group in subject for p in group.trainable]
    return bool(names) and all(side(name.rpartition(".")[0]) == "backbone" for name in names)
