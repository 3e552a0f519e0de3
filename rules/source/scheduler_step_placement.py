"""The scheduler steps at another moment than the optimizer.

Stepped before the first `optimizer.step()` it skips the first rate of its schedule. Stepped for every micro-batch,
while the optimizer steps once per accumulation window, it runs through its schedule as many times too fast. Stepped
although a `GradScaler` skipped the optimizer's step, it gets a little ahead (*info*: a few steps of warm-up at most).

What to do: step the scheduler right after the optimizer, under the same condition.

Read from the source of the training loop (a declared `train` function, else the file of the target), together with the
project's functions that it calls. Silent where a library takes the steps (accelerate, Fabric, DeepSpeed, Lightning,
transformers' Trainer), for `step(epoch)` with an argument, for schedulers whose class the file defines itself or whose
name says that they steer something else than the rate, where the scheduler has a condition of its own, and where the
optimizer's step cannot be seen.

Sources: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate (order since 1.1.0),
https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation,
https://github.com/starVLA/starVLA/pull/210, https://github.com/Lightning-AI/pytorch-lightning/issues/18828
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.order import accumulation_window, is_ahead, read_functions, seen_loop
from lrlint.facts.loop import LoopLocation
from lrlint.facts.source import STEPS
from lrlint.text.grades import Severity
from lrlint.text.wording import number


@rule("LR703", severity="warning", confidence="medium", needs=("order",))
def scheduler_step_placement(setup: Setup) -> Iterator[Finding]:
    for seen in seen_loop(setup).schedulers:
        if seen.early and not seen.nested:
            text = f"{seen.class_name} steps before its optimizer: the first rate of the schedule is never used"
            help = "step the scheduler after the optimizer"
            yield Finding(LoopLocation(seen.step_span, (), seen.optimizer), text, help=help, confidence="high")
    yield from _read(setup)


def _read(setup):
    found = {}
    for calls in read_functions(setup):
        steps = [(place, call) for place, call in enumerate(calls) if call.kind in STEPS]
        for place, call in enumerate(calls):
            if call.kind != "scheduler_step" or call.arguments or call.managed or not call.loops or call.span in found:
                continue
            inside = [(k, step) for k, step in steps if step.loops[: len(call.loops)] == call.loops]
            beside = [step for _, step in inside if step.loops == call.loops and not step.excludes(call)]
            severity: Severity = "warning"
            if window := accumulation_window(calls, call, beside):
                text = f"`{call.receiver}` steps for every batch, its optimizer only where `{window}`"
                if setup.training.accumulation:
                    text += f": {number(setup.training.accumulation)} times too fast"
                where = "move `step()` under the condition of the optimizer's"
            elif is_ahead(calls, call, place, steps[0][0] if steps else 0, inside) and not seen_loop(setup).reached(
                call.span
            ):
                text = f"`{call.receiver}` steps before its optimizer: the first rate of the schedule is never used"
                where = "step the scheduler after the optimizer"
            elif beside and beside[-1].kind == "scaler_step" and _may_skip(setup, call, beside):
                text = f"`{call.receiver}` steps even where `{beside[-1].receiver}` skips the optimizer's step"
                where, severity = "step it only where the scale did not fall (`scaler.get_scale() >= before`)", "info"
            else:
                continue
            step = (beside or [step for _, step in inside])[0]
            found[call.span] = Finding(
                call, text, related=step, data={"guards": list(call.guards)}, help=where, severity=severity
            )
    yield from found.values()


def _may_skip(setup, call, beside):
    scaled = setup.training.precision not in ("bf16", "bf16-mixed", "fp32", "fp64")
    return scaled and all(guard in beside[-1].guards for guard in call.guards)
