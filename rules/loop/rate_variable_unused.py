"""A variable that the rate came from is lowered in the loop, and no parameter group ever gets it.

`lr /= 4` changes a number; the optimizer was given a copy of it. The log prints an annealed rate, training goes on with
the first one.

What to do: write it to the groups (`for group in optimizer.param_groups: group["lr"] = lr`), or use a scheduler.

From a rehearsal of the loop: a variable of the user's named `lr` or `learning_rate` (also with a prefix) that had the rate
of every group when the first step was taken, has another value later, while no group's rate moved.

Sources: https://github.com/pytorch/examples/blob/main/word_language_model/main.py (`lr /= 4.0`, with `--use-optimizer`)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.loop import LoopLocation
from lrlint.text.wording import rate


@rule("LR720", severity="warning", confidence="medium", needs=("loop",))
def rate_variable_unused(setup: Setup) -> Iterator[Finding]:
    for seen in setup.loop.of_kind("rate-variable"):
        first, last = seen.values
        yield Finding(
            LoopLocation(seen.span),
            f"`{seen.what}` goes from {rate(first)} to {rate(last)} and is never written to a parameter group: "
            f"the optimizer keeps {rate(first)}",
            data={"variable": seen.what, "first": first, "last": last},
            help='write it to the groups: `group["lr"] = lr`, or use a scheduler',
        )
