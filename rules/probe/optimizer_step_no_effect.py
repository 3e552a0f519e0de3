"""A step changes nothing in a group that has gradients and a rate, or changes what is frozen.

After backward and `step` every weight of the group is bit for bit what it was: the optimizer holds copies, its update
is below the resolution of the weights, or `step` does nothing. Or a parameter with `requires_grad=False` did change:
decay or momentum still reaches it through a stale gradient.

What to do: build the optimizer after moving, casting or wrapping the model; keep master weights in float32; set
`p.grad = None` when freezing.

A rate of 0 (the first step of a warm-up) and steps that a gradient scaler skips say nothing and are left out.

Sources: https://arxiv.org/abs/2506.14813 (TrainCheck: `step` changes parameters, among other invariants),
https://pytorch.org/docs/stable/optim.html (construct the optimizer after moving the model)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import confidence, groups, severity
from lrlint.text.names import describe
from lrlint.text.wording import rate


@rule("LR909", severity="error", confidence="high", needs=("probe",))
def optimizer_step_no_effect(setup: Setup) -> Iterator[Finding]:
    facts = setup.probe
    for group in facts.groups:
        if group.pushed and not group.moved:
            yield Finding(
                groups(setup, [(group.optimizer, group.index)]),
                f"no step changed any weight of `{group.label}` at {rate(group.lr)}, though they have gradients",
                data={"lr": group.lr},
                help="check that the optimizer holds the model's own parameters, and their precision",
                severity=severity(facts, "error"),
                confidence=confidence(facts),
            )
    frozen = [setup.by_name[name] for name in facts.thawed if name in setup.by_name]
    if frozen:
        yield Finding(
            frozen,
            f"steps change {describe([p.name for p in frozen])}, which {'are' if len(frozen) > 1 else 'is'} frozen",
            data={"parameters": len(frozen)},
            help="set their .grad to None when freezing them, or leave them out of the optimizer",
            severity=severity(facts, "error"),
            confidence=confidence(facts),
        )
