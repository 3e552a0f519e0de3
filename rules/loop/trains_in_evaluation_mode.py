"""The model trains in evaluation mode after its first validation: nobody put it back.

`model.eval()` at the end of an epoch without `model.train()` at the start of the next: dropout is off and batch norms
normalise with running statistics that no longer move, from the second epoch on.

What to do: call `model.train()` at the start of every epoch.

From a rehearsal of the loop: every module of the optimizer's parameters was in training mode at its first step, and none
at its last. Reported for models with dropout or batch norms, to which the mode makes a difference.

Sources: https://docs.pytorch.org/docs/stable/notes/autograd.html#evaluation-mode-nn-module-eval
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.loop import LoopLocation

_DIFFERENT = ("Dropout", "BatchNorm", "SyncBatchNorm", "AlphaDropout", "DropPath", "MultiheadAttention", "LSTM", "GRU")


@rule("LR716", severity="error", confidence="high", needs=("loop",))
def trains_in_evaluation_mode(setup: Setup) -> Iterator[Finding]:
    classes = {module.class_name for module in setup.modules}
    if not any(name.startswith(_DIFFERENT) or "Drop" in name for name in classes):
        return
    for o in setup.loop.optimizers:
        (first_on, last_on), (first_off, last_off) = o.modules_on, o.modules_off
        if o.steps >= 2 and first_on and not first_off and last_off and not last_on:
            yield Finding(
                LoopLocation(o.step_span, (), o.optimizer),
                f"{o.label}: its modules train at the first step, and are all in evaluation mode at the last one seen",
                data={"modules": last_off},
                help="call `model.train()` at the start of every epoch",
            )
