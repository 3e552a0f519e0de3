"""Nothing that the optimizers hold requires a gradient: the first backward raises, or nothing moves.

A freeze that reached too far, adapters that were frozen together with the model they were added to or were added after
the optimizer was built, or a model that is frozen now and unfrozen by nothing.

What to do: set `requires_grad` of what is to train, and build the optimizer after that.

Left alone: setups that declare what they will unfreeze.

Sources: https://github.com/X-GenGroup/Flow-Factory/pull/56; reproduced with torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.coverage import coverage
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR115", severity="error", confidence="high", needs=("optimizer",))
def nothing_trainable(setup: Setup) -> Iterator[Finding]:
    held = [member for optimizer in setup.optimizers for member in optimizer.members]
    if not held or setup.training.unfreezes or any(member.requires_grad for member in held):
        return
    elements, missing = sum(member.numel for member in held), coverage(setup).missing
    text = f"none of the {count(len(held), 'parameter')} ({elements:,} elements) in the optimizer requires a gradient"
    if missing:
        text += f"; the {count(len(missing), 'parameter')} of the model that would train "
        text += f"({describe(p.name for p in missing)}) {'is' if len(missing) == 1 else 'are'} in no optimizer"
    yield Finding(
        list(setup.optimizers),
        text,
        related={"left out": missing} if missing else {},
        data={"parameters": len(held), "elements": elements, "missing": len(missing)},
        help="build the optimizer after adapters are added and what is to train is unfrozen",
    )
