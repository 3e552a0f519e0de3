"""A checkpoint is saved while a schedule-free optimizer is in train mode: it holds the wrong weights.

Schedule-free optimizers keep two sequences; in train mode the model holds the points where gradients are taken, and not
the average that is to be evaluated and kept. Nothing fails; the numbers are worse.

What to do: `optimizer.eval()` before validation and saving, `optimizer.train()` after it.

From a rehearsal of the loop: `torch.save` after the first step while a group of an optimizer has `train_mode` set.

Sources: https://github.com/facebookresearch/schedule_free#how-to-use, https://github.com/facebookresearch/schedule_free/issues/22,
https://github.com/kohya-ss/sd-scripts/pull/1250
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.loop import LoopLocation
from lrlint.text.wording import count


@rule("LR717", severity="warning", confidence="high", needs=("loop",))
def schedule_free_saved_in_train_mode(setup: Setup) -> Iterator[Finding]:
    for saved in setup.loop.of_kind("free-save"):
        yield Finding(
            LoopLocation(saved.span),
            f"{count(saved.times, 'checkpoint')} saved while a schedule-free optimizer is in train mode: "
            "the weights are not the averaged ones",
            data={"times": saved.times},
            help="call `optimizer.eval()` before validation and saving",
        )
