"""A frozen batch norm goes on updating its running statistics.

`requires_grad_(False)` freezes scale and shift only. In training mode a batch norm normalises with the statistics of
the batch and moves `running_mean` and `running_var` towards them (from 0 to 0.28 and 0.39 in one batch, measured): a
frozen backbone drifts away from what its weights were trained with. Calling `.eval()` once does not help,
`model.train()` of the parent undoes it.

What to do: override `train()` so that frozen batch norms stay in evaluation mode, or replace them by FrozenBatchNorm.

Reported once per model when all of a batch norm's own parameters are frozen (or it has none), at least `frozen` of the
top-level part around it is, and it is in training mode after `model.train()` was really called (flags are put back).
*Info* for copies that are never trained by gradient (teacher, momentum encoder): MoCo runs them in training mode on
purpose; and for a model that arrives in evaluation mode as a whole: the loop of a linear probe keeps it there. The loop
may do so through a method of the model's own (`model.train(); model.freeze()`). Left alone: FrozenBatchNorm classes,
norms whose statistics were switched off, momentum 0, models that are frozen as a whole, and what the training loop (or
a hook such as `on_train_epoch_start`) puts back into evaluation mode. A script is judged by the modes of its first
step.

Sources: https://github.com/lightly-ai/lightly/issues/1438, https://github.com/kdexd/virtex/issues/16,
https://github.com/tianweiy/CenterPoint/issues/168, https://github.com/pytorch/pytorch/issues/66073,
https://github.com/facebookresearch/moco/blob/main/main_lincls.py (`model.eval()` in every epoch of a linear probe)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.frozen_norms import part_of, root_of, updating_norms
from lrlint.analysis.order import seen_loop
from lrlint.facts.loop import LoopLocation
from lrlint.text.module_names import is_copy
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR504", severity="warning", confidence="high")
def frozen_bn_stats_update(setup: Setup, *, frozen: float = 0.9) -> Iterator[Finding]:
    yield from _undone(setup)
    if seen_loop(setup).of_kind("unfrozen-norms"):
        return  # the same, seen
    for norms in updating_norms(setup, frozen):
        parts = list(dict.fromkeys(part_of(setup, norm.path) for norm in norms))
        copied = any(map(is_copy, parts[0].split(".")))
        root = root_of(setup, norms[0].path)
        undone = sum(not norm.training for norm in norms)
        yield Finding(
            norms,
            f"{count(len(norms), 'batch norm')} of the frozen {describe([part or 'model' for part in parts])} still "
            f"{'update' if len(norms) > 1 else 'updates'} running statistics in "
            f"training mode{' (their eval() is undone by train())' if undone else ''}: "
            f"{describe(norm.path for norm in norms)}",
            data={"norms": len(norms), "parts": [part or "model" for part in parts], "undone": undone},
            help="keep them in evaluation mode by overriding train(), or use FrozenBatchNorm",
            severity="info" if copied or not setup.module_by_path[root].training else "",
        )


def _undone(setup):
    """Seen: norms that were put into evaluation mode one by one train again."""
    for seen in seen_loop(setup).of_kind("unfrozen-norms"):
        yield Finding(
            LoopLocation(seen.span),
            f"train() undoes eval() of {count(int(seen.values[0]), 'norm layer')}: they train again at {seen.times} steps",
            help="put them back into evaluation mode after train(), or override train()",
        )
