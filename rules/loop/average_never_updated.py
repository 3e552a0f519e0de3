"""An average of the weights is built and never updated: it stays at the initial weights.

What is evaluated or saved from it is the untrained model.

What to do: update it after each `optimizer.step()`.

From a rehearsal that went to the last epoch: an object whose class is named like an average (EMA, `AveragedModel`, shadow
weights) and keeps tensors of its own, none of which changed, and no method of which was called, in at least four steps.

Sources: https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.loop import LoopLocation
from lrlint.text.wording import count


@rule("LR715", severity="warning", confidence="medium", needs=("loop",))
def average_never_updated(setup: Setup) -> Iterator[Finding]:
    for average in setup.loop.averages if setup.loop.whole and setup.loop.steps >= 4 else ():
        if not average.moved:
            yield Finding(
                LoopLocation(average.span),
                f"{average.class_name}: none of its {count(average.tensors, 'tensor')} changed in "
                f"{setup.loop.steps} steps, the last epoch's included",
                data={"tensors": average.tensors, "steps": setup.loop.steps},
                help="update it after each step of the optimizer",
            )
