"""An optimizer steps again on gradients it has already stepped on.

The second step repeats the first: the rate is doubled, a momentum counts each gradient twice. Usual causes: a plain
`optimizer.step()` beside `scaler.step(optimizer)`, a step inside a helper and another after it, a step in an inner loop
whose backward pass stands outside.

What to do: leave one of the two steps out.

From a rehearsal of the loop: at least two steps at which every gradient that is there was used before by this optimizer,
with no backward pass and no clearing between. Not judged: optimizers that step inside another's step or in a backward hook.

Sources: https://github.com/IAHispano/Applio/pull/860,
https://docs.pytorch.org/docs/stable/notes/amp_examples.html#typical-mixed-precision-training
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.loop import LoopLocation


@rule("LR711", severity="error", confidence="high", needs=("loop",))
def step_on_same_gradients(setup: Setup) -> Iterator[Finding]:
    for o in setup.loop.optimizers:
        if o.repeated >= 2 and not o.inside:
            yield Finding(
                LoopLocation(o.repeated_span, (), o.optimizer),
                f"{o.label}: {o.repeated} of {o.steps} steps are taken on gradients that it has stepped on before",
                data={"steps": o.steps, "repeated": o.repeated},
                help="step once per backward pass, either through the scaler or directly",
            )
