"""Gradients are accumulated over several batches, but the loss is not divided by their number, or they are cleared.

Gradients of K batches add up to K times the gradient of their mean: with SGD it is K times the rate, with clipping or
an L2 term another balance, with Adam little. Cleared for every batch (`zero_grad()` beside the backward pass instead of
beside the step), only the last batch of each window counts.

What to do: `(loss / K).backward()`, and `zero_grad()` where the optimizer steps.

Off by default: whether a loss is a mean or a sum cannot be told from the loop. Read from its source, where the step
waits for `(k + 1) % K` and the backward pass does not. Silent where the loss is multiplied or divided anywhere, comes
from a function that may do so, or is given `reduction="sum"`, and where a library takes the steps.

Sources: https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation,
https://github.com/meituan-longcat/LongCat-Image/issues/46, https://github.com/paiml/aprender/pull/2123
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.order import read_functions, seen_loop
from lrlint.facts.loop import LoopLocation
from lrlint.facts.source import STEPS


@rule("LR707", severity="warning", confidence="low", needs=("order",), default=False)
def accumulation_loss_scale(setup: Setup) -> Iterator[Finding]:
    for o in seen_loop(setup).optimizers:
        if o.window >= 2 and o.divided is False and not o.stale:
            text = f"{o.label}: each step adds up {o.window} backward passes of a mean loss, and none is divided"
            help = "divide the loss by the number of batches"
            yield Finding(
                LoopLocation(o.step_span, (), o.optimizer), text, help=help, severity="info", confidence="high"
            )
    yield from _read(setup)


def _read(setup):
    found = {}
    for calls in read_functions(setup):
        for loops in {call.loops for call in calls if call.loops}:
            beside = [call for call in calls if call.loops == loops and not call.managed]
            steps = [call for call in beside if call.kind in STEPS]
            windows = [[guard for guard in step.guards if "%" in guard] for step in steps]
            backward = [call for call in beside if "backward" in call.kind and not any("%" in g for g in call.guards)]
            if any(seen_loop(setup).reached(call.span) for call in backward):
                continue
            if not (steps and all(windows) and backward):
                continue
            window = windows[0][0]
            cleared = [call for call in beside if call.kind == "zero_grad" and _every_batch(call)]
            if cleared:
                text = f"gradients are cleared for every batch, the optimizer steps only where `{window}`"
                found[cleared[0].span] = Finding(
                    cleared[0], text, related=steps[0], help="clear them where the optimizer steps"
                )
            elif not any(call.scaled for call in backward):
                text = f"the loss of each batch is added up until `{window}`, and not divided by the number of batches"
                found[backward[0].span] = Finding(
                    backward[0], text, related=steps[0], help="divide the loss by the number of batches"
                )
    yield from found.values()


def _every_batch(call):
    return not call.guards
