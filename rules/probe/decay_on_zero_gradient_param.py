"""A parameter gets a gradient of exactly zero, and is decayed or pushed all the same.

A weight that is frozen by masking its gradient (a hook that multiplies by 0) has a gradient, so the optimizer still
decays it and applies momentum that was left over: it drifts towards zero.

What to do: freeze it with `requires_grad_(False)` and no gradient, give it a group without decay, or split the
masked rows into a parameter of their own.

Reported where the whole gradient is exactly zero on at least three distinct batches, the group decays (or steps do
change the parameter), and the parameter is not new and all zero itself, as adapters are at the start.

Sources: https://github.com/huggingface/diffusers/issues/1009, https://github.com/huggingface/diffusers/issues/1176,
https://github.com/extropic-ai/sparse-transformers/pull/3
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import confidence, severity
from lrlint.text.names import describe
from lrlint.text.wording import number


@rule("LR910", severity="warning", confidence="high", needs=("probe",))
def decay_on_zero_gradient_param(setup: Setup) -> Iterator[Finding]:
    facts = setup.probe
    drifting = [setup.by_name[name] for name in facts.zero_gradient if name in setup.by_name]
    if not drifting or facts.verdict in ("stalled", "inconclusive"):
        return
    decays = sorted({group.weight_decay for p in drifting for group in setup.groups_of(p)})
    decay = f" (weight_decay={number(decays[-1])})" if decays and decays[-1] else ""
    yield Finding(
        drifting,
        f"the gradient of {describe([p.name for p in drifting])} is exactly zero on {facts.batches} batches, "
        f"yet steps change {'them' if len(drifting) > 1 else 'it'}{decay}",
        data={"parameters": len(drifting), "weight_decay": decays[-1] if decays else 0.0},
        help="freeze with requires_grad_(False), or move it to a group without decay",
        key="weight_decay",
        severity=severity(facts, "warning"),
        confidence=confidence(facts),
    )
