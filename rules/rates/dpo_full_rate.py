"""Preference optimisation of a whole model at a rate for adapters, or with the reference model among what trains.

DPO and its relatives move a model that is already fine-tuned a little, against a frozen reference. Full models are
trained at 5e-7 to 5e-6; above 1e-5 the likelihood of chosen answers collapses together with that of rejected ones.
Adapters take ten and more times that. A reference that trains is no reference.

What to do: about 5e-7 (1e-6 is TRL's default) for full training, 5e-6 to 5e-5 for LoRA; freeze the reference model.

*Info* where a TRL preference trainer (or a declared `objective`: dpo, ipo, kto, orpo, cpo, simpo) trains more than adapters
at a peak rate above `limit`. *Error* where an optimizer holds trainable parameters of a module named as the reference
(`ref_model`, `reference_model`) at a rate above 0, whatever trains it.

Sources: https://arxiv.org/abs/2305.18290 (DPO: 1e-6, RMSprop), https://arxiv.org/abs/2310.16944 (Zephyr: 5e-7),
https://huggingface.co/docs/trl/dpo_trainer
"""

import re
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import exceeds, peak, rated
from lrlint.text.names import describe
from lrlint.text.wording import count, rate

_OBJECTIVE = re.compile(r"dpo|ipo$|kto|orpo|cpo|simpo", re.IGNORECASE)
_REFERENCE = re.compile(r"^(ref|reference)_?(model|policy|net|actor)$", re.IGNORECASE)


@rule("LR216", severity="error", confidence="high", needs=("optimizer",))
def dpo_full_rate(setup: Setup, *, limit: float = 1e-5) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        held = optimizer.members.where(
            lambda m: m.requires_grad and peak(m.group) and any(map(_REFERENCE.match, m.module.split(".")))
        )
        if held:
            yield Finding(
                held,
                f"{count(len(held), 'parameter')} of the reference model train: {describe(m.name for m in held)}",
                data={"parameters": len(held)},
                help="freeze the reference model, and leave it out of the optimizer",
            )
        kind = f"{setup.training.options.get('trainer', '')} {setup.training.options.get('objective', '')}"
        groups = rated(optimizer) if _OBJECTIVE.search(kind) else []
        full = [g for g in groups if any(p.role not in ("lora_A", "lora_B") and p.numel > 1 for p in g.trainable)]
        adapted = any(p.role == "lora_A" for group in groups for p in group.trainable)
        fast = [group for group in full if not adapted and group.family == "adam" and exceeds(peak(group), limit)]
        if fast:
            yield Finding(
                fast,
                f"{rate(max(map(peak, fast)))} for preference optimisation of the whole model: published runs stay at or "
                f"below {rate(limit)}",
                data={"lr": max(map(peak, fast))},
                help="about 5e-7 for full training; higher rates are for adapters",
                key="lr",
                severity="info",
                confidence="medium",
            )
