"""The declared clipping is active in almost every step, by far.

The norm of the gradient exceeds `clip_norm` ten times or more in at least 95 % of the steps: for SGD the clip value
then is the rate, and the direction of large batches weighs no more than that of small ones.

What to do: raise the limit to the 90th percentile of the norms, or keep it and regard rate × limit as the step length.

Off by default: normalised gradients can be what is wanted. Adam, Lion and other optimizers whose step does not scale
with the gradient are left out.

Sources: https://github.com/facebookresearch/detr/issues/198 (it can be harmless),
https://github.com/wandb/senpai/pull/978, https://github.com/google-research/tuning_playbook
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import ADAPTIVE
from lrlint.analysis.probe_messages import confidence
from lrlint.text.wording import number


@rule("LR907", severity="info", confidence="low", needs=("probe",), default=False)
def clip_always_active(setup: Setup, *, share: float = 0.95, excess: float = 10.0) -> Iterator[Finding]:
    facts = setup.probe
    optimizers = [o for o in setup.optimizers if o.family not in ADAPTIVE]
    if facts.clipped is None or not optimizers:
        return
    active, times = facts.clipped
    if active >= share and times >= excess:
        yield Finding(
            optimizers,
            f"the gradient norm is above clip_norm={number(setup.training.clip_norm)} in {active:.0%} of the steps, "
            f"{times:.0f} times in the median",
            data={"active": active, "excess": times},
            help="raise the limit, or lower the rate",
            confidence=confidence(facts, "low"),
        )
