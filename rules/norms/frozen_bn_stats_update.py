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

import re

from lrlint import Finding, rule
from lrlint.analysis.order import seen_loop
from lrlint.facts.loop import LoopPlace
from lrlint.text.module_names import is_copy
from lrlint.text.names import describe
from lrlint.text.wording import count

_FROZEN_CLASS = re.compile("frozen", re.IGNORECASE)
#: Names that loops over modules give to each of them.
_ANY_MODULE = re.compile(r"m|mod|module|child|layer|block|bn|norm|n|l|c")


@rule("LR504", severity="warning", confidence="high")
def frozen_bn_stats_update(setup, *, frozen: float = 0.9):
    sizes = {}  # part → [elements, trainable elements]
    for parameter in setup.parameters:
        if parameter.origin == "model":
            for part in {_part(setup, parameter.module), _root(setup, parameter.module)}:
                total = sizes.setdefault(part, [0, 0])
                total[0] += parameter.numel
                total[1] += parameter.numel if parameter.requires_grad else 0
    yield from _undone(setup)
    back = [call.receiver for call in setup.source.put_back()] if setup.source else []
    found = {}  # (model, whether its part is a copy) → norms
    for norm in setup.norms:
        own = [parameter for parameter in (norm.weight, norm.bias) if parameter is not None]
        if norm.kind != "batch" or not norm.tracks_statistics or not norm.trains_statistics or norm.momentum == 0:
            continue
        if _FROZEN_CLASS.search(norm.class_name) or any(parameter.requires_grad for parameter in own):
            continue
        root, part = _root(setup, norm.path), _part(setup, norm.path)
        total, trained = sizes.get(part, (0, 0))
        if total and total - trained >= frozen * total and sizes[root][1] and not _put_back(back, norm.path):
            found.setdefault((root, any(map(is_copy, part.split(".")))), []).append(norm)
    if setup.loop is not None and setup.loop.of_kind("unfrozen-norms"):
        return  # the same, seen
    for (root, copied), norms in found.items():
        undone = sum(not norm.training for norm in norms)
        parts = list(dict.fromkeys(_part(setup, norm.path) or "model" for norm in norms))
        yield Finding(
            norms,
            f"{count(len(norms), 'batch norm')} of the frozen {describe(parts)} still "
            f"{'update' if len(norms) > 1 else 'updates'} running statistics in "
            f"training mode{' (their eval() is undone by train())' if undone else ''}: "
            f"{describe(norm.path for norm in norms)}",
            data={"norms": len(norms), "parts": parts, "undone": undone},
            help="keep them in evaluation mode by overriding train(), or use FrozenBatchNorm",
            severity="info" if copied or not setup.module_by_path[root].training else "",
        )


def _undone(setup):
    """Seen: norms that were put into evaluation mode one by one train again."""
    for seen in seen_loop(setup).of_kind("unfrozen-norms"):
        yield Finding(
            LoopPlace(seen.span),
            f"train() undoes eval() of {count(int(seen.values[0]), 'norm layer')}: they train again at {seen.times} steps",
            help="put them back into evaluation mode after train(), or override train()",
        )


def _put_back(receivers, path):
    """Whether the training loop puts the layer back into evaluation mode: `model.train()`, then `model.backbone.eval()`."""
    parts = path.split(".")
    return any(_ANY_MODULE.fullmatch(receiver) or receiver.rsplit(".", 1)[-1] in parts for receiver in receivers)


def _root(setup, path):
    """The prefix of the model that the path belongs to."""
    lead = path.split(".", 1)[0]
    return lead if any(model.prefix == f"{lead}." for model in setup.models) else ""


def _part(setup, path):
    """The top-level child of the model that holds the path."""
    root = _root(setup, path)
    rest = path[len(root) :].lstrip(".").split(".")[0]
    return f"{root}.{rest}".strip(".")
