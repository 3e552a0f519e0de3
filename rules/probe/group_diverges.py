"""Training diverges because of the rates of some groups alone.

A few real steps were run from the setup's own state at the rates its schedule leads to. The loss did not fall, while
the same steps with only these groups slowed down did learn.

What to do: use the rate that is named for these groups. It lies a quarter decade below the largest one that
held, or three quarters where that one does not last, and it was run again over fresh batches with another seed. Where
training still lags behind the same steps with all rates lower, or hardly moves these groups any more at what lasts, lower
rates for all are named.

Suspects are ordered by −g·u of the first step, the decrease that its update promises (the guilty group comes first in
95 % of labelled cases), and named by experiment: each is slowed down alone; if none suffices, the smallest set that
does is searched for. A group that promises several times as much as all others together, even at the rate that is best for
all, is named alone. The highest rate alone is a poor guide (84 %), and gradient growth a misleading one (23 %): what
blows up is downstream of what is to blame.

Sources: https://arxiv.org/abs/2103.00065, https://arxiv.org/abs/2110.04369 (instability at the peak rate),
https://karpathy.github.io/2019/04/25/recipe/, https://github.com/google-research/tuning_playbook
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import advice, confidence, groups, numbers, severity, story


@rule("LR902", severity="error", confidence="high", needs=("probe",))
def group_diverges(setup: Setup) -> Iterator[Finding]:
    facts = setup.probe
    if facts.course != "diverges" or not 0 < len(facts.guilty) < len(facts.groups):
        return
    slowed = facts.best.groups if facts.best is not None and facts.best.kind == "lr" else ()
    others = [(g.optimizer, g.index) for g in facts.groups if (g.optimizer, g.index) not in (*facts.guilty, *slowed)]
    yield Finding(
        groups(setup, facts.guilty),
        story(facts, facts.guilty),
        related={"can stay": groups(setup, others)} if others else (),
        data=numbers(facts),
        help=advice(facts),
        key="lr",
        severity=severity(facts, "error"),
        confidence=confidence(facts),
    )
