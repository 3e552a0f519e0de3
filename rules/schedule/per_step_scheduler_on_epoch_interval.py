"""Lightning steps a per-step scheduler once per epoch, because `interval` is missing, misspelled or misplaced.

`configure_optimizers` that returns `[optimizer], [scheduler]`, or a dict without `"interval": "step"` beside
`"scheduler"`, gets one scheduler step per epoch. `OneCycleLR(total_steps=30)` over three epochs of ten steps stays at a
25th of its maximum. Keys next to `"lr_scheduler"` instead of inside it are ignored, unknown keys only warned about. A
scheduler that is built and not returned is never stepped at all.

What to do: `return {"optimizer": o, "lr_scheduler": {"scheduler": s, "interval": "step"}}`.

Judged for schedulers that count optimizer steps by their documentation (`OneCycleLR`, `CyclicLR`, transformers'
schedules), and for any scheduler at least twice as long as the epochs of the run. Silent where its length fits the
number of epochs. Confidence is medium where that number is not known.

Sources: https://github.com/Lightning-AI/pytorch-lightning/issues/6948 (interval at the wrong level),
https://github.com/Lightning-AI/pytorch-lightning/issues/3869, https://github.com/pytorch/pytorch/issues/65417
"""

import math

from lrlint import Finding, rule

PLACES = ("interval", "frequency", "strict")


@rule("LR414", severity="error", confidence="high", needs=("optimizer",))
def per_step_scheduler_on_epoch_interval(setup):
    epochs = _epochs(setup.training)
    for schedule in setup.schedules:
        if schedule.wiring.dropped:
            text = f"configure_optimizers builds {schedule.class_name} and does not return it: Lightning never steps it"
            yield Finding(schedule, text, help="return it together with the optimizer")
            continue
        config = schedule.config
        if config is None or (config.framework, config.interval) != ("lightning", "epoch") or schedule.plateau:
            continue
        length, total = schedule.ends.steps if schedule.ends else None, setup.training.total_steps
        lost = [key for key in PLACES if key in config.stray] + list(config.unknown)
        fits = epochs is not None and length is not None and length <= 1.1 * epochs
        long = epochs is not None and length is not None and length > 2 * epochs
        in_steps = length is not None and total is not None and abs(length / total - 1) <= 0.1 and epochs != total
        if fits or not (schedule.per_step or long or in_steps):
            continue
        why = f"`{lost[0]}` is not where Lightning reads it" if lost else "no `interval` was given"
        if "interval" in config.written:
            why = "`interval` says so"
        span = f", {length} steps long, in a run of {epochs} epochs" if length and epochs else ""
        yield Finding(
            schedule,
            f"{schedule.class_name} counts optimizer steps, but Lightning steps it once per epoch{span}: {why}",
            data={"length": length, "epochs": epochs, "stray": lost},
            help='return {"optimizer": o, "lr_scheduler": {"scheduler": s, "interval": "step"}}',
            confidence="" if epochs is not None or lost or in_steps else "medium",
        )


def _epochs(training):
    epochs = training.options.get("max_epochs")
    if isinstance(epochs, int) and epochs > 0:
        return epochs
    if training.total_steps and training.steps_per_epoch:
        return math.ceil(training.total_steps / training.steps_per_epoch)
    return None
