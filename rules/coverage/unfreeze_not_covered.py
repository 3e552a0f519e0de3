"""Parameters that will be unfrozen later are in no optimizer: they will have gradients, and never move.

An optimizer that was built from what required a gradient at the time does not learn of what is unfrozen afterwards.
The gradients that nobody clears then grow, and enter a global norm clipping.

What to do: `add_param_group` when unfreezing (Lightning: `unfreeze_and_add_param_group`), or give the optimizer the
frozen parameters from the start; they cost nothing while their gradient is None.

Reported for frozen parameters that no optimizer holds and that match a declared `unfreezes` pattern, or belong to a
module that a finetuning callback unfreezes without adding a group.

Sources: https://github.com/luxonis/luxonis-train/pull/432,
https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.BaseFinetuning.html
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import any_match, describe, star
from lrlint.text.wording import count


@rule("LR117", severity="warning", confidence="medium", needs=("optimizer",))
def unfreeze_not_covered(setup: Setup) -> Iterator[Finding]:
    patterns = setup.training.unfreezes
    found = {}
    for parameter in setup.parameters if patterns else ():
        if parameter.origin != "model" or parameter.requires_grad or parameter.index in setup.membership:
            continue
        if any(any_match(patterns, name) for name in (parameter.name, *parameter.names)):
            found.setdefault(star(parameter.module).partition(".")[0], []).append(parameter)
    for parameters in found.values():
        yield Finding(
            parameters,
            f"{count(len(parameters), 'frozen parameter')} to be unfrozen later in no optimizer: "
            f"{describe(p.name for p in parameters)}",
            data={"parameters": len(parameters), "patterns": list(patterns)},
            help="add a parameter group when unfreezing, or include them from the start",
        )
