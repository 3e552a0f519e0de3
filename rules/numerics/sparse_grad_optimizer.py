"""An embedding with sparse gradients is given to an optimizer that cannot take them: the first step raises.

`nn.Embedding(sparse=True)` yields a gradient that lists only the rows of the batch. Adam, AdamW, RMSprop and Adafactor
raise a RuntimeError on it; SGD and Adagrad take it without weight decay only.

What to do: `SparseAdam` for the table, in an optimizer of its own, or `sparse=False`.

SparseAdam, SGD and Adagrad are left alone where they do not decay the table, and so are tables that no optimizer holds.

Sources: https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html; reproduced with torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import number

_WITHOUT_DECAY = ("SGD", "Adagrad")


@rule("LR610", severity="error", confidence="high", needs=("optimizer",))
def sparse_grad_optimizer(setup: Setup) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        kinds = {optimizer.class_name, *optimizer.bases}
        if "SparseAdam" in kinds:
            continue
        takes = any(name in kinds for name in _WITHOUT_DECAY)
        tables = optimizer.members.where(
            lambda m, takes=takes: m.sparse_gradient and m.requires_grad and (m.weight_decay > 0 or not takes)
        )
        for decay, members in tables.by(lambda member: member.weight_decay).items():
            limit = f" with weight decay {number(decay)}" if takes else ""
            yield Finding(
                members,
                f"{optimizer.class_name}{limit} cannot take the sparse gradient of {describe(m.name for m in members)}",
                data={"weight_decay": decay, "tables": len(members)},
                help="SparseAdam in an optimizer of its own, or sparse=False",
                key="weight_decay" if takes else None,
                confidence="" if optimizer.module.startswith("torch.") else "medium",
            )
