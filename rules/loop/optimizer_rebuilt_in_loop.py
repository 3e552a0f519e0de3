"""The optimizer is built anew in every epoch: its state is lost each time.

Adam forgets its moments and its step count, SGD its momentum; each epoch begins with the large, badly scaled steps of a
fresh optimizer, and a scheduler that holds the old one steers nothing.

What to do: build it once, before the loop, and pass it on.

From a rehearsal of the loop: one line builds an optimizer with state at least twice anew, with the same rates over the
same parameters, after the one before has stepped. Left alone: other parameters or other rates (k-fold, progressive
unfreezing, one phase per rate), weights that were written back in between (rate finders, Reptile), and SGD without momentum.

Sources: https://github.com/alan-turing-institute/deepsensor/issues/47,
https://docs.pytorch.org/docs/stable/optim.html#constructing-it
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.loop import LoopLocation


@rule("LR713", severity="error", confidence="high", needs=("loop",))
def optimizer_rebuilt_in_loop(setup: Setup) -> Iterator[Finding]:
    told = set()
    for o in setup.loop.optimizers:
        if o.rebuilt >= 2 and o.span not in told:
            told.add(o.span)
            mine = next((s for s in setup.optimizers if s.span == o.span), None)
            yield Finding(
                LoopLocation(o.span, (), mine.index if mine is not None else None),
                f"{o.label} is built anew {o.rebuilt} times in the iterations seen, over parameters that it has stepped "
                "on: its state is lost each time",
                data={"rebuilt": o.rebuilt},
                help="build it once, before the loop",
            )
