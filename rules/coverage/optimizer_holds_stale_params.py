"""The optimizer holds parameters that are no longer in the model: it updates ghosts, and the model stands still.

An optimizer keeps parameter *objects*. Whatever puts new objects into the model afterwards (a replaced head, resized
embeddings, `deepcopy`, `load_state_dict(assign=True)`, `to_empty`, weight normalisation, FSDP's flattening) leaves it
with the old ones. Moving with `.to()`, DDP, `torch.compile`, pruning and spectral normalisation keep the objects.

What to do: build the optimizer after the last such change.

Compared by identity. *Error* where the optimizers hold nothing of the model, and for ghosts in whose place the model
has an uncovered parameter of the same shape (or, for resized tables, of the same row size). Other tensors that no
module holds (`log_alpha`, loss weights, centres) are *info*. Left alone: float32 master copies of parameters in lower
precision, an optimizer's own or the training loop's.

Sources: https://github.com/huggingface/accelerate/issues/3256, https://github.com/huggingface/transformers/pull/3532,
https://github.com/pytorch/pytorch/issues/14467, https://github.com/Trusted-AI/adversarial-robustness-toolbox/pull/1580;
reproduced with torch 2.13
"""

import re
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.coverage import coverage
from lrlint.text.names import describe
from lrlint.text.wording import count

_PARAMETRIZED = re.compile(r"(^|\.)parametrizations\.|_(g|v|orig)$")
_ADVICE = "build the optimizer after the model has its final parameters"


@rule("LR102", severity="error", confidence="high", needs=("optimizer",))
def optimizer_holds_stale_params(setup: Setup) -> Iterator[Finding]:
    cover = coverage(setup)
    ghosts = [m for m in cover.orphaned_members if not setup.optimizers[m.group.optimizer].master_weights]
    if not ghosts:
        return
    if cover.disjoint:
        yield Finding(
            list(setup.optimizers),
            f"the optimizer holds {count(len(ghosts), 'tensor')} and none of the model's "
            f"{count(len(cover.trainable), 'trainable parameter')}: {_why_all(setup)}",
            data={"held": len(ghosts), "trainable": len(cover.trainable)},
            help=_ADVICE,
        )
        return
    taken = {id(member) for member, _ in cover.replacements}
    if cover.replaced:
        yield Finding(
            cover.replaced,
            f"the optimizer holds {count(len(taken), 'tensor')} that the model has replaced: in their place "
            f"{describe(p.name for p in cover.replaced)}{_why(cover)}",
            related={"held instead": [member for member, _ in cover.replacements]},
            data={"ghosts": len(taken), "uncovered": len(cover.replaced)},
            help=_ADVICE,
        )
    free = [member for member in ghosts if id(member) not in taken]
    if free:
        yield Finding(
            free,
            f"{count(len(free), 'tensor')} in the optimizer {'is' if len(free) == 1 else 'are'} held by no module "
            f"({describe(member.name for member in free)}): not saved with the model's state",
            data={"tensors": len(free)},
            help="register what belongs to the model as nn.Parameter",
            severity="info",
        )


def _why_all(setup):
    sharded = any(p.kind == "dtensor" or "_flat_param" in p.name for p in setup.parameters)
    if sharded or setup.training.distributed == "fsdp":
        return "it was built before the model was sharded"
    return "the model was copied, loaded with assign=True, or made anew after the optimizer"


def _why(cover):
    if any(_PARAMETRIZED.search(name) for p in cover.replaced for name in p.names):
        return " (weight normalisation or another parametrization was added later)"
    resized = any(member.parameter.shape != parameter.shape for member, parameter in cover.replacements)
    return " (resized after the optimizer was built)" if resized else ""
