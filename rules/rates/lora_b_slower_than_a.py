"""LoRA's B matrices train more slowly than its A matrices, or some of them do.

B starts at zero and A at random values; LoRA+ shows that B should be the faster one (a ratio of about 16). Pages that
describe it the other way round exist.

What to do: swap the rates, or use `loraplus_lr_ratio` above 1.

*Warning* where most B matrices of an optimizer have several times the rate of the A matrices and some share the A
matrices' group: a name pattern missed them (`lora_embedding_B`). *Info* where B is the slower side as a whole, by the
mean of the peak rates. Embedding adapters in a group of their own, A and B alike, are left alone (PEFT's builder does
that), and so are magnitudes (DoRA).

Sources: https://arxiv.org/abs/2402.12354, https://github.com/huggingface/peft/issues/3499
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import peak, trainable
from lrlint.text.names import describe
from lrlint.text.wording import listing, rate


@rule("LR212", severity="warning", confidence="medium", needs=("optimizer",))
def lora_b_slower_than_a(setup: Setup) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        first, second = (trainable(optimizer, role).where(lambda m: peak(m.group)) for role in ("lora_A", "lora_B"))
        if not first or not second:
            continue
        a, b = (sum(peak(member.group) for member in members) / len(members) for members in (first, second))
        usual = max(first.by(lambda m: m.group.index).values(), key=len)[0].group.index
        slow, fast = second.split(lambda m, usual=usual: m.group.index == usual)
        fast = fast.where(lambda m, a=a: peak(m.group) > 2 * a)
        if slow and len(fast) >= len(slow):
            yield Finding(
                slow,
                f"{len(slow)} of {len(second)} lora_B matrices train at the rate of the A matrices "
                f"({listing(sorted({rate(peak(m.group)) for m in slow}))}), the others at "
                f"{listing(sorted({rate(peak(m.group)) for m in fast}))}: {describe(m.name for m in slow)}",
                related={"others": fast},
                data={"slow": len(slow), "fast": len(fast)},
                help="match `lora_embedding_B` too: ask for the role, not for one spelling",
                key="lr",
            )
        elif b < 0.99 * a and not _embeddings_alone(second, a):
            yield Finding(
                second,
                f"lora_B trains at {rate(b)} and lora_A at {rate(a)}: {describe(m.name for m in second)}",
                related={"lora_A": first},
                data={"lora_A": a, "lora_B": b},
                help="B should be the faster one: loraplus_lr_ratio above 1",
                key="lr",
                severity="info",
            )


def _embeddings_alone(second, a):
    """Whether every B matrix that is slower than the A matrices adapts an embedding."""
    slow = [member for member in second if peak(member.group) < 0.99 * a]
    return all("lora_embedding" in member.name or member.module_kind == "embedding" for member in slow)
