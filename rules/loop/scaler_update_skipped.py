"""A gradient scaler unscales or steps twice without `update()` between.

Without `update()` the scale never adapts, and the record of which optimizer was unscaled or stepped is not cleared: with
scaling on, the second call raises `unscale_() has already been called`.

What to do: call `scaler.update()` once, after the last `scaler.step(...)` of an iteration.

From a rehearsal of the loop, which sees the calls on a CPU too, where the scaler is off.

Sources: https://docs.pytorch.org/docs/stable/notes/amp_examples.html#working-with-multiple-models-losses-and-optimizers
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.loop import LoopLocation


@rule("LR718", severity="error", confidence="high", needs=("loop",))
def scaler_update_skipped(setup: Setup) -> Iterator[Finding]:
    for missed in setup.loop.of_kind("update-skipped"):
        yield Finding(
            LoopLocation(missed.span),
            f"{missed.times} times the scaler unscales or steps an optimizer again with no `update()` since",
            data={"times": missed.times},
            help="call `scaler.update()` after the last step of an iteration",
        )
