"""LoRA's B matrices train more slowly than its A matrices: LoRA+ upside down.

B starts at zero and A at random values; LoRA+ shows that B should be the faster one (a ratio of about 16). Pages that
describe it the other way round exist.

What to do: swap the rates, or use `loraplus_lr_ratio` above 1.

Off by default. Compared are the mean peak rates over the A and the B matrices of an optimizer; magnitudes (DoRA) are
left out.

Sources: https://arxiv.org/abs/2402.12354
"""

from lrlint import Finding, rule
from lrlint.analysis.param_groups import peak, trainable
from lrlint.text.names import describe
from lrlint.text.wording import rate


@rule("LR212", severity="warning", confidence="medium", needs=("optimizer",), default=False)
def lora_b_slower_than_a(setup):
    for optimizer in setup.optimizers:
        first, second = (trainable(optimizer, role).where(lambda m: peak(m.group)) for role in ("lora_A", "lora_B"))
        if not first or not second:
            continue
        a, b = (sum(peak(member.group) for member in members) / len(members) for members in (first, second))
        if b < 0.99 * a:
            yield Finding(
                second,
                f"lora_B trains at {rate(b)} and lora_A at {rate(a)}: {describe(m.name for m in second)}",
                related={"lora_A": first},
                data={"lora_A": a, "lora_B": b},
                help="B should be the faster one: loraplus_lr_ratio above 1",
                key="lr",
            )
