"""Gradients are cleared at the wrong moment, or never.

Cleared between the backward pass and the step, the step finds no gradients: nothing trains, and no error says so. Never
cleared, the gradient of every batch is added to those of all before it: the updates follow old batches, and grow.

What to do: call `optimizer.zero_grad()` once per step, before the backward pass or right after the step.

Where the loop was rehearsed, from which backward passes each step uses: gradients used before beside new ones (in at
least two steps, on half of the parameters), or passes that are cleared unused, in most of the intervals between
steps. Not where an input's gradient was wanted, gradients were assigned or changed by hand, or weights moved between
(SAM). Else read from the source of the training loop (a declared `train` function, else the file of the target),
together with the project's functions that it calls. *Cleared too early* is said only where `zero_grad()` and `step()`
of one optimizer stand on neighbouring lines: in between, gradients may be put back by hand. *Never cleared* is said
only of plain functions and scripts (no methods), where gradients are mentioned nowhere but to be clipped or scaled,
neither the model nor the optimizer is handed to code that was not read, no library takes the steps, no hooks run, and
the optimizer is not built anew in the loop. Both are said of torch's own optimizers only.

Sources: https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html,
https://docs.pytorch.org/tutorials/recipes/recipes/zeroing_out_gradients.html,
https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation
"""

from collections.abc import Iterator
from itertools import pairwise

from lrlint import Finding, Setup, rule
from lrlint.analysis.loop_messages import lost_message, stale_message
from lrlint.analysis.order import is_undone, read_functions, seen_loop
from lrlint.facts.loop import LoopLocation
from lrlint.facts.source import trained

ONCE = "call `optimizer.zero_grad()` once per step"
#: A backward pass that is cleared unused in fewer of the intervals between steps than this is a skipped step.
MOST = 0.6


@rule("LR709", severity="error", confidence="medium", needs=("order", "optimizer"))
def zero_grad_placement(setup: Setup) -> Iterator[Finding]:
    yield from _seen(seen_loop(setup))
    yield from _read(setup)


def _seen(loop):
    for o in loop.optimizers:
        if o.stale >= 2 or (o.stale and o.steps == 2):
            text, always = stale_message(o)
            where, data = LoopLocation(o.stale_span, o.parameters, o.optimizer), {"steps": o.steps, "stale": o.stale}
            yield Finding(where, text, data=data, help=ONCE, severity="" if always else "warning", confidence="high")
        elif o.steps >= 2 and o.empty == o.steps and not o.inside:
            text = f"{o.label}: no gradient is there at any of its {o.steps} steps: nothing trains"
            yield Finding(LoopLocation(o.step_span, (), o.optimizer), text, help="clear them before the backward pass")
    for lost in loop.lost:
        if lost.lost >= 2 and lost.share >= MOST and not lost.explained:
            where, data = LoopLocation(lost.cleared, (), lost.optimizer), {"lost": lost.lost, "used": lost.used}
            data |= {"passes": lost.passes}
            help = "clear gradients once per step of the optimizer, not per backward pass"
            backward = LoopLocation(lost.span)
            yield Finding(where, lost_message(lost), related=backward, data=data, help=help, confidence="high")


def _read(setup):
    if not all(o.module.startswith("torch.optim") and o.wraps is None for o in setup.optimizers):
        return  # one's own may keep gradients, or clear them
    told = {call.span for calls in read_functions(setup) for call in calls if seen_loop(setup).reached(call.span)}
    for calls in read_functions(setup):
        for zero, step in pairwise(calls):
            if zero.span not in told and is_undone(calls, zero, step):
                told.add(zero.span)
                text = (
                    f"`{zero.receiver}` clears the gradients right before it steps: the step finds none, nothing trains"
                )
                yield Finding(zero, text, related=step, help="clear them before the backward pass, or after the step")
        step = next(trained(calls), None) if calls[0].function in setup.source.uncleared else None
        if step is not None and step.span not in told:
            told.add(step.span)
            yield Finding(
                step, "nothing clears the gradients: each step adds those of its batch to all before", help=ONCE
            )
