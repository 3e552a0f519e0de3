"""The loss, or the weights, became infinite or NaN within the first steps of training.

Everything after that is noise. Usual causes: a rate that is orders of magnitude too high, half precision without a scaler,
a division by zero or a logarithm of zero in the loss.

What to do: look at the step named here first; then at rates, precision and the loss.

From a rehearsal of the loop, on the script's own batches: a backward pass from a loss that is not finite, without a
gradient scaler (which skips such steps), or an exception after weights had become non-finite.

Sources: https://docs.pytorch.org/docs/stable/notes/amp_examples.html, https://arxiv.org/abs/2309.14322 (instabilities at
high rates)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.loop import LoopLocation
from lrlint.text.wording import count


@rule("LR721", severity="error", confidence="medium", needs=("loop",))
def training_turns_non_finite(setup: Setup) -> Iterator[Finding]:
    loop = setup.loop
    scaled = any(item.kind.startswith("scaler.") for item in loop.happenings)
    raised = loop.raised if loop.raised is not None and loop.raised.non_finite else None
    if raised is None and (loop.non_finite is None or scaled):
        return
    after = raised.steps if loop.non_finite is None else loop.non_finite
    backward = next((item.span for item in loop.happenings if item.kind == "backward"), None)
    then = f"; then the script raised {raised.type}: {raised.message}" if raised is not None else ""
    yield Finding(
        LoopLocation(raised.span if raised is not None else backward),
        f"loss or weights are not finite after {count(after, 'step')}{then}",
        data={"steps": after},
        help="lower the rates, or look for the operation that gives NaN with torch.autograd.set_detect_anomaly(True)",
    )
