"""Gradients are cleared at the wrong moment, or never.

Cleared between the backward pass and the step, the step finds no gradients: nothing trains, and no error says so. Never
cleared, the gradient of every batch is added to those of all before it: the updates follow old batches, and grow.

What to do: call `optimizer.zero_grad()` once per step, before the backward pass or right after the step.

Read from the source of the training loop (a declared `train` function, else the file of the target), together with the
project's functions that it calls. *Cleared too early* is said only where `zero_grad()` and `step()` of one optimizer stand
on neighbouring lines: in between, gradients may be put back by hand. *Never cleared* is said only of torch's optimizers,
and where nothing that was read mentions clearing in any form (`zero_grad`, `p.grad = None`, `grad.zero_()`, ...), no
optimizer is handed to code that was not read, no library takes the steps, no hooks run, and no base class of the trainer is
out of sight.

Sources: https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html,
https://docs.pytorch.org/tutorials/recipes/recipes/zeroing_out_gradients.html,
https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation
"""

from itertools import pairwise

from lrlint import Finding, rule
from lrlint.facts.source import STEPS


@rule("LR709", severity="error", confidence="medium", needs=("source", "optimizer"))
def zero_grad_placement(setup):
    told = set()
    for calls in setup.source.functions():
        for zero, step in pairwise(calls):
            if zero.span not in told and _undone(calls, zero, step):
                told.add(zero.span)
                yield Finding(
                    zero,
                    f"`{zero.receiver}` clears the gradients right before it steps: the step finds none, nothing trains",
                    related=step,
                    help="clear them before the backward pass, or after the step",
                )
        label = calls[0].function
        if label in setup.source.uncleared and all(o.module.startswith("torch.optim") for o in setup.optimizers):
            step = next(call for call in calls if call.kind in STEPS and call.loops)
            if step.span not in told:
                told.add(step.span)
                yield Finding(
                    step,
                    "nothing clears the gradients: each step adds those of its batch to all before",
                    help="call `optimizer.zero_grad()` once per step",
                )


def _undone(calls, zero, step):
    """A backward pass, `zero_grad()` and, on the next line, the same optimizer's step."""
    if zero.kind != "zero_grad" or step.kind not in STEPS or zero.managed or not zero.loops:
        return False
    if (zero.loops, zero.guards, zero.span.path) != (step.loops, step.guards, step.span.path):
        return False
    others = {call.receiver for call in calls if call.kind == "zero_grad"} - {zero.receiver}
    if others if step.kind == "scaler_step" else step.arguments or step.receiver != zero.receiver:
        return False
    before = [c.kind for c in calls[: calls.index(zero)] if (c.loops, c.guards) == (zero.loops, zero.guards)]
    moves = [kind for kind in before if kind in STEPS or kind == "zero_grad" or "backward" in kind]
    return step.span.line - (zero.span.end_line or zero.span.line) == 1 and bool(moves) and "backward" in moves[-1]
