"""An Adam-like optimizer starts at its full rate before its second moment knows the gradients.

In the first steps v rests on a few gradients, and m / √v is about ±1 for every element: steps as long as they will ever
be, in directions that one batch gives. A linear warm-up over 2 / (1 − β2) steps (2000 for 0.999, 40 for 0.95) keeps
this in bounds, whatever the model.

What to do: warm up for about 2 / (1 − β2) steps, or a tenth of the run where that is shorter.

*Info*. Reported for transformers (attention, or at least four layer or RMS norms) that an Adam-like optimizer trains at
`rate_limit` or above (fine-tuning below needs none), where the simulated schedule covers a run of at least ten times
that length and reaches 90 % of its peak before a tenth of it. Left alone: β2 below 0.99, with which v settles within a
few dozen steps (the speed runs of nanoGPT start at full rate), RAdam, which has its own, schedule-free optimizers with
`warmup_steps`, loops that set rates by hand, and runs without a schedule (their first steps may be warmed by hand).

Sources: https://arxiv.org/abs/1910.04209 (Ma & Yarats), https://arxiv.org/abs/2002.04745 (Xiong et al., layer norms)
"""

import re
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import driven
from lrlint.analysis.param_groups import peak, rated
from lrlint.text.wording import count, rate

_SHORT = 200  # from beta2 0.99 on
_OWN = re.compile(r"radam|ranger|schedule_?free", re.IGNORECASE)


@rule("LR418", severity="info", confidence="low", needs=("optimizer", "schedule", "total_steps"))
def warm_up_against_beta2(setup: Setup, *, share: float = 0.1, rate_limit: float = 1e-4) -> Iterator[Finding]:
    norms = sum(norm.kind in ("layer", "rms") for norm in setup.norms)
    attends = any(parameter.module_kind == "attention" for parameter in setup.parameters)
    if setup.manual_schedule or not (attends or norms >= 4):
        return
    for schedule, optimizer in driven(setup):
        if not schedule.has_declared_horizon or schedule.unit != "step":
            continue
        if optimizer.state_size or _OWN.search(optimizer.class_name):
            continue
        groups = [g for g in rated(optimizer) if g.family == "adam" and peak(g) >= rate_limit and _beta2(g)]
        traces = {found.group: found.lr for found in schedule.groups}
        for group in sorted(groups, key=peak)[-1:]:
            needed, trace = 2 / (1 - _beta2(group)), traces.get(group.index)
            if trace is None or needed < _SHORT or setup.training.total_steps < 10 * needed:
                continue
            points = zip(trace.steps, trace.values, strict=True)
            reached = next(step for step, value in points if value >= 0.9 * trace.peak)
            if reached < share * needed:
                how = f"after {count(reached, 'step')}" if reached else "from the first step on"
                yield Finding(
                    [schedule, group],
                    f"{optimizer.class_name} (β2 {_beta2(group):g}) trains at {rate(peak(group))} {how}: its second moment "
                    f"settles over about {needed:.0f} steps",
                    data={"warmup": reached, "needed": needed, "beta2": _beta2(group)},
                    help=f"warm up for about {needed:.0f} steps",
                )


def _beta2(group):
    betas = group.options.get("betas")
    beta = betas[1] if isinstance(betas, list) and len(betas) > 1 else None
    return beta if isinstance(beta, float) and 0 < beta < 1 else None
