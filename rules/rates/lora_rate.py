"""Only low-rank adapters train, at a rate for full fine-tuning, in a short run.

The update of a low-rank factor passes through the other factor, which starts at zero or is small: adapters need about ten
times the rate of full fine-tuning. At 1e-5 a thousand steps of LoRA change next to nothing.

What to do: 1e-4 to 5e-4 with Adam-like optimizers (2e-4 is usual), or many more steps.

*Info*. Reported when everything that trains is low-rank, the peak rate of Adam-like groups is below `limit`, and fewer than
`steps` steps are declared.

Sources: https://arxiv.org/abs/2106.09685 (LoRA: 2e-4 and more), https://arxiv.org/abs/2305.14314 (QLoRA: 1e-4 to 2e-4),
https://thinkingmachines.ai/blog/lora/ (ten times the rate of full fine-tuning)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import peak, rated
from lrlint.text.wording import rate

_ADAPTERS = frozenset(("lora_A", "lora_B"))


@rule("LR217", severity="info", confidence="medium", needs=("optimizer", "total_steps"))
def lora_rate(setup: Setup, *, limit: float = 5e-5, steps: int = 1000) -> Iterator[Finding]:
    live = [p for p in setup.parameters if p.origin == "model" and p.requires_grad]
    if not live or not all(p.role in _ADAPTERS for p in live) or setup.training.total_steps >= steps:
        return
    if setup.training.options.get("objective") or "DPO" in str(setup.training.options.get("trainer", "")):
        return  # preference optimisation wants small steps
    for optimizer in setup.optimizers:
        groups = [group for group in rated(optimizer) if group.family == "adam"]
        if groups and max(map(peak, groups)) < limit:
            fastest = max(map(peak, groups))
            yield Finding(
                groups,
                f"only adapters train, at {rate(fastest)} for {setup.training.total_steps} steps: a rate of full fine-tuning",
                data={"lr": fastest, "steps": setup.training.total_steps},
                help="2e-4 is usual for LoRA with Adam",
                key="lr",
            )
