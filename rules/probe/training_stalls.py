"""Nothing is learnt, not even one batch by heart.

Neither the rates as configured, nor a tenth, ten or a hundred times of them lower the loss, not even on a single batch
that is repeated: a model of any capacity can learn one batch by heart. Where ten thousand times the rates can, they are
far too low; where nothing can, the rates are not the cause.

What to do: raise the rates where that is said; else look at what else was seen (units that are always zero, layers
without gradient, labels that do not fit the outputs, a loss that does not depend on the model), before tuning any rate.

Reported only where the loss is not already near zero, some parameter is trainable, and the repeated batch was not
learnt at any of the rates: setups that merely learn slowly, or start near their optimum, are left alone.

Sources: https://karpathy.github.io/2019/04/25/recipe/ (overfit one batch),
https://github.com/google-research/tuning_playbook
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import confidence, configured, course, severity
from lrlint.text.wording import listing


@rule("LR904", severity="warning", confidence="medium", needs=("probe",))
def training_stalls(setup: Setup) -> Iterator[Finding]:
    facts = setup.probe
    if facts.verdict != "stalled" or facts.non_finite is not None:
        return
    run, low = configured(facts), facts.reason.endswith("too low")
    seen = f"; seen: {listing(facts.seen)}" if facts.seen else ""
    yield Finding(
        list(setup.optimizers) or setup,
        f"{course(run) if run else 'the loss stays'}; {facts.reason}{seen}",
        data={"seen": list(facts.seen), "steps": facts.steps_run},
        help="raise the rates" if low else "the rates are not the cause: look at the model, the loss and the labels",
        severity=severity(facts, "warning"),
        confidence=confidence(facts, "medium"),
    )
