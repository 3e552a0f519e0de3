"""A scheduler is built and never stepped: the rate stays what it was.

It is handed to a trainer that ignores it, its `step()` was lost in a refactoring, or stands in a branch that is never
taken. A schedule that starts with a warm-up leaves the rate at its tiny first value.

What to do: call `scheduler.step()`, after the optimizer's, where the schedule counts; or remove it.

From a rehearsal of the loop: no call in at least four steps of its optimizer, over two iterations of the outermost loop
or to the end of the script. *Info* where the source has a `.step()` that was not reached and may be its. Schedulers
that another one steps are left out.

Sources: https://github.com/thu-ml/tianshou/issues/774,
https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.loop import LoopLocation
from lrlint.text.wording import count


@rule("LR714", severity="error", confidence="high", needs=("loop",))
def scheduler_never_stepped(setup: Setup) -> Iterator[Finding]:
    for seen in setup.loop.schedulers:
        if seen.nested or seen.calls or seen.steps < 4 or not (seen.outer >= 2 or seen.ended):
            continue
        where = f" over {count(seen.outer, 'epoch')}" if seen.outer > 1 else ""
        later = "; a `.step()` that was not reached may be its" if seen.mentioned else ""
        yield Finding(
            LoopLocation(seen.span, (), seen.optimizer),
            f"{seen.class_name} is never stepped in {count(seen.steps, 'optimizer step')}{where}{later}",
            data={"steps": seen.steps},
            help="step it after the optimizer, or remove it",
            severity="info" if seen.mentioned else "",
        )
