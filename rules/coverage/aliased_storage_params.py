"""Two parameters share their memory: each step of the optimizer is applied twice.

`nn.Parameter(other.data)` makes a second parameter object over the same numbers. Each has a gradient, a momentum and a
place in the optimizer, and both updates go to the one memory: SGD at rate 1 with gradient 1 moves it by -2.

What to do: to tie, assign the same Parameter object (`head.weight = embed.weight`); to copy, `.clone()`.

Reported for pairs in the optimizers whose byte ranges overlap. Left alone: the views that FSDP makes of its flat
parameters.

Sources: https://docs.pytorch.org/docs/stable/tensor_view.html; measured with torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe, star
from lrlint.text.wording import count


@rule("LR112", severity="error", confidence="high", needs=("optimizer",))
def aliased_storage_params(setup: Setup) -> Iterator[Finding]:
    if setup.training.distributed == "fsdp":
        return
    found = {}
    for pair in setup.aliases:
        if all(p.index in setup.membership and p.requires_grad and "_flat_param" not in p.name for p in pair):
            found.setdefault(tuple(star(p.name) for p in pair), []).append(pair)
    for pairs in found.values():
        first, second = pairs[0]
        yield Finding(
            [parameter for pair in pairs for parameter in pair],
            f"{count(len(pairs), 'pair')} of parameters over the same memory, updated twice: "
            f"{describe([first.name])} and {describe([second.name])}",
            data={"pairs": len(pairs)},
            help="assign the same Parameter object to tie them, or clone() to copy",
        )
