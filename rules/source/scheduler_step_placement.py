"""The scheduler steps at another moment than the optimizer.

Stepped before the first `optimizer.step()` it skips the first rate of its schedule. Stepped for every micro-batch,
while the optimizer steps once per accumulation window, it runs through its schedule as many times too fast. Stepped
although a `GradScaler` skipped the optimizer's step, it gets a little ahead (*info*: a few steps of warm-up at most).

What to do: step the scheduler right after the optimizer, under the same condition.

Read from the source of the training loop (a declared `train` function, else the file of the target). Silent where a
library takes the steps (accelerate, Fabric, DeepSpeed, Lightning, transformers' Trainer), for `step(epoch)` with an
argument, and where the optimizer's step is in another function.

Sources: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate (order since 1.1.0),
https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation
"""

from lrlint import Finding, rule
from lrlint.vocabulary import number

_STEPS = ("optimizer_step", "scaler_step")


@rule("LR703", severity="warning", confidence="medium", needs=("source",))
def scheduler_step_placement(setup):
    for calls in setup.source.functions():
        steps = [(place, call) for place, call in enumerate(calls) if call.kind in _STEPS and call.loops]
        for place, call in enumerate(calls):
            if call.kind != "scheduler_step" or call.arguments or call.managed or not call.loops or not steps:
                continue
            inside = [(k, step) for k, step in steps if step.loops[: len(call.loops)] == call.loops]
            beside = [step for _, step in inside if step.loops == call.loops]
            window = [guard for step in beside for guard in step.guards if "%" in guard and guard not in call.guards]
            if window and all(_windows(step) for step in beside) and not _windows(call):
                text = f"`{call.receiver}` steps for every batch, its optimizer only where `{window[0]}`"
                where = "move `step()` under the condition of the optimizer's"
                severity = ""
            elif inside and place < inside[0][0] and _backward_between(calls, place, inside[0][0]):
                text = f"`{call.receiver}` steps before its optimizer: the first rate of the schedule is never used"
                where, severity = "step the scheduler after the optimizer", ""
            elif beside and beside[0].kind == "scaler_step" and _may_skip(setup, call):
                text = f"`{call.receiver}` steps even where `{beside[0].receiver}` skips the optimizer's step"
                where, severity = "step it only where the scale did not fall (`scaler.get_scale() >= before`)", "info"
            else:
                continue
            step = (beside or [step for _, step in inside])[0]
            accumulation = setup.training.accumulation
            if window and accumulation:
                text += f": {number(accumulation)} times too fast"
            yield Finding(call, text, related=step, data={"guards": list(call.guards)}, help=where, severity=severity)


def _windows(call):
    return any("%" in guard for guard in call.guards)


def _backward_between(calls, first, last):
    """The order in the loop is that of the text, unless the loop starts with the steps of the batch before."""
    return any("backward" in call.kind for call in calls[first:last])


def _may_skip(setup, call):
    scaled = setup.training.precision not in ("bf16", "bf16-mixed", "fp32", "fp64")
    return scaled and not any("scale" in guard or "skip" in guard for guard in call.guards)
