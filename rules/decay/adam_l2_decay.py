"""Weight decay goes through Adam's normalisation: it is L2 regularisation, and not decay.

`torch.optim.Adam` (and NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta) adds `weight_decay * w` to the gradient, and
the sum is divided by its own running size. The strength is then no longer proportional to `weight_decay`: where the
gradient is zero, a weight shrinks by about the rate per step, whatever the decay. Measured: a parameter without
gradient goes from 1.0 to 0.56 in 500 steps (lr 1e-3, weight decay 1e-4); with AdamW to 0.99994. Rows of an embedding
that no batch holds are in that position.

What to do: `AdamW` (tune the decay anew, typically 0.01 to 0.1), or `decoupled_weight_decay=True`.

*Warning* from `strong` on, a decay that belongs to AdamW; *info* below it: graph networks (up to 0.01), architecture
search and re-identification use coupled L2 on purpose. What a group or the optimizer itself says decides, not the
class: AdamW is a subclass of Adam, and other libraries call the option `weight_decouple`, `adam_w_mode` or the like.
Optimizers that are not torch's are judged by the source of their `step`; *info* where that does not show how it decays.

Sources: https://arxiv.org/abs/1711.05101, https://github.com/pytorch/pytorch/pull/21250,
https://github.com/pytorch/pytorch/pull/41679; measured with torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import NEGLIGIBLE_DECAY
from lrlint.text.wording import count, listing, number

_FAMILIES = ("adam", "adagrad", "adadelta", "rmsprop")


@rule("LR310", severity="warning", confidence="high", needs=("optimizer",))
def adam_l2_decay(setup: Setup, *, strong: float = 0.02) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        decaying = [g for g in optimizer.groups if g.weight_decay > NEGLIGIBLE_DECAY and not g.decoupled]
        groups = [group for group in decaying if group.family in _FAMILIES and group.trainable]
        if not groups:
            continue
        strengths = sorted({group.weight_decay for group in groups})
        tables = [p for group in groups for p in group.trainable if p.module_kind == "embedding"]
        rows = f"; rows of {count(len(tables), 'embedding')} that no batch holds shrink by about the rate per step"
        yield Finding(
            groups,
            f"weight decay {listing(map(number, strengths))} in {optimizer.class_name} is L2 regularisation that its "
            f"normalisation rescales{rows if tables else ''}",
            data={"weight_decay": strengths, "embeddings": len(tables)},
            help="use AdamW, and tune weight_decay anew (typically 0.01 to 0.1)",
            key="weight_decay",
            severity="" if strengths[-1] >= strong and optimizer.decay_form == "coupled" else "info",
            confidence="" if optimizer.module.startswith("torch.") else "medium",
        )
